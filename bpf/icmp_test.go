package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// router is somebody on the way, who sends errors about what passes him.
var router = netip.MustParseAddr("10.77.0.1")

func TestICMP(t *testing.T) {
	for _, o := range []options{{}, {ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			onHooks(t, o, func(w *world) {
				w.run("errors both ways", errorsBothWays)
				w.run("errors about a handshake", errorsAboutHandshake)
				w.run("errors about datagrams", errorsAboutDatagrams)
				w.run("short quotes", shortQuotes)
				w.run("quotes that are none", brokenQuotes)
				w.run("bad sums", badICMPSums)
				w.run("forged", forgedErrors)
				w.run("number from nowhere", numberFromNowhere)
				w.run("MTU that no path has", tinyMTU)
				w.run("the mapping stays", mappingStays)
				w.run("what is the stack's", stacksOwn)
				w.run("about pings", aboutPings)
				w.run("about what nobody has to hear of", aboutNothingToTell)
				w.run("without hops", func(w *world) {
					c := w.open(client(1), 0, firstPort)
					s := seg(packet.ACK, c.mseq, c.cseq).with(100)
					for _, ttl := range []uint8{0, 1} {
						in, _ := w.errorPair(c, s, false, w.errors()[0].layer, 0, ttl)
						w.expect("error without hops", in, drops("ttl").late())
					}
				})
			})
		})
	}
	onHooks(t, options{}, func(w *world) {
		w.run("options in the quote", optionsInQuote)
		w.run("types", icmpTypes)
	})
	t.Run("types of ICMPv6", func(t *testing.T) {
		onHooks(t, options{ipv6: true}, func(w *world) { w.run("types", icmp6Types) })
	})
}

type namedError struct {
	name  string
	layer packet.Layer
}

// errors that somebody on the way may send about a segment.
func (w *world) errors() []namedError {
	if w.ipv6 {
		return []namedError{
			{"packet too big 1400", packet.PacketTooBig(1400)},
			{"packet too big 1280", packet.PacketTooBig(1280)},
			{"no route", packet.Unreachable6(0)},
			{"prohibited", packet.Unreachable6(1)},
			{"host unreachable", packet.Unreachable6(3)},
			{"port unreachable", packet.Unreachable6(4)},
			{"time exceeded", packet.TimeExceeded6()},
			{"parameter problem", packet.ICMPv6{Type: 4, Code: 1, Rest: 6}},
		}
	}
	return []namedError{
		{"fragmentation needed 1400", packet.FragNeeded(1400)},
		{"fragmentation needed 552", packet.FragNeeded(552)},
		{"fragmentation needed 65535", packet.FragNeeded(65535)},
		{"net unreachable", packet.Unreachable(0)},
		{"host unreachable", packet.Unreachable(1)},
		{"protocol unreachable", packet.Unreachable(2)},
		{"port unreachable", packet.Unreachable(3)},
		{"prohibited", packet.Unreachable(13)},
		{"time exceeded", packet.TimeExceeded()},
		{"reassembly time exceeded", packet.ICMPv4{Type: 11, Code: 1}},
		{"parameter problem", packet.ICMPv4{Type: 12, Rest: 1 << 24}},
	}
}

// icmp is an ICMP packet with something in it.
func icmp(toMAC, fromMAC []byte, from, to netip.Addr, ttl uint8, layers ...packet.Layer) []byte {
	var ip packet.Layer = packet.IPv4{Src: from, Dst: to, TTL: ttl, ID: 0x77, TOS: 0xc0}
	if from.Is6() {
		ip = packet.IPv6{Src: from, Dst: to, HopLimit: ttl, TrafficClass: 0xc0}
	}
	return packet.Frame(append([]packet.Layer{packet.Ethernet{Dst: toMAC, Src: fromMAC}, ip}, layers...)...)
}

// errorPair is an error about a segment that we have sent on, as it comes from a router
// and as it is to leave. fromClient: the segment was the client's, so its quote is what
// the member would have got, and the error goes back to the client.
func (w *world) errorPair(c conn, s segment, fromClient bool, e packet.Layer, keep int, ttl uint8) (in, out []byte) {
	r := w.host(netip.AddrPortFrom(router, 1)).Addr()
	s.ip.TTL = 17 // as the router saw it
	sentFrom, sentTo, cameFrom, cameTo := c.vip(), c.client, c.member(), c.nat()
	if fromClient {
		sentFrom, sentTo, cameFrom, cameTo = c.nat(), c.member(), c.client, c.vip()
	}
	quoted := packet.Quote{Packet: s.layers(sentFrom, sentTo), Keep: keep}
	restored := packet.Quote{Packet: s.layers(cameFrom, cameTo), Keep: keep}
	in = icmp(ownMAC, gatewayMAC, r, sentFrom.Addr(), ttl, e, quoted)
	out = icmp(macOf(cameFrom.Addr()), ownMAC, cameTo.Addr(), cameFrom.Addr(), ttl-1, e, restored)
	return in, out
}

