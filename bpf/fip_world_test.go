package bpf_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// A router with an external leg and two inside legs, in the same namespace as the balancer
// of the other tests, who must not see its routes: they are in a table for its legs only.
const (
	routerTable   = 100
	externalIndex = 70_011
	insideLeg     = 70_021
	secondLeg     = 70_031
)

var (
	externalAddr = netip.MustParseAddr("10.10.10.1")
	internetAddr = netip.MustParseAddr("100.66.7.4") // behind a router of the external network
	onLinkAddr   = netip.MustParseAddr("10.10.10.4")
	insideAddr   = netip.MustParseAddr("172.16.50.1")

	externalMAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 0, 1}
	insideMAC   = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 0, 2}
	secondMAC   = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 0, 3}
	upstreamMAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 1, 1}
	onLinkMAC   = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 1, 2}
	hostMAC     = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 2, 1}
	innerMAC    = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 2, 2} // a router inside
	farMAC      = net.HardwareAddr{0xfa, 0x16, 0x3e, 2, 3, 1}
)

// stand is a floating IP and what it stands for.
type stand struct{ floating, fixed netip.Addr }

func standOf(floating, fixed string) stand {
	return stand{netip.MustParseAddr(floating), netip.MustParseAddr(fixed)}
}

var (
	plainHost  = standOf("10.10.10.7", "172.16.50.11")
	otherHost  = standOf("10.10.10.10", "172.16.60.9") // behind the second leg
	lostHost   = standOf("10.10.10.8", "172.16.50.12") // nobody knows its MAC
	narrowHost = standOf("10.10.10.9", "172.16.51.9")  // behind a link with an MTU of 1400
	goneHost   = standOf("10.10.10.11", "192.0.2.9")   // without a route
	strayHost  = standOf("10.10.10.12", "10.10.10.99") // whose route leads back out
)

func stands() []stand {
	return []stand{plainHost, otherHost, lostHost, narrowHost, goneHost, strayHost}
}

// poor is a host inside without floating IP, innerRouter one that has none either.
var (
	poor        = netip.MustParseAddr("172.16.50.20")
	innerRouter = netip.MustParseAddr("172.16.50.2")
)

var routerNetwork = sync.OnceValue(buildRouterNetwork)

func buildRouterNetwork() error {
	// The kernel's own guesses would be in the way: everything is said.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/default/forwarding", []byte("1"), 0o644); err != nil {
		return err
	}
	for _, d := range []routerDevice{
		{"qg-test", externalIndex, externalMAC, "10.10.10.0/24", map[netip.Addr]net.HardwareAddr{
			onLinkAddr: onLinkMAC, netip.MustParseAddr("10.10.10.254"): upstreamMAC,
			netip.MustParseAddr("10.10.10.99"): onLinkMAC,
		}},
		{"qr-test", insideLeg, insideMAC, "172.16.50.0/24", map[netip.Addr]net.HardwareAddr{
			plainHost.fixed: hostMAC, innerRouter: innerMAC,
		}},
		{"qs-test", secondLeg, secondMAC, "172.16.60.0/24", map[netip.Addr]net.HardwareAddr{otherHost.fixed: farMAC}},
	} {
		if err := d.add(); err != nil {
			return err
		}
	}
	if err := addRoute(externalIndex, "100.66.7.0/24", "10.10.10.254", 0); err != nil {
		return err
	}
	return addRoute(insideLeg, "172.16.51.0/24", innerRouter.String(), narrowMTU)
}

// routerDevice is a leg of the router, and who lives on its link.
type routerDevice struct {
	name  string
	index int
	mac   net.HardwareAddr
	net   string
	hosts map[netip.Addr]net.HardwareAddr
}

