package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// TestIPv6 runs what depends on the family on the other one. What both share is C that
// is compiled from one source; the stories are those of the IPv4 tests.
func TestIPv6(t *testing.T) {
	rows.Proves(t, 49)
	onHooks(t, options{ipv6: true}, func(w *world) {
		w.run("three steps make a flow", func(w *world) {
			for n := range 30 {
				c := w.open(client(n), n%3, firstPort+uint16(n/3))
				c.works()
			}
		})
		for name, test := range map[string]func(w *world){
			"SYN again": synAgain, "SYN with data": synWithData, "blind ACK": blindACK, "lost ACK": lostACK,
			"the ACK that ends it too": finOfTheFirstACK, "SYN-ACK again": synAckAgain,
			"member refuses": memberRefuses, "client resets": clientResets,
			"member still in TIME-WAIT": staleMember, "both sides open": simultaneousOpen,
			"client closes first": func(w *world) { closing(w, true) },
			"both close at once":  simultaneousClose, "half-closed": halfClosed, "RST ends a flow once": trueRST,
			"RST of another number": forgedRST, "client uses its port again": portAgain,
			"SYN in a flow": synInFlow, "RST prepared by forged data": preparedRST, "FIN of another number": forgedFIN,
			"answers from elsewhere": answersFromElsewhere, "member closes first": func(w *world) { closing(w, false) },
			"late packets": latePackets, "keepalive and window probe": keepalive, "numbers that wrap": wrapping,
		} {
			w.run(name, test)
		}
	})
}

// TestIPv6Packets: headers that only IPv6 has, and what is hostile about them.
func TestIPv6Packets(t *testing.T) {
	rows.Proves(t, 1, 2, 8, 12, 13, 16, 19, 21, 22, 23, 25, 26, 27, 28, 29, 36, 37, 38, 40, 41, 43, 44, 45, 46, 47, 48)
	rows.Proves(t, 106, 110, 111, 112, 113)
	onHooks(t, options{ipv6: true}, func(w *world) {
		for name, prepare := range map[string]func(w *world){
			"nothing known":  func(*world) {},
			"in a flow":      func(w *world) { w.open(client(1), 0, firstPort) },
			"in a handshake": func(w *world) { w.syn(client(1), 0, firstPort).synAck() },
		} {
			w.run(name, func(w *world) {
				prepare(w)
				w.table(headers6())
				w.table(extensions6())
				if w.hook == xdpHook {
					w.table(short6())
				}
			})
		}
		w.run("sources", func(w *world) { w.table(sources6()) })
		w.run("ports", func(w *world) { w.table(ports6()) })
		w.run("malformed options", malformedOptions)
		w.run("extension headers", extensionsPass)
		w.run("hop limit", hopLimit)
		w.run("what is not ours to change", bits6)
		w.run("bad sums", badSums6)
		w.run("MTU of the route", routeMTU6)
		w.run("super-packets", superPackets6)
		w.run("refusals", func(w *world) {
			w.configure(func(g *maps.Generation) { g.VIP.Refuse = true })
			for _, size := range []int{0, 1, 500, 1400} {
				w.refused("SYN", seg(packet.SYN, 0xffffffff, 0).with(size), "no_member")
			}
			w.refused("ACK", seg(packet.ACK, 5, 6), "no_entry")
		})
		w.run("IPv4 passes", func(w *world) {
			w.expect("SYN", seg(packet.SYN, 1, 0).arrives(client(1), vip), passes())
		})
	})
}

// syn6 is a client's plain SYN, and change is what is not so plain.
func syn6(change func(e *packet.Ethernet, ip *packet.IPv6, tcp *packet.TCP)) []byte {
	from, to := six80(client(1)), six80(vip)
	e := packet.Ethernet{Dst: ownMAC, Src: gatewayMAC}
	ip := packet.IPv6{Src: from.Addr(), Dst: to.Addr(), HopLimit: 64}
	tcp := packet.TCP{SrcPort: from.Port(), DstPort: to.Port(), Flags: packet.SYN, Seq: clientISN, Window: 64240}
	change(&e, &ip, &tcp)
	return packet.Frame(e, ip, tcp)
}

func withIP6(change func(ip *packet.IPv6)) []byte {
	return syn6(func(_ *packet.Ethernet, ip *packet.IPv6, _ *packet.TCP) { change(ip) })
}

