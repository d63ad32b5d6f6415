package hostile

import (
	"encoding/binary"
	"fmt"

	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
	"qlbaas/tests/rows"
)

// partialTCP and partialUDP leave the sum to the device.
var (
	partialTCP = afpacket.Header{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}
	partialUDP = afpacket.Header{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}
)

// segments is how often the program meets a super-packet: as one where the kernel hands
// it on whole, which it does not to XDP.
func (s *stage) segments(n int) int {
	if s.hook == "xdp" {
		return n
	}
	return 1
}

// pieces are a super-packet's segments as they arrive.
func pieces(way func(segment) ([]byte, []byte), whole segment, size int) (all []seen) {
	payload := whole.data
	for at := 0; at < len(payload); at += size {
		one := whole
		one.data = payload[at:min(at+size, len(payload))]
		_, out := way(one)
		all = append(all, exactly(out))
		whole.tcp.Seq += uint32(len(one.data))
		whole.ip.ID++
	}
	return all
}

// superPackets travel whole, and are cut after the balancer, with good sums.
func superPackets(s *stage) {
	rows.Proves(s.t, 4)
	const size = 1460
	h := partialTCP
	h.GSO, h.HeaderLength, h.SegmentSize = afpacket.GSOTCPv4, 54, size
	c := s.tcp.open()
	for _, length := range []int{20_000, size + 1, 2 * size} {
		up, down := seg(packet.ACK, c.cseq, c.mseq).with(length), seg(packet.ACK, c.mseq, c.cseq).with(length)
		upIn, _ := c.up(up.partial())
		downIn, _ := c.down(down.partial())
		atMember, atClient := pieces(c.up, up, size), pieces(c.down, down, size)
		s.tcp.row(fmt.Sprintf("%d bytes", length), []shot{
			{from: s.client, frame: upIn, header: h}, {from: s.member, frame: downIn, header: h},
		}, outcome{forwarded: 2 * s.segments(len(atMember)), atMember: atMember, atClient: atClient})
	}
	for _, linear := range []uint16{0, 14, 40} { // the kernel reads the rest from pages
		few := h
		few.HeaderLength = linear
		up := seg(packet.ACK, c.cseq, c.mseq).with(20_000)
		in, _ := c.up(up.partial())
		atMember := pieces(c.up, up, size)
		s.tcp.row(fmt.Sprintf("20 kB with %d linear bytes", linear), []shot{{from: s.client, frame: in, header: few}},
			outcome{forwarded: s.segments(len(atMember)), atMember: atMember})
	}
	strayed := s.tcp.fresh()
	strayed.port += 10000
	in, _ := strayed.up(seg(packet.ACK, straySeq, strayAck).with(2 * size).partial())
	strayed.port -= 10000
	n := s.segments(2)
	var resets []seen
	for range n {
		resets = append(resets, exactly(strayed.reset()))
	}
	s.tcp.row("of no flow", []shot{{from: s.client, frame: in, header: h}},
		outcome{drops: map[string]int{"no_entry": n}, answered: n, atClient: resets})
}

// superDatagrams likewise.
func superDatagrams(s *stage) {
	rows.Proves(s.t, 5)
	const size, count = 1000, 10
	c := s.udp.fresh()
	in, _ := c.up(datagram(10))
	got := s.udp.carry(s.client, in, s.member, func(f []byte) bool {
		return len(f) == 52 && f[23] == packet.ProtoUDP && binary.BigEndian.Uint16(f[36:]) == udpService
	})
	c.nat = binary.BigEndian.Uint16(got[34:])
	h := partialUDP
	h.GSO, h.HeaderLength, h.SegmentSize = afpacket.GSOUDP, 42, size
	up, _ := c.up(datagram(size * count).partial())
	down, _ := c.down(datagram(size * count).partial())
	s.udp.row("ten datagrams each way", []shot{
		{from: s.client, frame: up, header: h}, {from: s.member, frame: down, header: h},
	}, outcome{
		forwarded: 2 * s.segments(count),
		atMember:  pieces(c.up, datagram(size*count), size), atClient: pieces(c.down, datagram(size*count), size),
	})
	one, _ := c.up(datagram(100).partial())
	_, out := c.up(datagram(100))
	s.udp.row("one, partial", []shot{{from: s.client, frame: one, header: partialUDP}},
		outcome{forwarded: 1, atMember: []seen{exactly(out)}})
}

// partialSums are right when they arrive, whether the balancer's device completes them
// or the bridge's port, and in what the balancer answers.
func partialSums(s *stage) {
	rows.Proves(s.t, 6)
	defer s.tcp.offload("off")
	for _, state := range []string{"on", "off"} {
		if s.hook == "xdp" && state == "on" {
			continue // there the agent keeps it off, or the sums would be wrong
		}
		s.tcp.offload(state)
		c := s.tcp.open()
		for _, size := range []int{0, 1, 1000} {
			up, down := seg(packet.ACK, c.cseq, c.mseq).with(size), seg(packet.ACK, c.mseq, c.cseq).with(size)
			upIn, _ := c.up(up.partial())
			_, upOut := c.up(up)
			downIn, _ := c.down(down.partial())
			_, downOut := c.down(down)
			s.tcp.row(fmt.Sprintf("offload %s, %d bytes", state, size), []shot{
				{from: s.client, frame: upIn, header: partialTCP}, {from: s.member, frame: downIn, header: partialTCP},
			}, outcome{forwarded: 2, atMember: []seen{exactly(upOut)}, atClient: []seen{exactly(downOut)}})
		}
		fresh := s.tcp.fresh()
		in, _ := fresh.up(seg(packet.SYN, clientISN, 0).partial())
		s.tcp.row("SYN, offload "+state, []shot{{from: s.client, frame: in, header: partialTCP}},
			outcome{forwarded: 1, handshakes: 1, atMember: []seen{fresh.syn()}})
		s.partialAnswers(state)
	}
}

