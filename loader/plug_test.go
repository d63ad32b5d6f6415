package loader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/plug"
	"qlbaas/loader/rtnl"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// Drivers that are not there, and hooks that they have no place for.
func TestDriverRefused(t *testing.T) {
	w := newWorld(t)
	w.opts.InterfaceDriver = "ivs"
	_, err := Open(t.Context(), w.opts)
	if !errors.Is(err, plug.ErrUnknown) || !strings.Contains(err.Error(), "linuxbridge, openvswitch, macvlan") {
		t.Errorf("driver ivs: %v", err)
	}
	w.opts.InterfaceDriver, w.opts.Hook = plug.Macvlan, HookXDP
	if _, err := Open(t.Context(), w.opts); err == nil || !strings.Contains(err.Error(), "XDP") {
		t.Errorf("macvlan with XDP: %v", err)
	}
	w.opts.Hook = HookTCX
	for _, driver := range []string{plug.LinuxBridge, plug.Macvlan} {
		w.opts.InterfaceDriver = driver
		n := w.open()
		b := w.balancer()
		b.VIP.VLAN = 5
		if err := n.Apply(t.Context(), b); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), driver) {
			t.Errorf("%s on a VLAN: %v", driver, err)
		}
		w.close(n)
	}
	w.wantNothingLeft()
}

const switchName = "br-ovs"

// quarter is a VLAN of an Open vSwitch with a client, a member and a pool, whose
// addresses are the same in every other one.
type quarter struct {
	Balancer
	client *lab.Host
	member *lab.Echo
	hosts  []*lab.Host
}

func (w *world) quarter(l *lab.Lab, s *labtest.OpenVSwitch, vlan uint16) *quarter {
	w.Helper()
	q := &quarter{Balancer: w.balancer()}
	q.VIP.Bridge, q.VIP.VLAN, q.Members = switchName, vlan, q.Members[:1]
	host := func(name, address string) *lab.Host {
		h, err := l.Host(fmt.Sprintf("%s%d", name, vlan))
		if err != nil {
			w.Fatal(err)
		}
		s.Join(h, fmt.Sprintf("%s%d", name, vlan), switchName, vlan, netip.MustParsePrefix(address))
		q.hosts = append(q.hosts, h)
		return h
	}
	q.client = host("client", "172.16.100.1/24")
	member := host("member", "172.16.100.9/24")
	var err error
	if q.member, err = member.StartEcho(fmt.Sprintf("vlan%d", vlan), q.Members[0].Address); err != nil {
		w.Fatal(err)
	}
	return q
}