// translates sends an error and expects it to be turned back, with no trace left.
func (w *world) translates(what string, in, out []byte) {
	w.Helper()
	before := w.snapshot()
	got := w.expect(what, in, want{action: forwarded, frame: out, delta: delta{"verdicts.forwarded": 1}, byTC: true})
	w.sums(what, got.frame)
	if touched := w.snapshot().touched(before); touched != "" {
		w.Errorf("%s: an error has changed something:\n%s", what, touched)
	}
}

func errorsBothWays(w *world) {
	rows.Proves(w, 83, 84, 91, 93, 114)
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{1} }) // whose port is another
	c := w.open(client(1), 1, firstPort)
	c.works()
	for _, e := range w.errors() {
		for _, size := range []int{0, 1, 20, 101, 500} {
			what := fmt.Sprintf("%s about %d bytes", e.name, size)
			in, out := w.errorPair(c, seg(packet.ACK, c.cseq-uint32(size), c.mseq).with(size), true, e.layer, 0, 60)
			w.translates(what+" of the client", in, out)
			in, out = w.errorPair(c, seg(packet.ACK, c.mseq-uint32(size), c.cseq).with(size), false, e.layer, 0, 60)
			w.translates(what+" of the member", in, out)
		}
	}
	c.works()
}

func errorsAboutHandshake(w *world) {
	rows.Proves(w, 83, 84)
	c := w.syn(client(1), 0, firstPort)
	for _, e := range w.errors() {
		in, out := w.errorPair(c, seg(packet.SYN, clientISN, 0), true, e.layer, 0, 60)
		w.translates(e.name+" about the SYN", in, out)
	}
	c = c.synAck()
	for _, e := range w.errors() {
		in, out := w.errorPair(c, seg(packet.SYN|packet.ACK, memberISN, c.cseq), false, e.layer, 0, 60)
		w.translates(e.name+" about the SYN-ACK", in, out)
	}
	c = c.ack()
	c.works()
}

func errorsAboutDatagrams(w *world) {
	rows.Proves(w, 92, 93)
	w.listenUDP()
	c := w.datagramFlow(client(1), 0, firstPort)
	for _, e := range w.errors() {
		for _, size := range []int{0, 1, 100} {
			in, out := w.errorPair(c, datagram(size), true, e.layer, 0, 60)
			w.translates(e.name+" about the client's datagram", in, out)
			in, out = w.errorPair(c, datagram(size), false, e.layer, 0, 60)
			w.translates(e.name+" about the member's datagram", in, out)
			in, out = w.errorPair(c, datagram(size), true, e.layer, 8, 60)
			w.translates(e.name+" about 8 bytes of the client's datagram", in, out)
			in, out = w.errorPair(c, datagram(size), false, e.layer, 8, 60)
			w.translates(e.name+" about 8 bytes of the member's datagram", in, out)
		}
	}
	if !w.ipv6 {
		s := datagram(100)
		s.udp.Sum = packet.SumZero
		in, out := w.errorPair(c, s, true, w.errors()[0].layer, 0, 60)
		w.translates("about a datagram without a sum", in, out)
	}
}

// shortQuotes: 8 bytes of the transport header are all that must be there.
func shortQuotes(w *world) {
	rows.Proves(w, 85)
	c := w.open(client(1), 0, firstPort)
	c.works()
	e := w.errors()[0].layer
	for keep := 8; keep <= 64; keep++ {
		if keep == 17 { // half of the sum, which nobody can change by itself
			in, _ := w.errorPair(c, seg(packet.ACK, c.cseq, c.mseq), true, e, keep, 60)
			got := w.send(in)
			w.sums("half a sum quoted", got.frame)
			if got.action != forwarded || got.frame[len(got.frame)-1] != in[len(in)-1] {
				w.Errorf("half a sum quoted: %s", got.action)
			}
			continue
		}
		in, out := w.errorPair(c, seg(packet.ACK, c.cseq-100, c.mseq).with(100), true, e, keep, 60)
		w.translates(fmt.Sprintf("%d bytes of the client's segment", keep), in, out)
		in, out = w.errorPair(c, seg(packet.ACK, c.mseq-33, c.cseq).with(33), false, e, keep, 60)
		w.translates(fmt.Sprintf("%d bytes of the member's segment", keep), in, out)
	}
	for keep := 1; keep < 8; keep++ {
		in, _ := w.errorPair(c, seg(packet.ACK, c.mseq, c.cseq), false, e, keep, 60)
		w.expect(fmt.Sprintf("%d bytes of the segment", keep), in, drops("icmp_inner").late())
	}
}

