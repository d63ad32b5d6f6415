package bpf_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// anyFlags are those of segments that some host might send, with or without reason.
func anyFlags() []packet.Flags {
	return []packet.Flags{
		packet.SYN, packet.SYN | packet.ACK, packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK,
		packet.RST, packet.RST | packet.ACK,
	}
}

// TestNeighbours: members and clients in unusual places, and packets of connections that
// are none of ours.
func TestNeighbours(t *testing.T) {
	onFamilies(t, options{}, func(w *world) {
		w.run("members' own connections", membersOwn)
		w.run("members' own datagrams", func(w *world) {
			w.listenUDP()
			c := w.datagramFlow(client(1), 0, firstPort)
			w.notOurs(c, datagram(20))
			w.ownSockets(datagram(20))
			c.gets("answer", datagram(20))
		})
		w.run("a member asks and gets itself", memberToItself)
		w.run("a member asks and gets another", memberToMember)
		w.run("the namespace's own sockets", func(w *world) {
			rows.Proves(w, 103)
			c := w.open(client(1), 0, firstPort)
			for _, flags := range anyFlags() {
				w.ownSockets(seg(flags, 5, 6).with(7))
			}
			c.works()
		})
		w.run("of no connection", ofNoConnection)
		w.run("answers to those are limited", fewAnswers)
		w.run("the other family", otherFamily)
		w.run("pings in pieces", pingsInPieces)
	})
}

// notOurs are packets between member and client of a connection that go past the VIP.
func (w *world) notOurs(c conn, s segment) {
	w.Helper()
	member := c.member().Addr()
	for what, ends := range map[string][2]netip.AddrPort{
		"outward":                            {netip.AddrPortFrom(member, 45000), w.host(netip.AddrPortFrom(nowhere, 443))},
		"to the client":                      {netip.AddrPortFrom(member, 45000), c.client},
		"from the service port, outward":     {c.member(), w.host(netip.AddrPortFrom(nowhere, 443))},
		"from the service port, to client":   {c.member(), c.client},
		"from the connection's port":         {netip.AddrPortFrom(member, c.port), c.client},
		"from the client past the VIP":       {c.client, c.member()},
		"to another member":                  {c.member(), w.memberAt(1)},
		"to a port of the VIP that is not":   {netip.AddrPortFrom(member, 45000), netip.AddrPortFrom(w.vip().Addr(), 22)},
		"from the service port, to that one": {c.member(), netip.AddrPortFrom(w.vip().Addr(), 22)},
	} {
		w.expect(what, s.arrives(ends[0], ends[1]), passes())
	}
}

// membersOwn: what a member does besides is not taken for an answer, though it comes
// from the very port that answers, and goes to the very client.
func membersOwn(w *world) {
	rows.Proves(w, 95, 96)
	c := w.open(client(1), 0, firstPort)
	for _, flags := range anyFlags() {
		w.notOurs(c, seg(flags, c.mseq, c.cseq).with(3))
	}
	c.works()
	h := w.syn(client(2), 1, firstPort)
	for _, flags := range anyFlags() {
		w.notOurs(h, seg(flags, memberISN, h.cseq))
	}
	h = h.synAck().ack()
	h.works()
}

// ownSockets are answers to the namespace's own sockets, whose ports nobody else uses.
func (w *world) ownSockets(s segment) {
	w.Helper()
	for _, port := range []uint16{lastPort + 1, 65100, 65535} {
		own := netip.AddrPortFrom(w.vip().Addr(), port)
		w.expect(fmt.Sprintf("to port %d", port), s.arrives(w.memberAt(0), own), passes())
	}
}

// memberToItself: there is one device, so members come in where clients do, and are
// clients like any other. The member sees S, as always, so that it does not answer
// itself; even if it asks from the port that it serves.
func memberToItself(w *world) {
	rows.Proves(w, 39, 97)
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
	own := w.memberAt(0)
	for n, from := range []netip.AddrPort{
		netip.AddrPortFrom(own.Addr(), 50000), own, netip.AddrPortFrom(own.Addr(), firstPort+2), netip.AddrPortFrom(own.Addr(), firstPort),
	} {
		c := w.open(from, 0, firstPort+uint16(n))
		c.works()
		c.bothFIN()
	}
}

