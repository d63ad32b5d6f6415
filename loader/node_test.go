package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/device"
	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/loader/plug"
	"qlbaas/loader/rtnl"
)

// What a pool consists of is what people are told to look for.
func TestDeployed(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	w.apply(n, b)
	s := w.site(&b)
	if got, want := s.inside.Attrs().HardwareAddr.String(), b.VIP.MAC.String(); got != want {
		t.Errorf("MAC %s, not %s", got, want)
	}
	for _, up := range []netlink.Link{s.inside, s.outside} {
		if !device.IsUp(up) || up.Attrs().MTU != 1500 {
			t.Errorf("%+v", up.Attrs())
		}
	}
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil || s.outside.Attrs().MasterIndex != bridge.Attrs().Index {
		t.Errorf("%s is not on the bridge, %v", s.outside.Attrs().Name, err)
	}
	if found, err := addresses(s.ns, ipv4, s.inside); err != nil || len(found) != 1 || rtnl.Prefix(found[0].IPNet) != b.VIP.Address {
		t.Errorf("addresses %v, %v", found, err)
	}
	hops, err := s.ns.Routes.NeighList(s.inside.Attrs().Index, unix.AF_INET)
	if err != nil || len(hops) != 3 {
		t.Errorf("neighbours %v, %v", hops, err)
	}
	for _, hop := range hops {
		if hop.FlagsExt&netlink.NTF_EXT_MANAGED == 0 {
			t.Errorf("%v is not managed", hop)
		}
	}
	for _, name := range []string{"maps/vips_0", "maps/members_0", "maps/flows", "maps/rodata", "links/tcx"} {
		if _, err := os.Lstat(filepath.Join(s.pins, name)); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(w.opts.StateDir, "pools", b.PoolID, "config.json"))
	var told configuration
	if err == nil {
		err = json.Unmarshal(text, &told)
	}
	if err != nil || told.VIP.Listener != "tcp 172.16.100.11:80" || len(told.Members) != 2 {
		t.Errorf("config.json %s, %v", text, err)
	}
	if ids, err := n.Deployed(); err != nil || fmt.Sprint(ids) != fmt.Sprint([]string{b.PoolID}) {
		t.Errorf("Deployed = %q, %v", ids, err)
	}
	if status, err := n.Status(b.PoolID); err != nil || status.Device != s.inside.Attrs().Name ||
		status.Generation != 1 || len(status.Tag) != 16 || status.MembersUp != 2 || status.FlowsLimit != DefaultFlowLimit {
		t.Errorf("Status = %+v, %v", status, err)
	}
	w.remove(n, b)
	w.remove(n, b) // again
	w.wantNothingLeft()
	if ids, err := n.Deployed(); err != nil || len(ids) != 0 {
		t.Errorf("Deployed = %q, %v", ids, err)
	}
}

// The same again changes nothing.
func TestApplyTwice(t *testing.T) {
	w := newWorld(t)
	at := &failAt{}
	w.opts.fault = func(step string) error { return at.fault(step) }
	n := w.open()
	b := w.balancer()
	b.Method = SourceIP
	w.apply(n, b)
	before := identities(t, n, b.PoolID)
	w.wantAsApplied(n, at, &b, b.PoolID)
	wantSame(t, before, identities(t, n, b.PoolID))
	w.remove(n, b)
}

// Another VIP on the same pool is another balancer.
func TestAnotherVIP(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	w.apply(n, b)
	other := w.balancer()
	other.PoolID = b.PoolID
	w.apply(n, other)
	if drifted, err := n.Refresh(t.Context()); err != nil || len(drifted) > 0 {
		t.Errorf("Refresh = %q, %v", drifted, err)
	}
	if _, err := netlink.LinkByName(outsideName(b.VIP.PortID)); err == nil {
		t.Error("the former VIP's device is still there")
	}
	w.remove(n, other)
	w.wantNothingLeft()
}

func TestBridgeIsMissing(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	for bridge, want := range map[string]string{"br-none": "br-none", "lo": "not a bridge"} {
		b.VIP.Bridge = bridge
		if err := n.Apply(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("on %s: %v", bridge, err)
		}
		w.wantNothingLeft()
	}
}