func (d routerDevice) add() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Index = d.name, d.mac, d.index
	veth := netlink.NewVeth(attrs)
	veth.PeerName = "p" + d.name
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add %s: %w", d.name, err)
	}
	for _, name := range []string{d.name, veth.PeerName} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return err
		}
	}
	dev, err := netlink.LinkByIndex(d.index)
	if err != nil {
		return err
	}
	rule := netlink.NewRule()
	rule.Family, rule.IifName, rule.Table = netlink.FAMILY_V4, d.name, routerTable
	if err := netlink.RuleAdd(rule); err != nil {
		return fmt.Errorf("add rule for %s: %w", d.name, err)
	}
	if err := addRoute(d.index, d.net, "", 0); err != nil {
		return err
	}
	for host, mac := range d.hosts {
		n := &netlink.Neigh{LinkIndex: d.index, IP: host.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}
		if err := netlink.NeighAdd(n); err != nil {
			return fmt.Errorf("add neighbour %s: %w", host, err)
		}
	}
	if err := runXDP(dev); err != nil {
		return err
	}
	return nil
}

// addRoute adds a route of the router's, by a gateway unless that is empty.
func addRoute(device int, to, gateway string, mtu int) error {
	_, network, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	r := netlink.Route{LinkIndex: device, Dst: network, Table: routerTable, Scope: netlink.SCOPE_LINK}
	if gateway != "" {
		r.Gw, r.Scope, r.Flags = net.ParseIP(gateway), netlink.SCOPE_UNIVERSE, int(netlink.FLAG_ONLINK)
	}
	if mtu > 0 {
		r.MTU, r.MTULock = mtu, true
	}
	if err := netlink.RouteAdd(&r); err != nil {
		return fmt.Errorf("add route %s: %w", to, err)
	}
	return nil
}

// gate is a router's programs on these legs, and the test that uses them now.
type gate struct {
	testing.TB
	hook    hook
	tc, xdp *ebpf.Program
	maps    maps.RouterMaps
}

// onGates runs the test once on each hook, on a router of its own.
func onGates(t *testing.T, test func(g *gate)) {
	for _, h := range []hook{tcHook, xdpHook} {
		t.Run(string(h), func(t *testing.T) { test(newGate(t, h)) })
	}
}

func newGate(t testing.TB, h hook) *gate {
	t.Helper()
	g := &gate{TB: t, hook: h}
	g.must(routerNetwork())
	spec, err := bpf.LoadFip4()
	g.must(err)
	var tc struct {
		maps.RouterMaps
		TC *ebpf.Program `ebpf:"tc_fip"`
	}
	g.must(spec.LoadAndAssign(&tc, nil))
	g.tc, g.maps = tc.TC, tc.RouterMaps
	t.Cleanup(func() { g.tc.Close(); g.maps.Close() })
	if h == xdpHook {
		spec, err := bpf.LoadXdpFip4()
		g.must(err)
		var xdp struct {
			XDP *ebpf.Program `ebpf:"xdp_fip"`
		}
		g.must(spec.LoadAndAssign(&xdp, &ebpf.CollectionOptions{MapReplacements: g.maps.Names()}))
		g.xdp = xdp.XDP
		t.Cleanup(func() { g.xdp.Close() })
	}
	g.must(g.maps.Write(gateTables()))
	return g
}

func gateTables() maps.RouterTables {
	tables := maps.RouterTables{
		Legs: []maps.RouterLeg{
			{Index: externalIndex, External: externalIndex, MTU: 1500, Address: externalAddr, MAC: externalMAC},
			{Index: insideLeg, External: externalIndex, MTU: 1500, Address: insideAddr, MAC: insideMAC},
			{Index: secondLeg, External: externalIndex, MTU: 1500, Address: netip.MustParseAddr("172.16.60.1"), MAC: secondMAC},
		},
		Networks: []maps.RouterNetwork{
			{Prefix: netip.MustParsePrefix("10.10.10.0/24"), Leg: externalIndex},
			{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Leg: insideLeg},
			{Prefix: netip.MustParsePrefix("172.16.50.0/24"), Leg: insideLeg},
			{Prefix: netip.MustParsePrefix("172.16.51.0/24"), Leg: insideLeg},
			{Prefix: netip.MustParsePrefix("172.16.60.0/24"), Leg: secondLeg},
		},
	}
	for i, s := range stands() {
		leg := insideLeg
		if s == otherHost {
			leg = secondLeg
		}
		tables.Floating = append(tables.Floating, maps.FloatingIP{
			ID: floatingID(i), Address: s.floating, Fixed: s.fixed, Leg: leg,
		})
	}
	return tables
}