// partialAnswers are made of packets whose sum nobody has computed yet.
func (s *stage) partialAnswers(state string) {
	s.t.Helper()
	c := s.tcp.fresh()
	strayed := c
	strayed.port += 10000
	in, _ := strayed.up(seg(packet.ACK, straySeq, strayAck).with(100).partial())
	s.tcp.row("RST, offload "+state, []shot{{from: s.client, frame: in, header: partialTCP}},
		outcome{drops: map[string]int{"no_entry": 1}, answered: 1, atClient: []seen{exactly(c.reset())}})
	spent := seg(packet.SYN, clientISN, 0).with(50)
	spent.ip.TTL = 1
	whole, _ := c.up(spent)
	in, _ = c.up(spent.partial())
	answer := packet.Frame(packet.Ethernet{Dst: s.client.mac, Src: s.tcp.mac},
		packet.IPv4{Src: s.tcp.at.Addr(), Dst: rawClient, TTL: 64, DF: true}, packet.TimeExceeded(), packet.Payload(whole[14:54]))
	want := exactly(answer)
	if s.hook != "xdp" {
		// The sum of the whole is nobody's to know where only its head is left.
		want = seen{what: "time exceeded", frame: answer, is: func(f []byte) bool {
			return len(f) == len(answer) && packet.Diff(zeroed(f), zeroed(answer)) == ""
		}}
	}
	s.tcp.row("time exceeded, offload "+state, []shot{{from: s.client, frame: in, header: partialTCP}},
		outcome{drops: map[string]int{"ttl": 1}, answered: 1, atClient: []seen{want}})
}

// zeroed is an ICMP error without its own sum and that of the quoted segment.
func zeroed(f []byte) []byte {
	out := append([]byte(nil), f...)
	for _, at := range []int{36, 42 + 20 + 16} {
		out[at], out[at+1] = 0, 0
	}
	return out
}

// narrow is the MTU of the way to the member while tooBig plays.
const narrow = 1400

// tooBig packets end here, and their sender hears how long they may be.
func tooBig(s *stage) {
	rows.Proves(s.t, 23, 24, 25)
	route := []string{rawMember.String() + "/32", "dev", "ns-" + s.tcp.device, "mtu", "lock", fmt.Sprint(narrow)}
	s.tcp.inside(append([]string{"ip", "route", "add"}, route...)...)
	defer s.tcp.inside(append([]string{"ip", "route", "del"}, route[:1]...)...)
	c := s.tcp.open() // a flow that there was before would find it only at its next look
	long := seg(packet.ACK, c.cseq, c.mseq).with(1460)
	in, _ := c.up(long)
	answer := func(whole []byte) seen {
		return exactly(packet.Frame(packet.Ethernet{Dst: s.client.mac, Src: s.tcp.mac},
			packet.IPv4{Src: s.tcp.at.Addr(), Dst: rawClient, TTL: 64, DF: true}, packet.FragNeeded(narrow), packet.Payload(whole[14:54])))
	}
	s.tcp.row("may not be cut", []shot{{from: s.client, frame: in}},
		outcome{drops: map[string]int{"too_big": 1}, answered: 1, atClient: []seen{answer(in)}})
	cuttable := long
	cuttable.ip.DF = false
	in, _ = c.up(cuttable)
	s.tcp.row("may be cut", []shot{{from: s.client, frame: in}}, drop("too_big", 1))
	fits, out := c.up(seg(packet.ACK, c.cseq, c.mseq).with(narrow - 40))
	s.tcp.row("fits", []shot{{from: s.client, frame: fits}}, outcome{forwarded: 1, atMember: []seen{exactly(out)}})

	h := partialTCP
	h.GSO, h.HeaderLength, h.SegmentSize = afpacket.GSOTCPv4, 54, 1460
	in, _ = c.up(seg(packet.ACK, c.cseq, c.mseq).with(2 * 1460).partial())
	n := s.segments(2)
	var heard []seen
	for range n {
		heard = append(heard, seen{what: "fragmentation needed", is: func(f []byte) bool {
			return len(f) == 82 && f[34] == 3 && f[35] == 4 && binary.BigEndian.Uint16(f[40:]) == narrow &&
				string(f[42+12:42+24]) == string(in[14+12:14+24]) // addresses and ports
		}})
	}
	s.tcp.row("super-packet of segments that are too long", []shot{{from: s.client, frame: in, header: h}},
		outcome{drops: map[string]int{"too_big": n}, answered: n, atClient: heard})
	h.SegmentSize = narrow - 40
	whole := seg(packet.ACK, c.cseq, c.mseq).with(3 * (narrow - 40))
	in, _ = c.up(whole.partial())
	all := pieces(c.up, whole, narrow-40)
	s.tcp.row("super-packet of segments that fit", []shot{{from: s.client, frame: in, header: h}},
		outcome{forwarded: s.segments(len(all)), atMember: all})
}