// Names that begin to be something, or are something else, are not in the way.
func TestHalfMade(t *testing.T) {
	w := newWorld(t)
	b := w.balancer()
	path := netspace.Path(namespaceName(b.PoolID))
	if err := os.MkdirAll(netspace.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	begin := func() {
		if err := os.WriteFile(path, nil, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(poolPins(w.opts.BPFFS, b.PoolID), mapPins), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.close(w.open())
	begin()
	n := w.open()
	if ids, err := n.Deployed(); err != nil || len(ids) != 1 {
		t.Errorf("Deployed = %q, %v", ids, err)
	}
	w.apply(n, b)
	w.remove(n, b)
	w.wantNothingLeft()
	begin()
	w.remove(n, b)
	w.wantNothingLeft()
}

// A tap device with our name that leads elsewhere is not taken over.
func TestForeignDevice(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = outsideName(b.VIP.PortID)
	foreign := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(foreign); err != nil {
		t.Fatal(err)
	}
	if err := n.Apply(t.Context(), b); err == nil || !strings.Contains(err.Error(), attrs.Name) {
		t.Errorf("Apply = %v", err)
	}
	if _, err := netlink.LinkByName(attrs.Name); err != nil {
		t.Errorf("the foreign device is gone: %v", err)
	}
	if err := netlink.LinkDel(foreign); err != nil {
		t.Fatal(err)
	}
	w.wantNothingLeft()
}

func TestBudget(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	free := n.Budget()
	w.close(n)
	const room = 12 << 20 // two pools of the default size, not three
	w.opts.MemoryBudget = free.Used + room
	n = w.open()
	var all []Balancer
	for range 3 {
		all = append(all, w.balancer())
	}
	w.apply(n, all[0])
	w.apply(n, all[1])
	for _, err := range []error{n.Apply(t.Context(), all[2]), n.Admit(all[2])} {
		if !errors.Is(err, ErrOverBudget) || !strings.Contains(err.Error(), "flows") || !strings.Contains(err.Error(), "MiB") {
			t.Errorf("a third pool: %v", err)
		}
	}
	if _, err := n.Status(all[2].PoolID); !errors.Is(err, ErrNotDeployed) {
		t.Errorf("Status of the third pool: %v", err)
	}
	used := n.Budget().Used
	w.close(n)

	// A restart counts what is there, and a smaller budget takes nothing away.
	w.opts.MemoryBudget = free.Used + 1
	n = w.open()
	if again := n.Budget(); again.Used != used || again.Limit != w.opts.MemoryBudget {
		t.Errorf("Budget after a restart: %+v, had used %d", again, used)
	}
	w.apply(n, all[0])
	w.remove(n, all[0])
	w.remove(n, all[1])
	if got := n.Budget().Used; got != free.Used {
		t.Errorf("%d bytes are used by nobody", got-free.Used)
	}
	w.wantNothingLeft()
}

// Many pools come and go at the same time, most of them by failing in the middle;
// every thread is at home afterwards.
func TestParallel(t *testing.T) {
	const pools, most, whole = 200, 16, 100
	w := newWorld(t)
	w.opts.compiled = lightObjects
	var loads atomic.Int32
	w.opts.fault = func(step string) error {
		if step == "load programs" && loads.Add(1) > whole {
			return errFault
		}
		return nil
	}
	n := w.open()
	home, err := os.Readlink(netspace.ThreadPath)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, most)
	for range pools {
		b := w.balancer()
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if err := n.Apply(t.Context(), b); errors.Is(err, errFault) {
				return
			} else if err != nil {
				t.Error(err)
				return
			}
			fd, err := n.Socket(b.PoolID, unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				t.Error(err)
			} else {
				unix.Close(fd)
			}
			if err := n.Remove(t.Context(), b.PoolID); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	w.wantNothingLeft()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		at, err := os.Readlink(thread)
		if err == nil && at != home { // a thread may have ended since
			t.Errorf("%s is in %s, not in %s", thread, at, home)
		}
	}
	if len(n.known()) > 0 {
		t.Errorf("%d pools are remembered", len(n.known()))
	}
}

// A pool that comes up, and one that changes its MAC, say so.
func TestAnnouncement(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(swap16(unix.ETH_P_ARP)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	bridge, err := netlink.LinkByName(bridgeName)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap16(unix.ETH_P_ARP), Ifindex: bridge.Attrs().Index})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.apply(n, b)
	for range announcements {
		wantAnnouncement(t, fd, &b)
	}
	b.VIP.MAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 9, 9, 9}
	w.apply(n, b)
	wantAnnouncement(t, fd, &b)
	b.VIP.AdminUp = false
	w.apply(n, b)
	b.VIP.AdminUp = true
	w.apply(n, b)
	wantAnnouncement(t, fd, &b)
	w.remove(n, b)
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }

// wantAnnouncement waits for a frame that says who has the VIP, field by field.
func wantAnnouncement(t *testing.T, fd int, b *Balancer) {
	t.Helper()
	want := "ff:ff:ff:ff:ff:ff " + b.VIP.MAC.String() + " request " + b.VIP.MAC.String() + " 172.16.100.11 asks for 172.16.100.11"
	var heard []string
	for range 50 {
		f := make([]byte, 128)
		size, _, err := unix.Recvfrom(fd, f, 0)
		if errors.Is(err, unix.EINTR) {
			continue // the runtime has sent this thread a signal
		}
		if err != nil {
			t.Fatalf("%v; want %q, heard %q", err, want, heard)
		}
		if size < 42 || f[21] != 1 {
			continue
		}
		said := fmt.Sprintf("%v %v request %v %v asks for %v", net.HardwareAddr(f[:6]), net.HardwareAddr(f[6:12]),
			net.HardwareAddr(f[22:28]), netip.AddrFrom4([4]byte(f[28:32])), netip.AddrFrom4([4]byte(f[38:42])))
		if said == want {
			return
		}
		heard = append(heard, said)
	}
	t.Fatalf("want %q, heard %q", want, heard)
}

// Operations that nobody waits for any more stop, and leave nothing half done.
func TestCancelled(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.opts.fault = func(step string) error {
		if step == "load programs" {
			cancel()
		}
		return nil
	}
	n := w.open()
	b := w.balancer()
	if err := n.Apply(ctx, b); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply = %v", err)
	}
	w.wantNothingLeft()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	delete(w.nodes, n)
	if err := n.Apply(t.Context(), b); !errors.Is(err, errClosed) {
		t.Errorf("Apply after Close = %v", err)
	}
}

func TestInvalid(t *testing.T) {
	n := &Node{}
	w := &world{T: t}
	for field, spoil := range map[string]func(*Balancer){
		"PoolID":                 func(b *Balancer) { b.PoolID = "../../etc" },
		"Protocol":               func(b *Balancer) { b.Protocol = 2 },
		"Method":                 func(b *Balancer) { b.Method = 9 },
		"DrainTimeout":           func(b *Balancer) { b.DrainTimeout = -1 },
		"VIP.ID":                 func(b *Balancer) { b.VIP.ID = strings.ToUpper(b.VIP.ID) + "A" },
		"VIP.PortID":             func(b *Balancer) { b.VIP.PortID = "" },
		"VIP.MAC":                func(b *Balancer) { b.VIP.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} },
		"VIP.Address":            func(b *Balancer) { b.VIP.Address = netip.MustParsePrefix("::ffff:10.0.0.1/120") },
		"VIP.Gateway":            func(b *Balancer) { b.VIP.Gateway = netip.MustParseAddr("10.0.0.1") },
		"VIP.Port":               func(b *Balancer) { b.VIP.Port = 0 },
		"VIP.Bridge":             func(b *Balancer) { b.VIP.Bridge = "" },
		"VIP.Persistence":        func(b *Balancer) { b.VIP.Persistence = 7 },
		"VIP.PersistenceTimeout": func(b *Balancer) { b.VIP.PersistenceTimeout = time.Millisecond },
		"VIP.IdleTimeout":        func(b *Balancer) { b.VIP.IdleTimeout = 1000 * time.Hour },
		"VIP.FlowLimit":          func(b *Balancer) { b.VIP.FlowLimit = 63 },
		"Members":                func(b *Balancer) { b.Members = make([]Member, MaxMembers+1) },
		"Members[0].ID":          func(b *Balancer) { b.Members[0].ID = "x" },
		"Members[0].Address":     func(b *Balancer) { b.Members[0].Address = netip.MustParseAddrPort("127.0.0.1:80") },
		"Members[0].Address:":    func(b *Balancer) { b.Members[0].Address = netip.AddrPortFrom(b.Members[0].Address.Addr(), 0) },
		"Members[1].Address ":    func(b *Balancer) { b.Members[1].Address = netip.MustParseAddrPort("[2001:db8::9]:80") },
		"Members[0].Weight":      func(b *Balancer) { b.Members[0].Weight = 257 },
		"Members[1].ID":          func(b *Balancer) { b.Members[1].ID = b.Members[0].ID },
		"Members[1].Address":     func(b *Balancer) { b.Members[1].Address = b.Members[0].Address },
	} {
		b := w.balancer()
		spoil(&b)
		err := n.Apply(t.Context(), b)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), " "+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := n.Remove(t.Context(), "../../etc"); !errors.Is(err, ErrInvalid) {
		t.Errorf("Remove = %v", err)
	}
}