func headers6() (cases []hostile) {
	add := func(reason, name string, frame []byte) { cases = append(cases, hostile{name, frame, drops(reason)}) }
	plain := withIP6(func(*packet.IPv6) {})
	for _, version := range []byte{0, 4, 5, 7, 15} {
		bent := append([]byte(nil), plain...)
		bent[ethernetLength] = version << 4
		add("ip_ver", fmt.Sprintf("version %d", version), bent)
	}
	for _, n := range []uint16{0, 21, 1500, 65535} {
		add("ip_len", fmt.Sprintf("payload length %d of 20", n), withIP6(func(ip *packet.IPv6) { ip.PayloadLength = &n }))
	}
	for n := uint16(1); n < 20; n++ {
		add("trunc_l4", fmt.Sprintf("payload length %d of 20", n), withIP6(func(ip *packet.IPv6) { ip.PayloadLength = &n }))
	}
	for n := range uint8(5) {
		add("tcp_doff", fmt.Sprintf("data offset %d", n),
			syn6(func(_ *packet.Ethernet, _ *packet.IPv6, tcp *packet.TCP) { tcp.DataOffset = &n }))
	}
	add("tcp_doff", "data offset 15 beyond the packet",
		syn6(func(_ *packet.Ethernet, _ *packet.IPv6, tcp *packet.TCP) { tcp.DataOffset = new(uint8(15)) }))
	for _, flags := range absurdFlags() {
		add("tcp_flags", "flags "+flags.String(), syn6(func(_ *packet.Ethernet, _ *packet.IPv6, tcp *packet.TCP) { tcp.Flags = flags }))
	}
	add("port0", "source port 0", syn6(func(_ *packet.Ethernet, _ *packet.IPv6, tcp *packet.TCP) { tcp.SrcPort = 0 }))
	add("port0", "destination port 0", syn6(func(_ *packet.Ethernet, _ *packet.IPv6, tcp *packet.TCP) { tcp.DstPort = 0 }))
	add("l2_bcast", "to a group on the wire",
		syn6(func(e *packet.Ethernet, _ *packet.IPv6, _ *packet.TCP) {
			e.Dst = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		}))
	for _, proto := range []uint8{packet.ProtoIPv4, packet.ProtoIPv6, 47, packet.ProtoESP, packet.ProtoAH, packet.ProtoNone, 132, 255} {
		cases = append(cases, hostile{
			fmt.Sprintf("protocol %d", proto), withIP6(func(ip *packet.IPv6) { ip.NextHeader = &proto }), passes(),
		})
	}
	cases = append(cases,
		hostile{"to another address", withIP6(func(ip *packet.IPv6) { ip.Dst = six(silent) }), passes()},
		hostile{"to a group", syn6(func(e *packet.Ethernet, ip *packet.IPv6, _ *packet.TCP) {
			e.Dst, ip.Dst = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, netip.MustParseAddr("ff02::1")
		}), passes()},
		hostile{"to another host", syn6(func(e *packet.Ethernet, _ *packet.IPv6, _ *packet.TCP) { e.Dst = otherMAC }), passes()})
	return cases
}

// extensions6 are headers that nobody needs on the way to a balancer.
func extensions6() (cases []hostile) {
	add := func(reason, name string, ext ...packet.Extension) {
		cases = append(cases, hostile{name, withIP6(func(ip *packet.IPv6) { ip.Extensions = ext }), drops(reason)})
	}
	add("v6_ext", "source route", packet.Routing(0, 1, make([]byte, 20)))
	add("v6_ext", "routing header without a route", packet.Routing(2, 0, make([]byte, 20)))
	add("v6_ext", "source route behind options", packet.HopByHop(nil), packet.Routing(0, 0, make([]byte, 20)))
	add("frag", "first fragment", packet.Fragment(0, true, 7))
	add("frag", "later fragment", packet.Fragment(1480, false, 7))
	add("frag", "atomic fragment", packet.Fragment(0, false, 7))
	add("frag", "fragment behind options", packet.HopByHop(nil), packet.DestinationOptions(nil), packet.Fragment(0, true, 7))
	many := []packet.Extension{packet.HopByHop(nil)}
	for range 13 {
		many = append(many, packet.DestinationOptions(nil))
	}
	add("v6_ext", "14 headers", many...)
	add("v6_ext", "7 headers", many[:7]...)
	add("v6_ext", "264 bytes of options", packet.HopByHop(make([]byte, 254)), packet.DestinationOptions(nil))
	add("trunc_l4", "a header that ends behind the packet",
		packet.Extension{Header: packet.ProtoHopByHop, Body: []byte{1, 4, 0, 0, 0, 0}, Length: new(uint8(3))})
	return cases
}