// memberToMember: both ways at once, with a third client beside them in the subnet.
func memberToMember(w *world) {
	rows.Proves(w, 98)
	a := w.open(w.memberAt(1), 0, firstPort)
	b := w.open(w.memberAt(0), 1, firstPort)
	c := w.open(netip.AddrPortFrom(neighbor, 50000), 2, firstPort)
	d := w.open(w.memberAt(2), 0, firstPort+1)
	for range 2 {
		for _, c := range []*conn{&a, &b, &c, &d} {
			c.works()
		}
	}
	a.sends("RST", seg(packet.RST, a.cseq, 0), closed(0))
	b.works()
}

// ofNoConnection: the client hears so, unless he only answers or resets; a member, who
// talks to a port that nobody holds, does not.
func ofNoConnection(w *world) {
	rows.Proves(w, 55, 56, 57)
	beside := w.open(client(9), 0, firstPort)
	for _, flags := range []packet.Flags{packet.SYN | packet.ACK, packet.RST, packet.RST | packet.ACK} {
		w.expect("client's "+flags.String(), seg(flags, 7, 8).arrives(w.client(1), w.vip()), drops("no_entry"))
	}
	for _, flags := range []packet.Flags{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK} {
		for _, size := range []int{0, 1, 1400} {
			w.refused("client's "+flags.String(), seg(flags, 7, 0x80000000).with(size), "no_entry")
		}
	}
	for _, flags := range anyFlags() {
		for _, port := range []uint16{firstPort + 1, 40000, lastPort} {
			s := seg(flags, 7, 8).with(5)
			w.expect("member's "+flags.String(), s.arrives(w.memberAt(0), netip.AddrPortFrom(w.vip().Addr(), port)), drops("nat_nomap"))
		}
	}
	beside.works()
}

// fewAnswers: a hundred a second, whatever comes; the rest is dropped and counted.
func fewAnswers(w *world) {
	rows.Proves(w, 56)
	w.pinSecond()
	given := 0
	before := w.counted()
	for n := range 3 * answersPerSecond {
		got := w.send(seg(packet.ACK, 7, 8).with(n).arrives(w.client(n), w.vip()))
		if got.action == answered {
			given++
		}
	}
	d := w.counted().since(before)
	if given != answersPerSecond || d["drops.no_entry"] != 3*answersPerSecond || d["verdicts.answered"] != answersPerSecond {
		w.Errorf("%d answers: %s", given, d)
	}
}

// otherFamily: the programs know one family, and leave the other to the stack, discovery
// included.
func otherFamily(w *world) {
	rows.Proves(w, 110)
	from, to := client(1), vip
	if !w.ipv6 {
		from, to = six80(from), six80(to)
	}
	for _, flags := range anyFlags() {
		w.expect(flags.String(), seg(flags, 5, 6).with(20).arrives(from, to), passes())
	}
	w.expect("datagram", datagram(20).arrives(from, to), passes())
	for kind, what := range map[uint8]string{133: "RS", 134: "RA", 135: "NS", 136: "NA"} {
		for _, to := range []netip.Addr{six(vip.Addr()), netip.MustParseAddr("ff02::1")} {
			toMAC := ownMAC
			if to.IsMulticast() {
				toMAC = []byte{0x33, 0x33, 0, 0, 0, 1}
			}
			in := icmp(toMAC, gatewayMAC, six(gateway), to, 255, packet.ICMPv6{Type: kind}, packet.Repeat(16))
			w.expect(what, in, passes())
		}
	}
}