// dial connects to the VIP and returns the connection, which its member has answered.
func (q *quarter) dial(ctx context.Context, patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := q.client.Dial(ctx, "tcp", addrPort(&q.Balancer).String())
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	name := make([]byte, len(q.member.Name())+1)
	if _, err = conn.Read(name); err == nil && strings.TrimSpace(string(name)) != q.member.Name() {
		err = fmt.Errorf("%q has answered, not %s", name, q.member.Name())
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// wantNoSteps applies to what an earlier daemon has left; only the timer is handed over.
func (w *world) wantNoSteps(n *Node, at *failAt, b Balancer) {
	w.Helper()
	before := at.seen
	w.apply(n, b)
	if steps := at.steps[before:]; !slices.Equal(steps, []string{"start expiry timer"}) {
		w.Errorf("after a restart: %q", steps)
	}
}

func (w *world) reaches(q *quarter, when string) {
	w.Helper()
	conn, err := q.dial(w.Context(), 5*time.Second)
	if err != nil {
		w.Fatalf("VLAN %d, %s: %v", q.VIP.VLAN, when, err)
	}
	conn.Close()
}

func echoes(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	text := []byte("still there")
	if _, err := conn.Write(text); err != nil {
		return err
	}
	heard := make([]byte, len(text))
	if _, err := conn.Read(heard); err != nil || string(heard) != string(text) {
		return fmt.Errorf("heard %q, %w", heard, err)
	}
	return nil
}

// forget makes hosts forget who has said, while he was on their VLAN, that the VIP is his.
func (q *quarter) forget(w *world) {
	w.Helper()
	for _, h := range q.hosts {
		if _, err := h.Run(w.Context(), "ip", "neigh", "flush", "all"); err != nil {
			w.Fatal(err)
		}
	}
}

// ports lists the ports of the switch that are not the hosts'.
func ports(s *labtest.OpenVSwitch) (ours []string) {
	for port := range strings.FieldsSeq(s.Vsctl("list-ports", switchName)) {
		if strings.HasPrefix(port, outsidePrefix) {
			ours = append(ours, port)
		}
	}
	return ours
}

// Pools on VLANs of a real switch: same addresses, no crossing; mended, adopted, removed.
func TestOpenVSwitch(t *testing.T) {
	w := newWorld(t)
	l := labtest.New(t)
	s := labtest.NewOpenVSwitch(t)
	s.Bridge(switchName)
	at := &failAt{}
	w.opts.InterfaceDriver, w.opts.OVSDB, w.opts.Hook = plug.OpenVSwitch, s.Socket, HookTCX
	w.opts.fault = func(step string) error { return at.fault(step) }
	n := w.open()
	var quarters []*quarter
	for _, vlan := range []uint16{0, 5, 7} {
		q := w.quarter(l, s, vlan)
		w.apply(n, q.Balancer)
		w.reaches(q, "new")
		quarters = append(quarters, q)
	}
	q := quarters[1]
	w.wantOwnSocket(n, &q.Balancer)
	tap := outsideName(q.VIP.PortID)
	if tag := s.Vsctl("get", "port", tap, "tag"); tag != "5" {
		t.Errorf("tag %s", tag)
	}
	ids := s.Vsctl("get", "interface", tap, "external_ids")
	for _, want := range []string{q.VIP.PortID, "iface-status=active", q.VIP.MAC.String(), q.PoolID} {
		if !strings.Contains(ids, want) {
			t.Errorf("external_ids %s: no %s", ids, want)
		}
	}
	w.remove(n, quarters[2].Balancer)
	if _, err := quarters[2].dial(t.Context(), silence); err == nil || !isSilence(err) && !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("VLAN 7 without pool: %v", err)
	}
	conn, err := q.dial(t.Context(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.close(n)
	n = w.open()
	w.wantNoSteps(n, at, q.Balancer)
	w.mendPorts(&n, at, s, q)
	if err := echoes(conn); err != nil {
		t.Errorf("a connection after all that: %v", err)
	}
	s.Restart()
	if err := echoes(conn); err != nil {
		t.Errorf("a connection after the switch was killed: %v", err)
	}
	quarters[0].forget(w)
	w.onHooks(&n, at, quarters[0])
	w.removeLost(n, s, q)
	w.remove(n, quarters[0].Balancer)
	if left := ports(s); len(left) > 0 {
		t.Errorf("left over on the switch: %q", left)
	}
	if ids, err := n.Deployed(); err != nil || len(ids) != 0 {
		t.Errorf("Deployed = %q, %v", ids, err)
	}
}

// onHooks takes a pool from hook to hook.
func (w *world) onHooks(n **Node, at *failAt, q *quarter) {
	w.Helper()
	for _, hook := range []string{HookXDP, HookClsact, HookTCX} {
		w.close(*n)
		w.opts.Hook = hook
		*n = w.open()
		w.apply(*n, q.Balancer)
		w.wantAsApplied(*n, at, &q.Balancer, q.PoolID)
		w.reaches(q, "on hook "+hook)
	}
}

// mendPorts damages a pool's port, with the daemon there and with it away.
func (w *world) mendPorts(n **Node, at *failAt, s *labtest.OpenVSwitch, q *quarter) {
	w.Helper()
	tap := outsideName(q.VIP.PortID)
	s.Bridge("br-other")
	for _, damage := range [][]string{
		{"del-port", tap},
		{"set", "port", tap, "tag=7"},
		{"set", "port", tap, "vlan_mode=trunk"},
		{"clear", "port", tap, "tag"},
		{"clear", "interface", tap, "external_ids"},
		{"set", "interface", tap, "external_ids:iface-id=other"},
		{"del-port", tap, "--", "add-port", "br-other", tap},
	} {
		name := strings.Join(damage, " ")
		w.damage(*n, at, &q.Balancer, name, func(*site) error {
			s.Vsctl(damage...)
			return nil
		})
		w.reaches(q, "after "+name)
	}
	w.damage(*n, at, &q.Balancer, "device deleted", func(s *site) error { return s.routes.LinkDel(s.outside) })
	w.reaches(q, "after its device was deleted")
	w.close(*n)
	s.Vsctl("del-port", tap)
	*n = w.open()
	w.apply(*n, q.Balancer)
	w.reaches(q, "unplugged while the daemon was away")
	s.Vsctl("set", "interface", tap, "external_ids:somebody=else")
	if drifted, err := (*n).Refresh(w.Context()); err != nil || len(drifted) > 0 {
		w.Errorf("somebody else's id: Refresh = %q, %v", drifted, err)
	}
}

// removeLost removes a pool of which the switch's port alone is left.
func (w *world) removeLost(n *Node, s *labtest.OpenVSwitch, q *quarter) {
	w.Helper()
	s.Vsctl("set", "interface", outsideName(q.VIP.PortID), "external_ids:qlbaas-owner=nobody")
	w.remove(n, q.Balancer)
	s.Vsctl("--no-wait", "add-port", switchName, "taplost", "--", "set", "interface", "taplost",
		fmt.Sprintf(`external_ids:qlbaas-owner="%s"`, deviceAlias(q.PoolID)))
	ids, err := n.Deployed()
	if err != nil || !slices.Contains(ids, q.PoolID) {
		w.Errorf("Deployed = %q, %v", ids, err)
	}
	w.remove(n, q.Balancer)
}

// A switch that is away, or without the bridge, is named, and nothing is left.
func TestOpenVSwitchIsMissing(t *testing.T) {
	w := newWorld(t)
	w.opts.InterfaceDriver, w.opts.OVSDB = plug.OpenVSwitch, t.TempDir()+"/none.sock"
	n := w.open()
	b := w.balancer()
	if err := n.Apply(t.Context(), b); err == nil || !strings.Contains(err.Error(), "database of Open vSwitch") {
		t.Errorf("without database: %v", err)
	}
	w.close(n)
	s := labtest.NewOpenVSwitch(t)
	w.opts.OVSDB = s.Socket
	n = w.open()
	if err := n.Apply(t.Context(), b); err == nil || !strings.Contains(err.Error(), bridgeName) {
		t.Errorf("on a bridge that is none of its: %v", err)
	}
	w.wantNothingLeft()
}

// lan puts a LAN device into the world, whose other end is on the bridge.
func (s *street) lan(name string) netlink.Link {
	s.Helper()
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		s.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	pair := netlink.NewVeth(attrs)
	pair.PeerName = name + "-far"
	if err := netlink.LinkAdd(pair); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { netlink.LinkDel(pair) })
	far, err := netlink.LinkByName(pair.PeerName)
	if err == nil {
		err = firstOf(netlink.LinkSetMaster(far, bridge), netlink.LinkSetUp(far), netlink.LinkSetUp(pair))
	}
	if err != nil {
		s.Fatal(err)
	}
	return pair
}

// A VIP on a LAN device itself: others on the LAN reach it, its own host does not.
func TestMacvlan(t *testing.T) {
	for _, hook := range []string{HookTCX, HookClsact} {
		t.Run(hook, func(t *testing.T) { testMacvlan(t, hook) })
	}
}

func testMacvlan(t *testing.T, hook string) {
	s, b := newStreet(t, hook)
	lan, other := s.lan("lan0"), s.lan("lan1")
	at := &failAt{}
	s.opts.InterfaceDriver = plug.Macvlan
	s.opts.fault = func(step string) error { return at.fault(step) }
	b.VIP.Bridge = "lan0"
	n := s.open()
	s.apply(n, b)
	talk, err := s.dial(addrPort(&b), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer talk.Close()
	if status, err := n.Status(b.PoolID); err != nil || status.Device != insideName(b.VIP.PortID) {
		t.Errorf("Status = %+v, %v", status, err)
	}
	s.wantOwnSocket(n, &b)
	s.close(n)
	n = s.open()
	s.wantNoSteps(n, at, b)
	for name, how := range s.macvlanSabotage(lan, other) {
		s.damage(n, at, &b, name, how)
		if _, err := s.ask(addrPort(&b), 5*time.Second); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		inside, is := s.site(&b).inside.(*netlink.Macvlan)
		if !is || inside.Mode != netlink.MACVLAN_MODE_BRIDGE || inside.ParentIndex != lan.Attrs().Index {
			t.Errorf("after %s: %+v", name, inside)
		}
	}
	if err := talk.say("still there", 5*time.Second); err != nil {
		t.Errorf("a connection after all that: %v", err)
	}
	s.wantUnreachable(lan, &b)
	s.changeDriver(n, b)
}

func (s *street) macvlanSabotage(lan, other netlink.Link) map[string]func(*site) error {
	make := func(s *site, on netlink.Link, mode netlink.MacvlanMode) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = s.inside.Attrs().Name, on.Attrs().Index, s.b.VIP.MAC
		attrs.Namespace = netlink.NsFd(s.ns.File.Fd())
		return firstOf(s.ns.Routes.LinkDel(s.inside), s.routes.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: mode}))
	}
	return map[string]func(*site) error{
		"deleted":     func(s *site) error { return s.ns.Routes.LinkDel(s.inside) },
		"down":        func(s *site) error { return s.ns.Routes.LinkSetDown(s.inside) },
		"renamed":     func(s *site) error { return s.ns.Routes.LinkSetName(s.inside, "ns-other") },
		"another LAN": func(s *site) error { return make(s, other, netlink.MACVLAN_MODE_BRIDGE) },
		"alone on it": func(s *site) error { return make(s, lan, netlink.MACVLAN_MODE_PRIVATE) },
		"MAC changed": func(s *site) error {
			return s.ns.Routes.LinkSetHardwareAddr(s.inside, net.HardwareAddr{2, 0, 0, 1, 2, 3})
		},
		"MTU changed": func(s *site) error { return s.ns.Routes.LinkSetMTU(s.inside, 1400) },
	}
}

