package hostile

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// TestHostile plays the rows on each hook, on one deployed pool per protocol.
func TestHostile(t *testing.T) {
	for _, hook := range []string{"tcx", "clsact", "xdp"} {
		t.Run(hook, func(t *testing.T) {
			s := newStage(t, hook)
			for _, group := range []struct {
				name string
				play func(*stage)
			}{
				{"cut short", short},
				{"few linear bytes", linear},
				{"super-packets", superPackets},
				{"UDP super-packets", superDatagrams},
				{"partial sums", partialSums},
				{"padding", padding},
				{"tags", tags},
				{"link", link},
				{"ARP", arp},
				{"headers", headers},
				{"wrong sums", wrongSums},
				{"too big", tooBig},
				{"fragments", fragments},
				{"not the listener's", others},
			} {
				s.run(group.name, group.play)
			}
		})
	}
}

// drop is the outcome of frames that all end for one reason.
func drop(reason string, n int) outcome { return outcome{drops: map[string]int{reason: n}} }

// short frames end before the headers do.
func short(s *stage) {
	rows.Proves(s.t, 1, 2)
	whole, _ := s.tcp.fresh().up(seg(packet.SYN, clientISN, 0))
	var shots []shot
	for n := range 20 {
		shots = append(shots, shot{from: s.client, frame: whole[:14+n]})
	}
	s.tcp.row("IP header cut", shots, drop("trunc_l3", len(shots)))

	shots = nil
	for proto, length := range map[uint8]int{packet.ProtoTCP: 20, packet.ProtoUDP: 8, packet.ProtoICMPv4: 8} {
		for n := range length {
			ip := packet.IPv4{Src: rawClient, Dst: s.tcp.at.Addr(), TTL: 64, Protocol: &proto}
			shots = append(shots, shot{from: s.client, frame: s.frame(ip, packet.Repeat(n))})
		}
	}
	s.tcp.row("transport header cut", shots, drop("trunc_l4", len(shots)))
}

// frame is a frame from the raw client to the TCP balancer.
func (s *stage) frame(layers ...packet.Layer) []byte {
	return packet.Frame(append([]packet.Layer{packet.Ethernet{Dst: s.tcp.mac, Src: s.client.mac}}, layers...)...)
}

// linear: however little of a packet the kernel has at hand, it is read.
func linear(s *stage) {
	rows.Proves(s.t, 3)
	for _, n := range []uint16{14, 20, 34} {
		c := s.tcp.open()
		for _, size := range []int{0, 1, 1000} {
			up, upOut := c.up(seg(packet.ACK, c.cseq, c.mseq).with(size))
			down, downOut := c.down(seg(packet.ACK, c.mseq, c.cseq).with(size))
			s.tcp.row(fmt.Sprintf("%d linear bytes, %d of payload", n, size), []shot{
				{from: s.client, frame: up, linear: n}, {from: s.member, frame: down, linear: n},
			}, outcome{forwarded: 2, atMember: []seen{exactly(upOut)}, atClient: []seen{exactly(downOut)}})
		}
		fresh := s.tcp.fresh()
		syn, _ := fresh.up(seg(packet.SYN, clientISN, 0))
		s.tcp.row(fmt.Sprintf("SYN with %d linear bytes", n), []shot{{from: s.client, frame: syn, linear: n}},
			outcome{forwarded: 1, handshakes: 1, atMember: []seen{fresh.syn()}})
		s.tcp.row(fmt.Sprintf("stray with %d linear bytes", n), []shot{{from: s.client, frame: fresh.stray(), linear: n}},
			outcome{drops: map[string]int{"no_entry": 1}, answered: 1, atClient: []seen{exactly(fresh.reset())}})
	}
}

// syn is a client's SYN as it arrives at the member, by a port that only the balancer knows.
func (c conn) syn() seen {
	return seen{what: "SYN", is: func(f []byte) bool {
		return len(f) >= 54 && f[47] == byte(packet.SYN) && binary.BigEndian.Uint32(f[38:]) == clientISN &&
			binary.BigEndian.Uint16(f[36:]) == c.b.service
	}}
}

// Numbers of a segment that belongs to no flow.
const straySeq, strayAck = 5, 0x01020304

// stray is a segment of a flow that the balancer does not know, and reset what its
// sender hears.
func (c conn) stray() []byte {
	c.port += 10000
	in, _ := c.up(seg(packet.ACK, straySeq, strayAck).with(100))
	return in
}

func (c conn) reset() []byte {
	return packet.Frame(packet.Ethernet{Dst: c.b.client.mac, Src: c.b.mac},
		packet.IPv4{Src: c.b.at.Addr(), Dst: rawClient, TTL: 64, DF: true},
		packet.TCP{SrcPort: c.b.at.Port(), DstPort: c.port + 10000, Seq: strayAck, Flags: packet.RST})
}