func sources6() (cases []hostile) {
	for _, a := range []string{
		"::", "::1", "ff02::1", "ff0e::1234", "::ffff:1.2.3.4", "::ffff:127.0.0.1",
	} {
		cases = append(cases, hostile{"from " + a, withIP6(func(ip *packet.IPv6) { ip.Src = netip.MustParseAddr(a) }), drops("martian")})
	}
	for _, flags := range []packet.Flags{packet.SYN, packet.ACK, packet.SYN | packet.ACK} {
		for _, port := range []uint16{80, 1024, 40000} {
			self := syn6(func(_ *packet.Ethernet, ip *packet.IPv6, tcp *packet.TCP) {
				ip.Src, tcp.SrcPort, tcp.Flags = six(vip.Addr()), port, flags
			})
			cases = append(cases, hostile{fmt.Sprintf("%s from the VIP's port %d", flags, port), self, drops("spoof_self")})
		}
	}
	return cases
}

func ports6() (cases []hostile) {
	for _, flags := range []packet.Flags{packet.SYN, packet.ACK, packet.SYN | packet.ACK, packet.RST, packet.FIN | packet.ACK} {
		for port, o := range map[uint16]want{
			22: passes(), 81: passes(), 1023: passes(), lastPort + 1: passes(),
			firstPort: drops("nat_nomap"), 8080: drops("nat_nomap"), lastPort: drops("nat_nomap"),
		} {
			cases = append(cases, hostile{
				fmt.Sprintf("%s to port %d", flags, port),
				syn6(func(_ *packet.Ethernet, _ *packet.IPv6, tcp *packet.TCP) { tcp.DstPort, tcp.Flags = port, flags }), o,
			})
		}
	}
	return cases
}

// short6 end in the middle of the IP header.
func short6() (cases []hostile) {
	whole := withIP6(func(*packet.IPv6) {})
	for n := range ipv6Length {
		cases = append(cases, hostile{fmt.Sprintf("%d bytes of IPv6", n), ended(whole, ethernetLength+n), drops("trunc_l3")})
	}
	return cases
}

// extensionsPass: options are stepped over, and carried on as they are.
func extensionsPass(w *world) {
	rows.Proves(w, 111)
	lists := map[string][]packet.Extension{
		"hop-by-hop":  {packet.HopByHop(nil)},
		"destination": {packet.DestinationOptions(nil)},
		"both":        {packet.HopByHop(nil), packet.DestinationOptions(nil)},
		"128 bytes":   {packet.HopByHop(make([]byte, 126))},
		"256 bytes":   {packet.HopByHop(make([]byte, 126)), packet.DestinationOptions(make([]byte, 126))},
		"as many as may be": {
			packet.HopByHop(nil), packet.DestinationOptions(nil), packet.DestinationOptions(nil),
			packet.DestinationOptions(nil), packet.DestinationOptions(nil), packet.DestinationOptions(nil),
		},
	}
	n := 0
	for name, list := range lists {
		w.Log(name)
		s := seg(packet.SYN, clientISN, 0).options(packet.NOP(), packet.Timestamps(1, 0))
		s.ext = list
		in := s.arrives(w.host(client(n)), w.gen.VIP.Address)
		if got := w.send(in); got.action != forwarded || packet.Verify(got.frame) != nil {
			w.Errorf("SYN was %s, %v", got.action, packet.Verify(got.frame))
		}
		c := w.open(client(100+n), (2*n+1)%3, firstPort+uint16((2*n+1)/3))
		s = seg(packet.ACK, c.cseq, c.mseq).with(33)
		s.ext = list
		c.sends(name, s)
		c.cseq = s.end()
		s = seg(packet.ACK, c.mseq, c.cseq).with(44)
		s.ext = list
		c.gets(name, s)
		s.ip.TTL = 1 // no answer: its headers are not understood
		in, _ = c.down(s)
		w.expect(name+" without hops", in, drops("ttl").late())
		n++
	}
}