// pingsInPieces: the stack answers pings of any length, so it gets all their fragments.
func pingsInPieces(w *world) {
	rows.Proves(w, 81)
	e := packet.Ethernet{Dst: ownMAC, Src: gatewayMAC}
	from, to := w.client(1).Addr(), w.vip().Addr()
	for _, part := range []struct {
		offset uint16
		more   bool
	}{{0, true}, {1480, true}, {2960, false}, {0, false}} {
		what := fmt.Sprintf("offset %d, more %v", part.offset, part.more)
		if !w.ipv6 {
			ip := packet.IPv4{Src: from, Dst: to, TTL: 64, ID: 7, FragmentOffset: int(part.offset), MF: part.more}
			w.expect(what, packet.Frame(e, ip, packet.EchoRequest(1, 1), packet.Repeat(1472)), passes())
			continue
		}
		for name, ext := range map[string][]packet.Extension{
			"":                nil,
			", after options": {packet.HopByHop(nil), packet.DestinationOptions(nil)},
		} {
			ip := packet.IPv6{Src: from, Dst: to, HopLimit: 64, Extensions: append(ext, packet.Fragment(part.offset, part.more, 7))}
			w.expect(what+name, packet.Frame(e, ip, packet.EchoRequest6(1, 1), packet.Repeat(1400)), passes())
		}
	}
	for _, size := range []int{0, 56, 1400} {
		var ping packet.Layer = packet.EchoRequest(1, 1)
		if w.ipv6 {
			ping = packet.EchoRequest6(1, 1)
		}
		w.expect(fmt.Sprintf("%d bytes", size), icmp(ownMAC, gatewayMAC, from, to, 64, ping, packet.Repeat(size)), passes())
	}
}

// moveVIP gives the pool another address to listen at, and to ask members from.
func (w *world) moveVIP(to netip.AddrPort) {
	w.Helper()
	w.configure(func(g *maps.Generation) {
		g.VIP.Address = w.host(to)
		g.VIP.SNAT = maps.SourcesOf(w.host(to).Addr())
	})
}

// TestPoolsSideBySide: two pools of one node, whose connections look alike.
func TestPoolsSideBySide(t *testing.T) {
	onFamilies(t, options{number: 1}, func(a *world) {
		b := newWorld(a, a.hook, options{number: 2, node: a.node, ipv6: a.ipv6})
		both := func(name string, test func(a, b *world)) {
			a.run(name, func(own *world) {
				other := *b
				other.TB = own.TB
				other.reset()
				other.configure(func(g *maps.Generation) { *g = other.first(3, g.VIP.FlowLimit) })
				test(own, &other)
				other.checkInvariants()
			})
		}
		both("two VIPs and one member", twoVIPs)
		both("two tenants with the same addresses", twoTenants)
	})
}

// twoVIPs: one port of one client, one member, and two connections.
func twoVIPs(a, b *world) {
	rows.Proves(a, 101)
	b.moveVIP(netip.MustParseAddrPort("172.16.100.21:80"))
	for n := range 5 {
		one, two := a.open(client(n), n%3, firstPort+uint16(n/3)), b.open(client(n), n%3, firstPort+uint16(n/3))
		if one.nat() == two.nat() || one.member() != two.member() {
			a.Errorf("%s by %s and %s by %s", one.member(), one.nat(), two.member(), two.nat())
		}
		// Each pool's program sees its own VIP's packets only.
		in, _ := one.down(seg(packet.ACK, one.mseq, one.cseq))
		b.expect("the other one's", in, passes())
		one.works()
		two.works()
		one.sends("RST", seg(packet.RST, one.cseq, 0), closed(one.slot))
		two.works()
	}
}

// twoTenants: the same tuple in both directions, and nothing in common.
func twoTenants(a, b *world) {
	rows.Proves(a, 102)
	half := a.syn(client(2), 0, firstPort)
	in, _ := half.down(seg(packet.SYN|packet.ACK, memberISN, half.cseq))
	b.expect("SYN-ACK of the other tenant's handshake", in, drops("nat_nomap"))
	in, _ = half.up(seg(packet.ACK, half.cseq, memberISN+1))
	b.expect("ACK of the other tenant's handshake", in, answers("no_entry", seg(packet.ACK, half.cseq, memberISN+1).resetBy(b.vip(), half.client)))
	other := b.syn(client(2), 0, firstPort)
	half, other = half.synAck().ack(), other.synAck().ack()
	half.works()
	half.sends("RST", seg(packet.RST, half.cseq, 0), closed(0))
	other.works()
	a.age(half, 2*time.Hour)
	a.expires(0, 1, removed(0))
	other.works()
	again := a.open(client(2), 1, firstPort)
	again.works()
	other.works()
}