// wantUnreachable asks for the VIP through the LAN device itself.
func (s *street) wantUnreachable(lan netlink.Link, b *Balancer) {
	s.Helper()
	own := netip.MustParsePrefix("172.16.100.3/32")
	if err := netlink.AddrAdd(lan, &netlink.Addr{IPNet: rtnl.IPNet(own)}); err != nil {
		s.Fatal(err)
	}
	err := netlink.RouteAdd(&netlink.Route{
		LinkIndex: lan.Attrs().Index, Dst: rtnl.IPNet(netip.PrefixFrom(b.VIP.Address.Addr(), 32)),
		Src: own.Addr().AsSlice(), Scope: netlink.SCOPE_LINK,
	})
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.ask(addrPort(b), silence); err == nil || !isSilence(err) && !errors.Is(err, unix.EHOSTUNREACH) {
		s.Errorf("from the host itself: %v", err)
	}
	if err := netlink.AddrDel(lan, &netlink.Addr{IPNet: rtnl.IPNet(own)}); err != nil {
		s.Fatal(err)
	}
}

// changeDriver takes the pool to a bridge and back, and removes it.
func (s *street) changeDriver(n *Node, b Balancer) {
	s.Helper()
	for _, driver := range []string{plug.LinuxBridge, plug.Macvlan} {
		s.close(n)
		s.opts.InterfaceDriver, b.VIP.Bridge = driver, map[string]string{plug.LinuxBridge: bridgeName, plug.Macvlan: "lan0"}[driver]
		n = s.open()
		s.apply(n, b)
		if _, err := s.ask(addrPort(&b), 5*time.Second); err != nil {
			s.Errorf("as %s: %v", driver, err)
		}
	}
	if left, err := rtnl.LinkByName(n.routes, outsideName(b.VIP.PortID)); err != nil || left != nil {
		s.Errorf("the bridge's port is still there: %v, %v", left, err)
	}
	s.remove(n, b)
	if found := namespaces(s); len(found) > 0 {
		s.Errorf("left over: %q", found)
	}
}

func namespaces(s *street) []string {
	ids, err := namespacePools()
	if err != nil {
		s.Fatal(err)
	}
	return ids
}
