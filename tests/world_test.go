package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/maps"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// hooks are the places at which the program can be attached; what concerns packets
// has to be the same on all of them.
func hooks() []string { return []string{"tcx", "clsact", "xdp"} }

// onEveryHook runs a test once for each hook, in a world of its own. One after the other:
// namespaces have one name space per machine, and so there is one agent at a time.
func onEveryHook(t *testing.T, o lab.TutorialOptions, test func(w *world)) {
	for _, hook := range hooks() {
		t.Run(hook, func(t *testing.T) { test(newWorld(t, hook, o)) })
	}
}

// layout is the directory of pins that this version makes.
var layout = fmt.Sprintf("v%d", maps.Layout)

// The ports of the members' servers.
const (
	webPort  = 80
	echoPort = 7
)

// world is the story's network with an agent on its node, servers on its members,
// and network and subnet known to the agent.
type world struct {
	*agent
	*lab.Tutorial
	hook            string
	webs            []*lab.Web
	echos           []*lab.Echo
	network, subnet string
}

// newWorld builds the network and starts the agent, with further flags if there are any.
func newWorld(t *testing.T, hook string, o lab.TutorialOptions, flags ...string) *world {
	t.Helper()
	w := &world{agent: &agent{t: t}, Tutorial: labtest.Tutorial(t, o), hook: hook}
	w.forgetFast()
	w.agent = startAgent(t, w.Node, append(flags, "--hook", hook)...)
	var err error
	if w.webs, err = w.StartWebs(webPort); err != nil {
		t.Fatal(err)
	}
	if w.echos, err = w.StartEchos(echoPort); err != nil {
		t.Fatal(err)
	}
	w.awaitNetwork()
	w.network, w.subnet = w.declare(lab.BridgeName)
	t.Cleanup(w.expectNothing)
	return w
}

// forgetFast lets hosts believe every gratuitous ARP. By default Linux ignores one
// that comes within a second of the last change, to keep two hosts with one address
// from flapping; but here one VIP follows another at the same address at once.
func (w *world) forgetFast() {
	w.t.Helper()
	devices := map[*lab.Host]string{w.Router: "inside"}
	for _, m := range w.Members {
		devices[m.Host] = lab.Uplink
	}
	for host, device := range devices {
		if err := host.Sysctl("net.ipv4.neigh."+device+".locktime", "0"); err != nil {
			w.t.Fatal(err)
		}
	}
}

// awaitNetwork lets every member be reached once without balancer. An IPv6 device is
// ready some time after it has come up, and tests shall not meet that: a lost datagram
// is not sent again.
func (w *world) awaitNetwork() {
	w.t.Helper()
	if version(w.VIP) != 6 {
		return
	}
	for _, e := range w.endpoints(echoPort) {
		until(w.t, patience, func() error {
			conn, err := w.Client.Dial(bounded(w.t, requestTimeout), "tcp", e.String())
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}
}

// declare tells the agent of a network on a bridge and its subnet.
func (w *world) declare(bridge string) (network, subnet string) {
	w.t.Helper()
	network = w.create(networks, object{"name": bridge, "provider:physical_network": bridge}).text("id")
	subnet = w.create(subnets, object{
		"name": bridge, "network_id": network, "ip_version": version(w.VIP), "cidr": w.Subnet.String(),
		"gateway_ip": w.Gateway.String(),
	}).text("id")
	return network, subnet
}

func version(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// test runs a subtest in the same world.
func (w *world) test(name string, test func(w *world)) {
	w.t.Run(name, func(t *testing.T) {
		inner := *w
		inner.agent = &agent{t, w.daemon}
		test(&inner)
	})
}

// expectNothing fails the test when anything of a pool is left on the node.
func (w *world) expectNothing() {
	if w.t.Failed() {
		return // what is left then says nothing new
	}
	for _, dir := range []string{filepath.Join(w.bpffs, "pools"), filepath.Join(w.state, "pools")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("look for what is left: %v", err)
		}
		for _, e := range entries {
			w.t.Errorf("%s is left in %s", e.Name(), dir)
		}
	}
	// The tables that all pools of a family share.
	tables := []struct{ name, key, value string }{
		{"half_open", "half_open_key", "half_open"}, {"half_open_use", "", "half_open_use"},
	}
	if version(w.VIP) == 6 {
		tables[0].name, tables[1].name = "half_open6", "half_open6_use"
	}
	for _, table := range tables {
		rows, err := lab.ReadPin(filepath.Join(w.bpffs, "node", layout, "maps", table.name), table.key, table.value, 3)
		if err != nil || len(rows) > 0 {
			w.t.Errorf("%s still holds %v: %v", table.name, rows, err)
		}
	}
}

// endpoints are the members' addresses with a port.
func (w *world) endpoints(port uint16) []netip.AddrPort {
	var all []netip.AddrPort
	for _, m := range w.Members {
		all = append(all, netip.AddrPortFrom(m.Address, port))
	}
	return all
}

// clients gives the client's host n addresses and returns them, its first one too. It
// keeps them: a connection that is still closing needs its own.
func (w *world) clients(n int) []netip.Addr {
	w.t.Helper()
	all := []netip.Addr{w.ClientAddress}
	for address := w.ClientAddress.Next(); len(all) < n; address = address.Next() {
		prefix := netip.PrefixFrom(address, 24)
		if err := w.Client.AddAddress(lab.Uplink, prefix); err != nil && !errors.Is(err, unix.EEXIST) {
			w.t.Fatal(err)
		}
		all = append(all, address)
	}
	return all
}
