package tests

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// TestICMP: what ICMP errors are for works through the balancer, and only for those who
// are concerned. `go test -run '^TestICMP$' ./tests` has a verdict of its own for each
// of the cases.
func TestICMP(t *testing.T) {
	for _, hook := range []string{"tcx", "xdp"} {
		for _, family := range []string{"IPv4", "IPv6"} {
			t.Run(hook+" "+family, func(t *testing.T) { icmpCases(newWays(t, hook, family == "IPv6")) })
		}
	}
}

func icmpCases(x *ways) {
	smallHops := func(how string) {
		x.test("small hop before the client, "+how, smallHopOfClient)
		x.test("small hop before the member, "+how, smallHopOfMember)
		x.test("small hop of the balancer, "+how, smallHopOfBalancer)
	}
	smallHops("super-packets")
	x.test("traceroute", traceroute)
	x.test("refused datagram", refusedDatagram)
	x.test("errors about datagrams", errorsAboutDatagrams)
	x.offloads(lab.AllOff())
	smallHops("plain segments")
	x.test("forged errors", forgedErrors)
	x.test("end of a drain", endOfDrain)
}

// smallHopOfClient: the router tells V, V tells the member.
func smallHopOfClient(x *ways) {
	rows.Proves(x.t, 83, 114)
	member := x.endpoints(5001)[0]
	l := x.server(x.Members[0].Host, member)
	b := x.balancer("TCP", member)
	p := x.pair(b, x.far, l)
	x.segments("the member", p.member, 1500)
	x.bulk(p)
	x.learned("the member", x.Members[0].Host, b.at.Addr(), smallMTU)
	x.segments("the member", p.member, smallMTU)
	x.learned("the client", x.far, b.at.Addr(), smallMTU)
	x.nothingDropped(b)
}

// smallHopOfMember: the router tells V, V tells the client.
func smallHopOfMember(x *ways) {
	rows.Proves(x.t, 84, 114)
	member := netip.AddrPortFrom(x.farAddress, 5002)
	l := x.server(x.far, member)
	b := x.balancer("TCP", member)
	p := x.pair(b, x.Client, l)
	x.segments("the client", p.client, 1500)
	x.bulk(p)
	x.learned("the client", x.Client, b.at.Addr(), smallMTU)
	x.segments("the client", p.client, smallMTU)
	x.learned("the member", x.far, b.at.Addr(), smallMTU)
	x.nothingDropped(b)
}

// nothingDropped wants every packet to have travelled on, but for those that were
// too big, if some are named.
func (x *ways) nothingDropped(b *balancer, but ...string) {
	x.t.Helper()
	for _, s := range x.scrape().with("qlbaas_pool_drops_total", "pool", b.id) {
		expected := len(but) > 0 && but[0] == s.labels["reason"]
		if (s.value != 0) != expected {
			x.t.Errorf("%v packets were dropped as %s", s.value, s.labels["reason"])
		}
	}
}

// smallHopOfBalancer: the next link is too small, and V itself tells the client, in the
// words of what the client has sent.
func smallHopOfBalancer(x *ways) {
	rows.Proves(x.t, 23, 25)
	member := x.endpoints(5003)[0]
	l := x.server(x.Members[0].Host, member)
	b := x.balancer("TCP", member)
	x.narrow(b, member.Addr())
	seen := x.sniff(x.Client, false)
	p := x.pair(b, x.Client, l)
	x.segments("the client", p.client, 1500)
	x.bulk(p)
	x.learned("the client", x.Client, b.at.Addr(), smallMTU)
	x.segments("the client", p.client, smallMTU)
	x.nothingDropped(b, "too_big")

	// Neighbours look after each other meanwhile.
	said := "icmp type 3 code 4"
	if b.at.Addr().Is6() {
		said = "icmp6 type 2 "
	}
	frame := x.await(seen, func(frame []byte) bool { return strings.Contains(packet.Summary(frame), said) })
	client := p.client.LocalAddr().(*net.TCPAddr).AddrPort()
	x.fields(frame, "", b.at.Addr(), client.Addr(), 0, 0)
	x.fields(frame, "quoted.", client.Addr(), b.at.Addr(), client.Port(), b.at.Port())
}

// narrow makes the balancer's own link to a host a small one.
func (x *ways) narrow(b *balancer, host netip.Addr) {
	x.t.Helper()
	x.must(lab.Within(b.netns(), func() error {
		device, err := netlink.LinkByName(b.inside())
		if err != nil {
			return err
		}
		bits := host.BitLen()
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: device.Attrs().Index, MTU: smallMTU, MTULock: true,
			Dst: &net.IPNet{IP: host.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		})
	}))
}

// fields wants a packet, or the one that it quotes, to come from one address and port
// and go to another; port 0 is not looked at.
func (x *ways) fields(frame []byte, prefix string, from, to netip.Addr, sport, dport uint16) {
	x.t.Helper()
	ip := map[bool]string{false: "ip4", true: "ip6"}[from.Is6()]
	want := map[string]string{ip + ".src": from.String(), ip + ".dst": to.String()}
	if sport != 0 {
		want["tcp.sport"], want["tcp.dport"] = fmt.Sprint(sport), fmt.Sprint(dport)
	}
	for name, value := range want {
		f, err := packet.Find(frame, prefix+name)
		if err != nil || f.Value != value {
			x.t.Errorf("%s%s is %s, want %s: %v", prefix, name, f.Value, value, err)
		}
	}
}