// padding of a short frame is no payload.
func padding(s *stage) {
	rows.Proves(s.t, 8)
	c := s.tcp.open()
	in, out := c.up(seg(packet.ACK, c.cseq, c.mseq))
	filler := []byte{0xde, 0xad, 0xbe, 0xef, 0xff, 1}
	// The filler may be carried on or not.
	s.tcp.row("60-byte frame", []shot{{from: s.client, frame: append(in, filler...)}}, outcome{
		forwarded: 1, atMember: []seen{{what: "the segment", is: func(f []byte) bool {
			return len(f) >= len(out) && packet.Diff(f[:len(out)], out) == ""
		}}},
	})
	data, dataOut := c.up(seg(packet.ACK, c.cseq, c.mseq).with(10))
	s.tcp.row("what follows", []shot{{from: s.client, frame: data}}, outcome{forwarded: 1, atMember: []seen{exactly(dataOut)}})
}

// tags of other networks are not ours; a mere priority is.
func tags(s *stage) {
	rows.Proves(s.t, 9, 10, 11)
	c := s.tcp.open()
	for name, list := range map[string][]packet.VLAN{
		"VID 5": {{ID: 5}}, "VID 4094": {{ID: 4094, Priority: 7}}, "QinQ": {{ID: 5, TPID: packet.TypeQinQ}, {ID: 6}},
		"two tags": {{ID: 5}, {ID: 6}}, "three tags": {{ID: 5, TPID: packet.TypeQinQ}, {ID: 6}, {ID: 7}},
		"VID 0 and 5": {{ID: 0}, {ID: 5}}, "QinQ of VID 0": {{ID: 0, TPID: packet.TypeQinQ}, {ID: 5}},
	} {
		for _, segment := range []segment{seg(packet.SYN, clientISN, 0), seg(packet.ACK, c.cseq, c.mseq).with(10)} {
			segment.tags = list
			in, _ := c.up(segment)
			s.tcp.row(name, []shot{{from: s.client, frame: in}}, outcome{passed: 1})
		}
	}
	for _, priority := range []uint8{0, 5} {
		segment := seg(packet.ACK, c.cseq, c.mseq).with(10)
		_, out := c.up(segment)
		segment.tags = []packet.VLAN{{Priority: priority}}
		in, tagged := c.up(segment)
		s.tcp.row(fmt.Sprintf("priority %d", priority), []shot{{from: s.client, frame: in}}, outcome{
			forwarded: 1, atMember: []seen{{what: "the segment", frame: tagged, is: func(f []byte) bool {
				return packet.Diff(f, out) == "" || packet.Diff(f, tagged) == ""
			}}},
		})
	}
}

// link: frames that are for others, or for everybody, or no IP.
func link(s *stage) {
	rows.Proves(s.t, 12, 13, 15)
	c := s.tcp.open()
	send := func(name string, change func(e *packet.Ethernet), want outcome) {
		for _, segment := range []segment{seg(packet.SYN, clientISN, 0), seg(packet.ACK, c.cseq, c.mseq).with(10)} {
			e := packet.Ethernet{Dst: s.tcp.mac, Src: s.client.mac}
			change(&e)
			ip, tcp := segment.ip, segment.tcp
			ip.Src, ip.Dst, tcp.SrcPort, tcp.DstPort = rawClient, s.tcp.at.Addr(), c.port, s.tcp.at.Port()
			s.tcp.row(name, []shot{{from: s.client, frame: packet.Frame(e, ip, tcp, segment.data)}}, want)
		}
	}
	send("to all", func(e *packet.Ethernet) { e.Dst = net.HardwareAddr{255, 255, 255, 255, 255, 255} }, drop("l2_bcast", 1))
	send("to a group", func(e *packet.Ethernet) { e.Dst = net.HardwareAddr{1, 0, 0x5e, 0, 0, 1} }, drop("l2_bcast", 1))
	send("to another host", func(e *packet.Ethernet) { e.Dst = net.HardwareAddr{2, 0, 0, 0, 0, 9} }, outcome{passed: 1})
	for _, kind := range []uint16{0x88cc, 0x0026, 0x05dc, 0xffff, packet.TypeIPv6} {
		send(fmt.Sprintf("type %#04x", kind), func(e *packet.Ethernet) { e.Type = &kind }, outcome{passed: 1})
	}
}