// brokenQuotes: what cannot be read tells nothing.
func brokenQuotes(w *world) {
	rows.Proves(w, 86)
	rows.Proves(w, 2)
	c := w.open(client(1), 0, firstPort)
	e := w.errors()[0].layer
	from, to := w.host(netip.AddrPortFrom(router, 1)).Addr(), c.vip().Addr()
	frame := func(quote packet.Layer) []byte { return icmp(ownMAC, gatewayMAC, from, to, 60, e, quote) }
	whole := packet.Frame(seg(packet.ACK, c.mseq, c.cseq).layers(c.vip(), c.client)...)
	for n := range headerLength(whole) {
		w.expect(fmt.Sprintf("%d bytes of IP", n), frame(packet.Payload(whole[:n])), drops("icmp_inner").late())
	}
	bent := func(name string, change func(b []byte)) {
		b := append(packet.Payload(nil), whole...)
		change(b)
		w.expect(name, frame(b), drops("icmp_inner").late())
	}
	for _, version := range []byte{0, 4, 5, 6, 15} {
		if version != whole[0]>>4 {
			bent(fmt.Sprintf("version %d", version), func(b []byte) { b[0] = version<<4 | b[0]&15 })
		}
	}
	// A length that nobody has sent: it does not even hold the ports. The header's sum is
	// not asked before.
	for _, more := range []int{0, 1, 7} {
		bent(fmt.Sprintf("%d bytes behind the header", more), func(b []byte) {
			if whole[0]>>4 == 6 {
				binary.BigEndian.PutUint16(b[4:], uint16(more))
			} else {
				binary.BigEndian.PutUint16(b[2:], uint16(headerLength(whole)+more))
			}
		})
	}
	for n := range 8 {
		in := icmp(ownMAC, gatewayMAC, from, to, 60, e)
		short := in[:len(in)-8+n]
		setLength(short)
		o := drops("trunc_l4").late()
		if w.ipv6 && n == 0 {
			o = drops("ip_len") // that is how jumbograms look
		}
		w.expect(fmt.Sprintf("%d bytes of ICMP", n), short, o)
	}
	if w.ipv6 {
		return
	}
	for ihl := range byte(5) {
		bent(fmt.Sprintf("IHL %d", ihl), func(b []byte) { b[0] = 0x40 | ihl })
	}
	bent("IHL 15", func(b []byte) { b[0] = 0x4f })
	bent("later fragment", func(b []byte) { b[7] = 1 })
}

// badICMPSums: an error that was damaged, or that quotes what was, is not passed on.
func badICMPSums(w *world) {
	rows.Proves(w, 87)
	c := w.open(client(1), 0, firstPort)
	for _, fromClient := range []bool{true, false} {
		seq, ack := c.mseq, c.cseq
		if fromClient {
			seq, ack = ack, seq
		}
		s := seg(packet.ACK, seq, ack).with(101)
		whole, out := w.errorPair(c, s, fromClient, w.errors()[0].layer, 0, 60)
		for at := icmpOffset(whole); at < len(whole); at += 7 {
			in := append([]byte(nil), whole...)
			in[at] ^= 0x10
			// In an address or port it is about somebody else's packet.
			if got := w.send(in); got.action != dropped && got.action != passed {
				w.Errorf("byte %d damaged: %s", at, got.action)
			}
		}
		w.translates("undamaged", whole, out)
		if !w.ipv6 {
			s.ip.Sum = packet.SumBad
			in, _ := w.errorPair(c, s, fromClient, w.errors()[0].layer, 0, 60)
			w.expect("bad sum of the quoted header", in, drops("icmp_csum").late())
		}
	}
	in, _ := w.errorPair(c, seg(packet.ACK, c.mseq, c.cseq), false, badSum(w.errors()[0].layer), 0, 60)
	w.expect("bad sum", in, drops("icmp_csum").late())
}