func hopLimit(w *world) {
	c := w.open(client(1), 0, firstPort)
	for _, n := range []uint8{0, 1} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(77)
		s.ip.TTL = n
		in, _ := c.up(s)
		w.expect("client's", in, answers("ttl", icmpAnswer(in, packet.TimeExceeded6())))
		in, _ = c.down(s)
		w.expect("member's", in, answers("ttl", icmpAnswer(in, packet.TimeExceeded6())))
		syn := seg(packet.SYN, 5, 0)
		syn.ip.TTL = n
		in = syn.arrives(w.host(client(2)), w.gen.VIP.Address)
		w.expect("SYN", in, answers("ttl", icmpAnswer(in, packet.TimeExceeded6())))
	}
	for _, n := range []uint8{2, 64, 255} {
		s := seg(packet.ACK, c.cseq, c.mseq)
		s.ip.TTL = n
		c.sends("hop limit", s)
		s = seg(packet.ACK, c.mseq, c.cseq)
		s.ip.TTL = n
		c.gets("hop limit", s)
	}
}

func bits6(w *world) {
	c := w.synWith(client(1), 0, firstPort, seg(packet.SYN|packet.ECE|packet.CWR|packet.AE, clientISN, 0)).synAck().ack()
	for _, change := range []func(s *segment){
		func(s *segment) { s.ip.TOS = 46 << 2 },
		func(s *segment) { s.ip.TOS = 0xff },
		func(s *segment) { s.label = 0xfffff },
		func(s *segment) { s.label, s.ip.TOS = 0x12345, 3 },
	} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(5)
		change(&s)
		c.sends("bits", s)
		s = seg(packet.ACK, c.mseq, c.cseq).with(6)
		change(&s)
		c.gets("bits", s)
	}
	// The filler of a short frame is no payload.
	in, out := c.up(seg(packet.ACK, c.cseq, c.mseq))
	filler := []byte{0xde, 0xad, 0xbe, 0xef, 0xff, 1}
	w.expect("padding", append(in, filler...), forwards(append(out, filler...), toMember(0, in)))
}

func badSums6(w *world) {
	rows.Proves(w, 72)
	c := w.open(client(1), 0, firstPort)
	at := ethernetLength + ipv6Length + 16
	for _, n := range []int{0, 1, 100, 1439} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(n)
		bad := s
		bad.tcp.Sum = packet.SumBad
		in, _ := c.up(bad)
		good, out := c.up(s)
		w.wrongAsBefore("TCP sum", at, in, good, out)
	}
}

func routeMTU6(w *world) {
	const room = narrowMTU - 60
	tooBig := func(in []byte) want {
		return answers("too_big", icmpAnswer(in, packet.PacketTooBig(narrowMTU))).refreshing()
	}
	c := w.open(narrowClient(), 0, firstPort)
	c.gets("as long as the route takes", seg(packet.ACK, c.mseq, c.cseq).with(room))
	in, _ := c.down(seg(packet.ACK, c.mseq, c.cseq).with(room + 1))
	w.expect("a byte too long for the client", in, tooBig(in))
	w.moveMember(six(narrow))
	c = w.open(client(1), 0, firstPort+1)
	c.sends("as long as the route takes", seg(packet.ACK, c.cseq, c.mseq).with(room))
	in, _ = c.up(seg(packet.ACK, c.cseq, c.mseq).with(room + 1))
	got := w.expect("a byte too long for the member", in, tooBig(in))
	w.sums("packet too big", got.frame)
	in, _ = c.up(seg(packet.ACK, c.cseq, c.mseq).with(3000))
	w.expectGSO("segments that are too long", in, gso{3, room + 1}, tooBig(in))
}

func superPackets6(w *world) {
	c := w.open(client(1), 0, firstPort)
	for _, n := range []struct{ payload, size, segments int }{{3000, 1000, 3}, {3000, 1440, 3}, {1441, 1440, 2}} {
		wire := int64(n.payload + n.segments*60)
		in, out := c.up(seg(packet.ACK, c.cseq, c.mseq).with(n.payload))
		w.expectGSO("client's", in, gso{uint32(n.segments), uint32(n.size)},
			forwards(out, delta{"m0.packets_in": int64(n.segments), "m0.bytes_in": wire}))
	}
}
