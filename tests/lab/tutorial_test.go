package lab_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// offloads are the settings under which forwarding must work.
func offloads() map[string]lab.Offload {
	return map[string]lab.Offload{"as the kernel has it": {}, "all off": lab.AllOff(), "GRO on": {GRO: lab.On}}
}

func TestTrafficThroughTheRouter(t *testing.T) {
	for name, o := range offloads() {
		t.Run(name, func(t *testing.T) {
			net := labtest.Tutorial(t, lab.TutorialOptions{Client: o, Ports: o, Member: o})
			webs, err := net.StartWebs(80)
			if err != nil {
				t.Fatal(err)
			}
			ctx := within(t)
			if out, err := net.Client.Run(ctx, "ping", "-c1", "-W5", "172.16.100.10"); err != nil {
				t.Fatal(out, err)
			}
			client := net.Client.HTTPClient(lab.HTTPOptions{})
			for i, m := range net.Members {
				code, body, err := lab.Get(ctx, client, "http://"+m.Address.String())
				if want := fmt.Sprintf("WEB%d\n", i+1); err != nil || code != 200 || body != want {
					t.Errorf("got %d %q, %v; want 200 %q", code, body, err, want)
				}
				if webs[i].Requests() != 1 || webs[i].Name() != m.Name {
					t.Errorf("%s counted %d requests", webs[i].Name(), webs[i].Requests())
				}
			}
			const size = 20_000_003
			if err := lab.Download(ctx, client, "http://172.16.100.9", size, 1); err != nil {
				t.Error(err)
			}
			if err := lab.Upload(ctx, client, "http://172.16.100.10", size, 2); err != nil {
				t.Error(err)
			}
			checkOffloads(t, net.Members[0].Host, lab.Uplink, o)
			checkOffloads(t, net.Node, "port-web2", o)
		})
	}
}

func checkOffloads(t *testing.T, h *lab.Host, device string, o lab.Offload) {
	t.Helper()
	features, err := h.Features(device)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]lab.Switch{
		"tx-checksum-ip-generic": o.TX, "tx-tcp-segmentation": o.TSO, "rx-gro": o.GRO,
	} {
		if on := features[name]; s != lab.Default && on != (s == lab.On) {
			t.Errorf("%s on %s of %s is %v", name, device, h.Name(), on)
		}
	}
}

// TestManyMembers puts them on few hosts, with the VIP's address left out.
func TestManyMembers(t *testing.T) {
	net := labtest.Tutorial(t, lab.TutorialOptions{
		Members: 1024, MembersPerHost: 512, Subnet: netip.MustParsePrefix("172.16.0.0/16"),
	})
	if _, err := net.StartEchos(7); err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{net.VIP: true, net.Gateway: true}
	for _, m := range net.Members {
		if seen[m.Address] {
			t.Errorf("%s has the address %s of another", m.Name, m.Address)
		}
		seen[m.Address] = true
	}
	ctx := within(t)
	for _, i := range []int{0, 2, 511, 512, 1023} {
		m := net.Members[i]
		conn, err := net.Client.Dial(ctx, "tcp", netip.AddrPortFrom(m.Address, 7).String())
		if err != nil {
			t.Fatal(err)
		}
		name := make([]byte, len(m.Name)+1)
		if _, err := conn.Read(name); err != nil || string(name) != m.Name+"\n" {
			t.Errorf("%s says %q, %v", m.Address, name, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWrongTopologies(t *testing.T) {
	for want, o := range map[string]lab.TutorialOptions{
		"1025 members":              {Members: 1025},
		"no address for member 246": {Members: 300, MembersPerHost: 300},
		"subnet 10.0.0.0/8":         {Subnet: netip.MustParsePrefix("10.0.0.0/8")},
		"subnet 172.16.100.9/24":    {Subnet: netip.MustParsePrefix("172.16.100.9/24")},
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := lab.NewTutorial(labtest.New(t), o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
}

// TestCloseLeavesNothing uses everything that a laboratory has, and looks for what
// is left of it.
func TestCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	_, before := descriptors(t)
	l, err := lab.New(lab.Options{Prefix: "gone-"})
	if err != nil {
		t.Fatal(err)
	}
	net, err := lab.NewTutorial(l, lab.TutorialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.StartWebs(80); err != nil {
		t.Fatal(err)
	}
	if _, err := net.StartEchos(7); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Node.Capture(lab.BridgeName); err != nil {
		t.Fatal(err)
	}
	sleeper, err := net.Node.Start(command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	client := net.Client.HTTPClient(lab.HTTPOptions{KeepAlive: true})
	if _, _, err := lab.Get(ctx, client, "http://172.16.100.9"); err != nil {
		t.Fatal(err)
	}
	if names, err := lab.Namespaces("gone-"); err != nil || len(names) != 5 {
		t.Errorf("namespaces %v, %v; want 5", names, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if sleeper.Wait(ctx) == nil {
		t.Error("the process was not killed")
	}
	if names, err := lab.Namespaces("gone-"); err != nil || len(names) != 0 {
		t.Errorf("namespaces %v, %v; want none", names, err)
	}
	// Connections of earlier tests may still have been open before.
	if namespaces, after := descriptors(t); namespaces != 0 || after > before {
		t.Errorf("%d namespaces and %d descriptors are open, were %d", namespaces, after, before)
	}
}

// descriptors counts those that are open: of namespaces, and all.
func descriptors(t *testing.T) (namespaces, all int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(target, "net:") {
			namespaces++
		}
	}
	return namespaces, len(entries)
}