// arp is the stack's: it answers for the VIP, and no claim changes anything, but each is
// counted.
func arp(s *stage) {
	rows.Proves(s.t, 14)
	reply := seen{what: "ARP reply", is: func(f []byte) bool {
		return len(f) >= 42 && binary.BigEndian.Uint16(f[12:]) == packet.TypeARP && f[21] == arpReply &&
			netip.AddrFrom4([4]byte(f[28:32])) == s.tcp.at.Addr()
	}}
	vip := s.tcp.at.Addr()
	ask := func(name string, operation uint16, sender netip.Addr, answers ...seen) {
		s.tcp.row(name, []shot{{from: s.client, frame: s.client.arp(operation, sender, s.tcp.mac, vip)}},
			outcome{passed: 1, atClient: answers})
	}
	conflicts := func() uint64 {
		return s.tcp.perCPU("events", 1)[slices.Index(maps.Events(), "arp_conflict")][0]
	}
	before := conflicts()
	ask("request", arpRequest, rawClient, reply)
	ask("probe", arpRequest, netip.IPv4Unspecified(), reply)
	if n := conflicts() - before; n != 0 {
		s.t.Errorf("%d conflicts are counted where nobody claims the VIP", n)
	}
	ask("announcement of the VIP", arpRequest, vip)
	ask("announcement of the VIP as a reply", arpReply, vip)
	if n := conflicts() - before; n != 2 {
		s.t.Errorf("%d conflicts are counted, want 2: one for each claim", n)
	}
	s.tcp.open() // and all is as it was
}

// headers that cannot be.
func headers(s *stage) {
	rows.Proves(s.t, 17)
	c := s.tcp.open()
	for _, segment := range []segment{seg(packet.SYN, clientISN, 0), seg(packet.ACK, c.cseq, c.mseq).with(10)} {
		var shots []shot
		for n := range uint8(5) {
			segment.ip.IHL = &n
			in, _ := c.up(segment)
			shots = append(shots, shot{from: s.client, frame: in})
		}
		s.tcp.row("IHL too small", shots, drop("ip_ihl", len(shots)))
		segment.ip.IHL = new(uint8(15))
		in, _ := c.up(segment)
		s.tcp.row("IHL beyond the end", []shot{{from: s.client, frame: in}}, drop("ip_len", 1))
	}
}

// wrongSums stay wrong, and lead to nothing.
func wrongSums(s *stage) {
	rows.Proves(s.t, 20, 72)
	c := s.tcp.open()
	as := func(seq uint32, payload int) func([]byte) bool {
		return func(f []byte) bool {
			return len(f) == 54+payload && binary.BigEndian.Uint32(f[38:]) == seq
		}
	}
	for _, size := range []int{0, 1, 1000} {
		ip := seg(packet.ACK, c.cseq, c.mseq).with(size)
		ip.ip.Sum = packet.SumBad
		tcp := seg(packet.ACK, c.cseq, c.mseq).with(size)
		tcp.tcp.Sum = packet.SumBad
		for name, segment := range map[string]segment{"IP": ip, "TCP": tcp} {
			in, _ := c.up(segment)
			s.tcp.row("wrong sum of "+name, []shot{{from: s.client, frame: in}}, outcome{
				forwarded: 1, atMember: []seen{{what: "the segment", is: as(c.cseq, size), wrong: true}},
			})
			segment.tcp.Seq, segment.tcp.Ack = c.mseq, c.cseq
			in, _ = c.down(segment)
			s.tcp.row("member's wrong sum of "+name, []shot{{from: s.member, frame: in}}, outcome{
				forwarded: 1, atClient: []seen{{what: "the segment", is: as(c.mseq, size), wrong: true}},
			})
		}
	}
	syn := seg(packet.SYN, clientISN, 0)
	syn.tcp.Sum = packet.SumBad
	fresh := s.tcp.fresh()
	in, _ := fresh.up(syn)
	arrives := fresh.syn()
	arrives.wrong = true
	s.tcp.row("SYN with a wrong sum", []shot{{from: s.client, frame: in}},
		outcome{forwarded: 1, handshakes: 1, atMember: []seen{arrives}})
	ack, _ := fresh.up(seg(packet.ACK, fresh.cseq, fresh.mseq))
	s.tcp.row("no flow comes of it", []shot{{from: s.client, frame: ack}}, drop("bad_ack", 1))
}