func floatingID(i int) string { return fmt.Sprintf("33333333-3333-3333-3333-%012x", i) }

func (g *gate) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// counted is everything that the programs count.
func (g *gate) counted() delta {
	g.Helper()
	d := delta{}
	drops, err := g.maps.ReadDrops()
	g.must(err)
	for name, n := range drops {
		d["drops."+name] = int64(n)
	}
	verdicts, err := g.maps.ReadVerdicts()
	g.must(err)
	for name, n := range verdicts {
		d["verdicts."+name] = int64(n)
	}
	floating, err := g.maps.Floating()
	g.must(err)
	for i, s := range stands() {
		c := floating[floatingID(i)]
		name := s.floating.String()
		d[name+".packets_in"], d[name+".bytes_in"] = int64(c.PacketsIn), int64(c.BytesIn)
		d[name+".packets_out"], d[name+".bytes_out"] = int64(c.PacketsOut), int64(c.BytesOut)
	}
	return d
}

// send runs a frame through the hook as if it had come in by the device.
func (g *gate) send(device uint32, frame []byte, super gso) outcome {
	g.Helper()
	if g.hook == xdpHook && super == (gso{}) {
		before := g.counted()
		code, out := g.run(g.xdp, frame, &xdpContext{DataEnd: uint32(len(frame)), IngressIfindex: device})
		switch code {
		case xdpDrop:
			return outcome{dropped, out, xdpHook}
		case xdpTX, xdpRedirect:
			return outcome{forwarded, out, xdpHook}
		case xdpPass:
		default:
			g.Fatalf("xdp_fip returned %d", code)
		}
		if !bytes.Equal(out, frame) {
			g.Errorf("XDP passed a packet on that it had changed:\n%s", packet.Diff(out, frame))
		}
		if d := g.counted().since(before); len(d) > 0 {
			g.Errorf("XDP counted a packet that it passed on: %s", d)
		}
	}
	code, out := g.run(g.tc, frame, &skb{Ifindex: device, GSOSegs: super.segments, GSOSize: super.size})
	switch code {
	case tcUnspec:
		return outcome{passed, out, tcHook}
	case tcShot:
		return outcome{dropped, out, tcHook}
	case tcRedirect:
		return outcome{forwarded, out, tcHook}
	}
	g.Fatalf("tc_fip returned %d", int32(code))
	return outcome{}
}

func (g *gate) run(program *ebpf.Program, frame []byte, context any) (uint32, []byte) {
	g.Helper()
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+growth), Context: context}
	code, err := program.Run(&o)
	if err != nil {
		g.Fatalf("run %s on %s: %v", g.hook, packet.Summary(frame), err)
	}
	return code, o.DataOut
}

// expect sends a frame and checks what became of it, all its bytes, and every counter.
func (g *gate) expect(what string, device uint32, in []byte, o want) {
	g.Helper()
	g.expectSuper(what, device, in, gso{}, o)
}

func (g *gate) expectSuper(what string, device uint32, in []byte, super gso, o want) {
	g.Helper()
	before := g.counted()
	got := g.send(device, in, super)
	var wrong strings.Builder
	if got.action != o.action {
		fmt.Fprintf(&wrong, "%s, want %s\n", got.action, o.action)
	}
	by := g.hook
	if o.byTC || o.action == passed || super != (gso{}) {
		by = tcHook
	}
	if got.by != by && got.action == o.action {
		fmt.Fprintf(&wrong, "%s by %s, want by %s\n", got.action, got.by, by)
	}
	wrong.WriteString(judgeFrame(in, o, got))
	if d := g.counted().since(before); !d.equal(o.delta) {
		fmt.Fprintf(&wrong, "changed %s\n   want %s\n", d, o.delta)
	}
	if wrong.Len() > 0 {
		g.Errorf("%s: %s\n%s", what, packet.Summary(in), wrong.String())
	}
}