// forgedErrors are about nothing that we have sent.
func forgedErrors(w *world) {
	rows.Proves(w, 88)
	c := w.open(client(1), 0, firstPort)
	e := w.errors()[0].layer
	s := seg(packet.ACK, c.mseq, c.cseq)
	for name, change := range map[string]func(c *conn){
		"another client":        func(c *conn) { c.client = w.host(client(2)) },
		"another client's port": func(c *conn) { c.client = netip.AddrPortFrom(c.client.Addr(), 9) },
	} {
		other := c
		change(&other)
		// Port 80 is none of ours to hold: the namespace has no socket there either.
		in, _ := w.errorPair(other, s, false, e, 0, 60)
		w.expect(name, in, passes())
	}
	for name, change := range map[string]func(c *conn){
		"another NAT port": func(c *conn) { c.port = 2000 },
		"another member":   func(c *conn) { c.slot = 1 },
	} {
		other := c
		change(&other)
		in, _ := w.errorPair(other, seg(packet.ACK, c.cseq, c.mseq), true, e, 0, 60)
		w.expect(name, in, drops("icmp_nomap").late())
	}
	c.works()
}

// numberFromNowhere: a blind forger knows addresses, perhaps ports, but no number.
func numberFromNowhere(w *world) {
	rows.Proves(w, 89)
	c := w.open(client(1), 0, firstPort)
	c.works()
	random := w.random()
	for range 50 {
		off := 1<<25 + 10000 + random.Uint32N(1<<32-1<<26-20000)
		in, _ := w.errorPair(c, seg(packet.ACK, c.mseq+off, c.cseq), false, w.errors()[0].layer, 0, 60)
		w.expect("about the member's segment", in, drops("icmp_seq").late())
		in, _ = w.errorPair(c, seg(packet.ACK, c.cseq+off, c.mseq), true, w.errors()[0].layer, 8, 60)
		w.expect("about the client's segment", in, drops("icmp_seq").late())
	}
	c.works()
}

func tinyMTU(w *world) {
	rows.Proves(w, 90, 114)
	c := w.open(client(1), 0, firstPort)
	tiny := []packet.Layer{
		packet.FragNeeded(0), packet.FragNeeded(68), packet.FragNeeded(296), packet.FragNeeded(551),
	}
	if w.ipv6 {
		tiny = []packet.Layer{
			packet.PacketTooBig(0), packet.PacketTooBig(68), packet.PacketTooBig(552), packet.PacketTooBig(1279),
		}
	}
	for _, e := range tiny {
		in, _ := w.errorPair(c, seg(packet.ACK, c.mseq, c.cseq).with(100), false, e, 0, 60)
		w.expect("member's", in, drops("icmp_mtu").late())
		in, _ = w.errorPair(c, seg(packet.ACK, c.cseq, c.mseq).with(100), true, e, 0, 60)
		w.expect("client's", in, drops("icmp_mtu").late())
	}
}

// mappingStays: hard errors, ever so many, end nothing.
func mappingStays(w *world) {
	rows.Proves(w, 91)
	c := w.open(client(1), 0, firstPort)
	for range 20 {
		for _, e := range w.errors() {
			in, _ := w.errorPair(c, seg(packet.ACK, c.mseq, c.cseq), false, e.layer, 0, 60)
			w.mustForward(e.name, in)
		}
	}
	c.works()
	w.nothingExpires()
}

// stacksOwn: echo, and errors about what the namespace's own sockets have sent.
func stacksOwn(w *world) {
	from, to := w.host(client(1)), w.host(vip)
	ping := func(reply bool, size int) []byte {
		var l packet.Layer = packet.EchoRequest(1, 2)
		switch {
		case w.ipv6 && reply:
			l = packet.ICMPv6{Type: 129, Rest: 1<<16 | 2}
		case w.ipv6:
			l = packet.EchoRequest6(1, 2)
		case reply:
			l = packet.EchoReply(1, 2)
		}
		return icmp(ownMAC, gatewayMAC, from.Addr(), to.Addr(), 64, l, packet.Repeat(size))
	}
	for _, size := range []int{0, 56, 1400} {
		w.expect("ping", ping(false, size), passes())
		w.expect("its answer", ping(true, size), passes())
	}
	own := netip.AddrPortFrom(to.Addr(), 65100)
	for _, e := range w.errors() {
		for _, s := range []segment{seg(packet.SYN, 1, 0), datagram(10)} {
			quote := packet.Quote{Packet: s.layers(own, w.host(memberAddress(0)))}
			w.expect(e.name+" about a monitor's probe",
				icmp(ownMAC, gatewayMAC, w.host(netip.AddrPortFrom(router, 1)).Addr(), to.Addr(), 60, e.layer, quote), passes())
		}
	}
	// To somebody else.
	other := w.host(netip.MustParseAddrPort("172.16.100.77:1")).Addr()
	quote := packet.Quote{Packet: seg(packet.SYN, 1, 0).layers(own, from)}
	w.expect("to another host", icmp(ownMAC, gatewayMAC, from.Addr(), other, 60, w.errors()[0].layer, quote), passes())
}