// fragments end here, in whatever order they come.
func fragments(s *stage) {
	rows.Proves(s.t, 30, 33)
	c := s.tcp.open()
	whole, _ := c.up(seg(packet.ACK, c.cseq, c.mseq).with(2000))
	piece := func(id uint16, offset, length int, more bool) shot {
		ip := packet.IPv4{
			Src: rawClient, Dst: s.tcp.at.Addr(), TTL: 64, ID: id, FragmentOffset: offset, MF: more,
			Protocol: new(uint8(packet.ProtoTCP)),
		}
		return shot{from: s.client, frame: s.frame(ip, packet.Payload(whole[34:][:length]))}
	}
	for name, shots := range map[string][]shot{
		"in order":        {piece(1, 0, 800, true), piece(1, 800, 800, true), piece(1, 1600, 400, false)},
		"last first":      {piece(2, 1600, 400, false), piece(2, 800, 800, true), piece(2, 0, 800, true)},
		"twice":           {piece(3, 0, 800, true), piece(3, 0, 800, true)},
		"overlapping":     {piece(4, 0, 800, true), piece(4, 400, 800, true), piece(4, 392, 400, false)},
		"beyond the end":  {piece(5, 65528, 1000, false), piece(5, 65520, 16, true)},
		"8 bytes of TCP":  {piece(6, 0, 8, true), piece(6, 8, 800, false)},
		"of no bytes":     {piece(7, 0, 0, true), piece(7, 8, 0, false)},
		"all of one byte": {piece(8, 0, 1, true), piece(8, 8, 1, true), piece(8, 16, 1, false)},
	} {
		s.tcp.row(name, shots, drop("frag", len(shots)))
	}
	const many = 100_000
	shots := make([]shot, many)
	for i := range shots {
		shots[i] = piece(uint16(i), 0, 24, true)
		binary.BigEndian.PutUint32(shots[i].frame[26:], uint32(0x0a000000+i)) // from 10.0.0.0 on
	}
	want := drop("frag", many)
	want.within = 20 * time.Second
	s.tcp.row("many", shots, want)
}

// others are no business of the balancer's.
func others(s *stage) {
	rows.Proves(s.t, 27, 41, 42, 44)
	for _, port := range []uint16{1, 22, 79, 443, 1023, 65024, 65535} {
		ip := packet.IPv4{Src: rawClient, Dst: s.tcp.at.Addr(), TTL: 64, DF: true}
		syn := packet.TCP{SrcPort: 30000, DstPort: port, Flags: packet.SYN, Seq: clientISN, Window: 64240}
		s.tcp.row(fmt.Sprintf("SYN to port %d", port), []shot{{from: s.client, frame: s.frame(ip, syn)}}, outcome{
			passed: 1, atClient: []seen{{what: "the stack's RST", is: func(f []byte) bool {
				return len(f) >= 54 && f[23] == packet.ProtoTCP && f[47]&byte(packet.RST) != 0 && binary.BigEndian.Uint16(f[34:]) == port
			}}},
		})
	}
	ip := packet.IPv4{Src: rawClient, Dst: s.tcp.at.Addr(), TTL: 64}
	udp := packet.UDP{SrcPort: 30000, DstPort: 53}
	s.tcp.row("datagram to port 53", []shot{{from: s.client, frame: s.frame(ip, udp, packet.Repeat(100))}}, outcome{
		passed: 1, atClient: []seen{{what: "the stack's port unreachable", is: func(f []byte) bool {
			return len(f) >= 42 && f[23] == packet.ProtoICMPv4 && f[34] == 3 && f[35] == 3
		}}},
	})
	ip.Dst = netip.MustParseAddr("172.16.100.200")
	tcp := packet.TCP{SrcPort: 30000, DstPort: 80, Flags: packet.SYN}
	s.tcp.row("to another address", []shot{
		{from: s.client, frame: s.frame(ip, udp, packet.Repeat(10))}, {from: s.client, frame: s.frame(ip, tcp)},
	}, outcome{passed: 2})

	// The stack tells that it does not know a protocol, in its own time, and unpacks none.
	inner := packet.Frame(packet.IPv4{Src: rawClient, Dst: s.tcp.at.Addr(), TTL: 64}, tcp)
	for _, proto := range []uint8{0, packet.ProtoIPv4, packet.ProtoIPv6, 47, packet.ProtoESP, 132, 255} {
		ip := packet.IPv4{Src: rawClient, Dst: s.tcp.at.Addr(), TTL: 64, Protocol: &proto}
		shots := make([]shot, 50)
		for i := range shots {
			shots[i] = shot{from: s.client, frame: s.frame(ip, packet.Payload(inner))}
		}
		s.tcp.row(fmt.Sprintf("protocol %d", proto), shots, outcome{passed: len(shots), atMost: stackBurst, limited: seen{
			what: "protocol unreachable", is: func(f []byte) bool {
				return len(f) >= 42 && f[23] == packet.ProtoICMPv4 && f[34] == 3 && f[35] == 2
			},
		}})
	}
}

// stackBurst is how many errors a Linux stack sends to one host before it slows down to
// one a second.
const stackBurst = 6