// view is how one side of the router sees a packet's ends.
type view struct{ client, host netip.Addr }

// trip is a packet through the router, written once for both sides of it.
type trip struct {
	stand  stand
	client netip.Addr
	out    bool // from the host to the client
	ip     packet.IPv4
	layers func(v view) []packet.Layer
}

// through is a packet between a client and a host; its layers are the same on both sides.
func through(s stand, out bool, layers ...packet.Layer) trip {
	return trip{
		stand: s, client: internetAddr, out: out, ip: packet.IPv4{TTL: 64, ID: 4711, TOS: 0xb9, DF: true},
		layers: func(view) []packet.Layer { return layers },
	}
}

func (p trip) with(change func(ip *packet.IPv4)) trip {
	change(&p.ip)
	return p
}

func (p trip) outside() view { return view{p.client, p.stand.floating} }
func (p trip) inside() view  { return view{p.client, p.stand.fixed} }

func (p trip) device() uint32 {
	switch {
	case !p.out:
		return externalIndex
	case p.stand == otherHost:
		return secondLeg
	}
	return insideLeg
}

// before and after are the frames that come and that leave.
func (p trip) before() []byte {
	if p.out {
		leg, host := p.insideMACs()
		return p.frame(p.inside(), leg, host, p.ip)
	}
	return p.frame(p.outside(), externalMAC, p.clientMAC(), p.ip)
}

func (p trip) after() []byte {
	ip := p.ip
	ip.TTL--
	if p.out {
		return p.frame(p.outside(), p.clientMAC(), externalMAC, ip)
	}
	leg, host := p.insideMACs()
	return p.frame(p.inside(), host, leg, ip)
}

func (p trip) clientMAC() net.HardwareAddr {
	if p.client == onLinkAddr {
		return onLinkMAC
	}
	return upstreamMAC
}

func (p trip) insideMACs() (leg, host net.HardwareAddr) {
	switch p.stand {
	case otherHost:
		return secondMAC, farMAC
	case narrowHost:
		return insideMAC, innerMAC
	}
	return insideMAC, hostMAC
}

func (p trip) frame(v view, to, from net.HardwareAddr, ip packet.IPv4) []byte {
	ip.Src, ip.Dst = v.client, v.host
	if p.out {
		ip.Src, ip.Dst = v.host, v.client
	}
	return packet.Frame(slices.Concat([]packet.Layer{packet.Ethernet{Dst: to, Src: from}, ip}, p.layers(v))...)
}

// onAccount is a packet of so many segments and IP bytes on the floating IP's account.
func (p trip) onAccount(segments, ipBytes int) delta {
	way := "in"
	if p.out {
		way = "out"
	}
	name := p.stand.floating.String()
	return delta{name + ".packets_" + way: int64(segments), name + ".bytes_" + way: int64(ipBytes)}
}

// carries wants the packet to be translated, with right sums if it came with right ones.
func (g *gate) carries(what string, p trip) {
	g.Helper()
	g.carriesAs(what, p, forwards(p.after(), p.onAccount(1, len(p.before())-ethernetLength)))
}

func (g *gate) carriesAs(what string, p trip, o want) {
	g.Helper()
	for _, frame := range [][]byte{p.before(), p.after()} {
		if err := packet.Verify(frame); err != nil {
			g.Fatalf("%s: the test's own frame: %v", what, err)
		}
	}
	g.expect(what, p.device(), p.before(), o)
}

// late is for what XDP leaves to tc.
func (g *gate) carriesLate(what string, p trip) {
	g.Helper()
	o := forwards(p.after(), p.onAccount(1, len(p.before())-ethernetLength))
	o.byTC = true
	g.carriesAs(what, p, o)
}

func (g *gate) leaves(what string, p trip) {
	g.Helper()
	g.expect(what, p.device(), p.before(), passes())
}

func (g *gate) ends(what string, p trip, reason string) {
	g.Helper()
	g.expect(what, p.device(), p.before(), drops(reason))
}