// aboutPings: the stack hears that its pings, and its answers to them, do not arrive; but
// who says that they are too big would make every flow's segments smaller.
func aboutPings(w *world) {
	rows.Proves(w, 89)
	echo := []packet.Layer{packet.EchoRequest(1, 2), packet.EchoReply(1, 2)}
	if w.ipv6 {
		echo = []packet.Layer{packet.EchoRequest6(1, 2), packet.ICMPv6{Type: 129, Rest: 1}}
	}
	for _, e := range w.errors() {
		o := passes()
		if tooBig(e.layer) {
			o = drops("icmp_inner").late()
		}
		for _, inner := range echo {
			w.expect(e.name+" about a ping", w.errorAbout(e.layer, w.host(client(1)).Addr(), inner), o)
			w.expect(e.name+" about a monitor's ping", w.errorAbout(e.layer, w.host(memberAddress(0)).Addr(), inner), o)
		}
	}
}

// aboutNothingToTell: about errors, about packets to many, and about protocols that
// nobody here speaks.
func aboutNothingToTell(w *world) {
	rows.Proves(w, 94)
	to := w.host(client(1)).Addr()
	inner := map[string]packet.Layer{
		"unreachable": packet.Unreachable(1), "fragmentation needed": packet.FragNeeded(1000),
		"redirect": packet.ICMPv4{Type: 5}, "time exceeded": packet.TimeExceeded(), "parameter problem": packet.ICMPv4{Type: 12},
	}
	if w.ipv6 {
		inner = map[string]packet.Layer{
			"unreachable": packet.Unreachable6(3), "packet too big": packet.PacketTooBig(1300),
			"time exceeded": packet.TimeExceeded6(), "parameter problem": packet.ICMPv6{Type: 4}, "solicitation": packet.ICMPv6{Type: 135},
		}
	}
	for _, e := range w.errors() {
		for name, quoted := range inner {
			w.expect(e.name+" about a "+name, w.errorAbout(e.layer, to, quoted), drops("icmp_inner").late())
		}
		for _, many := range w.groups() {
			for _, port := range []uint16{vip.Port(), firstPort, 65100} {
				own := netip.AddrPortFrom(w.gen.VIP.Address.Addr(), port)
				quote := packet.Quote{Packet: datagram(9).layers(own, netip.AddrPortFrom(many, 40000))}
				w.expect(fmt.Sprintf("%s about one to %s", e.name, many), w.errorWith(e.layer, quote), drops("icmp_inner").late())
			}
		}
		for _, proto := range []uint8{0, packet.ProtoIPv4, packet.ProtoIPv6, packet.ProtoFragment, 47, packet.ProtoESP, packet.ProtoAH, 132, 255} {
			w.expect(fmt.Sprintf("%s about protocol %d", e.name, proto), w.errorWith(e.layer, w.protocol(to, proto)), drops("icmp_inner").late())
		}
	}
}

// groups are addresses of more than one host.
func (w *world) groups() []netip.Addr {
	if w.ipv6 {
		return []netip.Addr{netip.MustParseAddr("ff02::1"), netip.MustParseAddr("ff0e::1:2")}
	}
	return []netip.Addr{netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("239.1.2.3")}
}

// protocol quotes a packet of the VIP's of some protocol, whose bytes look like ports.
func (w *world) protocol(to netip.Addr, proto uint8) packet.Quote {
	ports := packet.Payload{0, 80, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0, 9}
	var ip packet.Layer = packet.IPv4{Src: w.gen.VIP.Address.Addr(), Dst: to, TTL: 9, Protocol: &proto}
	if w.ipv6 {
		ip = packet.IPv6{Src: w.gen.VIP.Address.Addr(), Dst: to, HopLimit: 9, NextHeader: &proto}
	}
	return packet.Quote{Packet: []packet.Layer{ip, ports}}
}