// A list that the kernel breaks off is asked for again, and never used in part.
func TestInterruptedDump(t *testing.T) {
	for _, interruption := range []error{netlink.ErrDumpInterrupted, unix.EINTR, unix.ENOBUFS} {
		tries := 0
		got, err := rtnl.Dump(func() ([]int, error) {
			if tries++; tries < 3 {
				return []int{1}, interruption
			}
			return []int{1, 2}, nil
		})
		if err != nil || len(got) != 2 {
			t.Errorf("%v: %v, %v", interruption, got, err)
		}
		got, err = rtnl.Dump(func() ([]int, error) { return []int{1}, interruption })
		if !errors.Is(err, interruption) || got != nil {
			t.Errorf("for ever %v: %v, %v", interruption, got, err)
		}
	}
	tries := 0
	if _, err := rtnl.Dump(func() ([]int, error) { tries++; return nil, unix.EPERM }); !errors.Is(err, unix.EPERM) || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

func TestProbes(t *testing.T) {
	if err := probeKernel(needed()); err != nil {
		t.Errorf("this kernel: %v", err)
	}
	old := feature{"levitation", func() error { return fmt.Errorf("no: %w", ebpf.ErrNotSupported) }}
	err := probeKernel(append(needed(), old))
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "levitation") || !strings.Contains(err.Error(), minimumKernel) {
		t.Errorf("an old kernel: %v", err)
	}
	broken := feature{"levitation", func() error { return unix.EPERM }}
	if err := probeKernel([]feature{broken}); !errors.Is(err, unix.EPERM) || errors.Is(err, ErrUnsupported) {
		t.Errorf("a probe that fails: %v", err)
	}
	for wanted, want := range map[string]struct {
		name string
		tcx  bool
		lane lane
	}{
		"": {HookTCX, true, laneTap}, HookAuto: {HookTCX, true, laneTap}, HookTCX: {HookTCX, true, laneTap},
		HookClsact: {HookClsact, false, laneNone}, HookXDP: {HookXDP, true, laneXDP},
	} {
		name, tcx, err := hook.Choose(wanted)
		l := (&Options{}).chooseLane(nodeHook{name: name, tcx: tcx})
		if err != nil || name != want.name || tcx != want.tcx || l != want.lane {
			t.Errorf("hook %q: %s, %v, lane %q, %v", wanted, name, tcx, l, err)
		}
	}
	for _, o := range []Options{{NoOutside: true}, {InterfaceDriver: plug.OpenVSwitch}, {InterfaceDriver: plug.Macvlan}} {
		if l := o.chooseLane(nodeHook{name: HookTCX, tcx: true}); l != laneNone {
			t.Errorf("%+v: lane %q", o, l)
		}
	}
	if _, _, err := hook.Choose("fishing"); err == nil || !strings.Contains(err.Error(), "fishing") {
		t.Errorf("a hook that is none: %v", err)
	}
}