// errorAbout is a router's error about an ICMP packet of the VIP's.
func (w *world) errorAbout(e packet.Layer, to netip.Addr, inner packet.Layer) []byte {
	var ip packet.Layer = packet.IPv4{Src: w.gen.VIP.Address.Addr(), Dst: to, TTL: 9}
	if w.ipv6 {
		ip = packet.IPv6{Src: w.gen.VIP.Address.Addr(), Dst: to, HopLimit: 9}
	}
	return w.errorWith(e, packet.Quote{Packet: []packet.Layer{ip, inner, packet.Repeat(56)}})
}

func (w *world) errorWith(e packet.Layer, quote packet.Quote) []byte {
	return icmp(ownMAC, gatewayMAC, w.host(netip.AddrPortFrom(router, 1)).Addr(), w.gen.VIP.Address.Addr(), 60, e, quote)
}

// tooBig says whether an error announces an MTU.
func tooBig(e packet.Layer) bool {
	switch l := e.(type) {
	case packet.ICMPv4:
		return l.Type == 3 && l.Code == 4
	case packet.ICMPv6:
		return l.Type == 2
	}
	return false
}

// optionsInQuote: the transport header stands where the quoted header says.
func optionsInQuote(w *world) {
	rows.Proves(w, 86)
	c := w.open(client(1), 0, firstPort)
	for words := 1; words <= 10; words++ {
		options := make([]byte, 4*words)
		for i := range options {
			options[i] = 1
		}
		for _, keep := range []int{8, 20, 0} {
			s := seg(packet.ACK, c.mseq, c.cseq).with(50)
			s.ip.Options = options
			in, out := w.errorPair(c, s, false, packet.FragNeeded(1400), keep, 60)
			w.translates("member's segment with options", in, out)
			s.tcp.Seq, s.tcp.Ack = c.cseq, c.mseq
			in, out = w.errorPair(c, s, true, packet.TimeExceeded(), keep, 60)
			w.translates("client's segment with options", in, out)
		}
	}
	// A first fragment is quoted by who could not put it together.
	s := seg(packet.ACK, c.mseq, c.cseq).with(50)
	s.ip.MF, s.ip.DF = true, false
	in, out := w.errorPair(c, s, false, packet.ICMPv4{Type: 11, Code: 1}, 28, 60)
	w.translates("first fragment", in, out)
}

// icmpTypes that nobody has a use for.
func icmpTypes(w *world) {
	rows.Proves(w, 82)
	for kind := range 256 {
		o := drops("icmp_type").late()
		switch kind {
		case 0, 8:
			o = passes()
		case 3, 11, 12:
			o = drops("icmp_inner").late() // quotes nothing
		}
		in := icmp(ownMAC, gatewayMAC, client(1).Addr(), vip.Addr(), 64, packet.ICMPv4{Type: uint8(kind)}, packet.Repeat(12))
		w.expect(fmt.Sprintf("type %d", kind), in, o)
	}
}

func icmp6Types(w *world) {
	rows.Proves(w, 82)
	for kind := range 256 {
		o := drops("icmp_type").late()
		switch {
		case kind >= 128 && kind <= 136: // echo, and neighbour discovery
			o = passes()
		case kind == 2:
			o = drops("icmp_mtu").late()
		case kind == 1, kind == 3, kind == 4:
			o = drops("icmp_inner").late()
		}
		in := icmp(ownMAC, gatewayMAC, six(client(1).Addr()), six(vip.Addr()), 64, packet.ICMPv6{Type: uint8(kind)}, packet.Repeat(12))
		w.expect(fmt.Sprintf("type %d", kind), in, o)
	}
	// Discovery goes to groups, on the wire too.
	group := netip.MustParseAddr("ff02::1:ff00:b")
	for _, kind := range []uint8{133, 134, 135, 136, 143} {
		in := icmp([]byte{0x33, 0x33, 0xff, 0, 0, 0xb}, gatewayMAC, netip.MustParseAddr("fe80::1"), group, 255,
			packet.ICMPv6{Type: kind}, packet.Repeat(16))
		w.expect(fmt.Sprintf("type %d to a group", kind), in, passes())
	}
}
