package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

func TestNAT(t *testing.T) {
	rows.Proves(t, 8, 18, 20, 21, 22, 23, 24, 25, 26, 39)
	onHooks(t, options{}, func(w *world) {
		w.run("IP options", ipOptions)
		w.run("TTL", ttl)
		w.run("what is not ours to change", untouchedBits)
		w.run("padding", padding)
		w.run("sums that were wrong", badSums)
		w.run("any client", anyClient)
		w.run("client in the subnet", func(w *world) {
			c := w.open(netip.AddrPortFrom(neighbor, 50000), 0, 1024)
			c.works()
		})
		w.run("member as client", func(w *world) {
			c := w.open(netip.AddrPortFrom(memberAddress(1).Addr(), 50000), 0, 1024)
			c.works()
			c = w.open(memberAddress(2), 1, 1024) // from its service port
			c.works()
		})
		w.run("MTU of the route", routeMTU)
		w.run("no route", noRoute)
		w.run("neighbour not known", noNeighbour)
		w.run("super-packets", superPackets)
	})
}

// ipOptions: whatever they are, there is no use for them in what is balanced, and a
// source route would send it elsewhere. Neither side's get through, and no flow is made.
func ipOptions(w *world) {
	rows.Proves(w, 18)
	c := w.open(w.client(1), 0, firstPort)
	all := [][]byte{
		{131, 7, 4, 192, 0, 2, 1, 0}, {137, 7, 4, 192, 0, 2, 1, 0}, {148, 4, 0, 0}, {68, 8, 5, 0, 0, 0, 0, 0},
	}
	for words := 1; words <= 10; words++ {
		all = append(all, append(bytes.Repeat([]byte{1}, 4*words-1), 0)) // NOPs, end of options
	}
	for _, options := range all {
		for _, s := range []segment{
			seg(packet.SYN, clientISN, 0), seg(packet.ACK, c.cseq, c.mseq).with(11), seg(packet.RST, c.cseq, 0), datagram(8),
		} {
			s.ip.Options = options
			what := fmt.Sprintf("options % x", options)
			in, _ := c.up(s)
			w.expect(what+" from the client", in, drops("ip_opts"))
			in, _ = c.down(s)
			w.expect(what+" from the member", in, drops("ip_opts"))
			in, _ = conn{w: w, client: w.client(2)}.up(s)
			w.expect(what+" from a stranger", in, drops("ip_opts"))
		}
		s := seg(packet.SYN, 1, 0)
		s.ip.Options = options
		w.expect("options for another host", s.arrives(w.client(1), netip.MustParseAddrPort("172.16.100.77:80")), passes())
	}
	c.works()
}

// ttl: what cannot travel further ends here, before it has left any trace.
func ttl(w *world) {
	at := func(s segment, ttl uint8) segment {
		s.ip.TTL = ttl
		return s
	}
	spent := func(what string, n uint8, in []byte) {
		w.expect(fmt.Sprintf("%s with TTL %d", what, n), in, answers("ttl", icmpAnswer(in, packet.TimeExceeded())))
	}
	c := conn{w: w, client: client(1), port: 1024, cseq: clientISN + 1, mseq: memberISN}
	for _, n := range []uint8{0, 1} {
		in, _ := c.up(at(seg(packet.SYN, clientISN, 0), n))
		spent("SYN", n, in)
	}
	c = w.synWith(client(1), 0, 1024, at(seg(packet.SYN, clientISN, 0), 2))
	for _, n := range []uint8{0, 1} {
		in, _ := c.down(at(seg(packet.RST|packet.ACK, 0, c.cseq), n))
		spent("member's RST", n, in)
		in, _ = c.down(at(seg(packet.SYN|packet.ACK, c.mseq, c.cseq), n))
		spent("SYN-ACK", n, in)
	}
	c = c.synAck()
	for _, n := range []uint8{0, 1} {
		in, _ := c.up(at(seg(packet.ACK, c.cseq, c.mseq), n))
		spent("ACK", n, in)
	}
	c = c.ack()
	for _, n := range []uint8{0, 1} {
		for _, flags := range []packet.Flags{packet.ACK, packet.FIN | packet.ACK, packet.RST} {
			in, _ := c.up(at(seg(flags, c.cseq, c.mseq), n))
			spent("client's "+flags.String(), n, in)
			in, _ = c.down(at(seg(flags, c.mseq, c.cseq), n))
			spent("member's "+flags.String(), n, in)
		}
	}
	for _, n := range []uint8{2, 3, 64, 128, 255} {
		c.sends(fmt.Sprintf("TTL %d", n), at(seg(packet.ACK, c.cseq, c.mseq), n))
		c.gets(fmt.Sprintf("TTL %d", n), at(seg(packet.ACK, c.mseq, c.cseq), n))
	}
}

// signatures are TCP-MD5's and TCP-AO's: carried on as they are, though they cover
// addresses and ports, and so can never be right behind a NAT.
func signatures() []packet.TCPOption {
	return []packet.TCPOption{
		append(packet.TCPOption{19, 18}, bytes.Repeat([]byte{0xab}, 16)...),
		append(packet.TCPOption{29, 16, 1, 2}, bytes.Repeat([]byte{0xcd}, 12)...),
	}
}

func untouchedBits(w *world) {
	rows.Proves(w, 71)
	s := seg(packet.SYN|packet.ECE|packet.CWR|packet.AE, clientISN, 0)
	s.ip.DF = false
	c := w.synWith(client(1), 0, 1024, s).synAck().ack()
	for name, change := range map[string]func(s *segment){
		"DSCP 46":          func(s *segment) { s.ip.TOS = 46 << 2 },
		"congestion seen":  func(s *segment) { s.ip.TOS = 3 },
		"reserved IP bit":  func(s *segment) { s.ip.Reserved = true },
		"without DF":       func(s *segment) { s.ip.DF = false },
		"ID 0xffff":        func(s *segment) { s.ip.ID = 0xffff },
		"urgent":           func(s *segment) { s.tcp.Flags |= packet.URG; s.tcp.Urgent = 7 },
		"ECE":              func(s *segment) { s.tcp.Flags |= packet.ECE },
		"CWR":              func(s *segment) { s.tcp.Flags |= packet.CWR },
		"AE":               func(s *segment) { s.tcp.Flags |= packet.AE },
		"reserved bits":    func(s *segment) { s.tcp.Flags |= 0xe00 },
		"window 0":         func(s *segment) { s.tcp.Window = 0 },
		"payload of 1":     func(s *segment) { s.data = packet.Repeat(1) },
		"payload of 1460":  func(s *segment) { s.data = packet.Repeat(1460) },
		"an MD5 signature": func(s *segment) { s.tcp.Options = signatures()[:1] },
		"an AO signature":  func(s *segment) { s.tcp.Options = signatures()[1:] },
	} {
		s := seg(packet.ACK, c.cseq, c.mseq)
		change(&s)
		c.sends(name, s)
		s = seg(packet.ACK, c.mseq, c.cseq)
		change(&s)
		c.gets(name, s)
	}
	for n, signature := range signatures() {
		w.synWith(client(2+n), 1+n, 1024, seg(packet.SYN, clientISN, 0).options(packet.MSS(1460), signature))
	}
}

// padding: a short frame is filled up on a real wire, with anything; it is no payload.
func padding(w *world) {
	c := w.open(client(1), 0, 1024)
	in, out := c.up(seg(packet.ACK, c.cseq, c.mseq))
	filler := []byte{0xde, 0xad, 0xbe, 0xef, 0xff, 0x01}
	w.expect("60-byte frame", append(in, filler...), forwards(append(out, filler...), toMember(0, in)))
	c.works() // the padding moved no sequence number
	in, out = c.up(seg(packet.RST, c.cseq, 0))
	w.expect("RST in a 60-byte frame", append(in, filler...),
		forwards(append(out, filler...), toMember(0, in), closed(0)))
}

// badSums: the sum is changed by what was rewritten and stays as wrong as it was, so
// that the receiver finds out.
func badSums(w *world) {
	rows.Proves(w, 72)
	c := w.open(client(1), 0, 1024)
	c2 := w.open(client(2), 1, 1024)
	for _, n := range []int{0, 1, 100, 1459} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(n)
		bad := s
		bad.tcp.Sum = packet.SumBad
		in, _ := c.up(bad)
		good, out := c.up(s)
		w.wrongAsBefore("TCP sum", 50, in, good, out)

		bad = s
		bad.ip.Sum = packet.SumBad
		in, _ = c.up(bad)
		good, out = c.up(s)
		w.wrongAsBefore("IP sum", 24, in, good, out)
		in, _ = c2.down(bad)
		good, out = c2.down(s)
		w.wrongAsBefore("member's IP sum", 24, in, good, out)
	}
	s := seg(packet.SYN, clientISN, 0)
	s.tcp.Sum = packet.SumBad
	if got := w.send(s.arrives(client(3), vip)); got.action != forwarded || packet.Verify(got.frame) == nil {
		w.Errorf("SYN with a bad sum was %s, %v", got.action, packet.Verify(got.frame))
	}
}

// wrongAsBefore sends in, which is good but for the sum at an offset, and expects
// out, but for a sum that is as far off as it was.
func (w *world) wrongAsBefore(what string, at int, in, good, out []byte) {
	w.Helper()
	got := w.send(in)
	if got.action != forwarded {
		w.Fatalf("bad %s: %s", what, got.action)
	}
	if err := packet.Verify(got.frame); err == nil {
		w.Errorf("bad %s was made good", what)
	}
	was := distance(good[at:], in[at:])
	if is := distance(out[at:], got.frame[at:]); is != was {
		w.Errorf("bad %s was off by %#04x, is off by %#04x", what, was, is)
	}
	copy(got.frame[at:at+2], out[at:])
	if d := packet.Diff(got.frame, out); d != "" {
		w.Errorf("bad %s: also\n%s", what, d)
	}
}

// distance of two sums in one's complement arithmetic.
func distance(a, b []byte) uint16 {
	return uint16((int(binary.BigEndian.Uint16(b)) - int(binary.BigEndian.Uint16(a)) + 0xffff) % 0xffff)
}

// anyClient: addresses, ports and numbers of all kinds, carries included.
func anyClient(w *world) {
	random := w.random()
	for n := range 1000 {
		from := netip.AddrPortFrom(
			netip.AddrFrom4([4]byte{byte(11 + random.IntN(100)), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())}),
			uint16(1+random.IntN(65535)))
		s := seg(packet.SYN, random.Uint32(), 0).options(packet.MSS(uint16(random.Uint32())))
		s.ip.ID, s.tcp.Window = uint16(random.Uint32()), uint16(random.Uint32())
		c := conn{w: w, client: from, slot: n % 3, port: 1024 + uint16(n/3), cseq: s.end(), mseq: random.Uint32()}
		in, out := c.up(s)
		if got := w.only(in); !bytes.Equal(got, out) {
			w.Fatalf("SYN of %s:\n%s", from, packet.Diff(got, out))
		}
		s = seg(packet.SYN|packet.ACK, c.mseq, c.cseq).options(packet.MSS(uint16(random.Uint32())))
		in, out = c.down(s)
		if got := w.only(in); !bytes.Equal(got, out) {
			w.Fatalf("SYN-ACK to %s:\n%s", from, packet.Diff(got, out))
		}
		w.sums("SYN-ACK", out)
	}
}

// moveMember gives the member in slot 0 another address, and all turns.
func (w *world) moveMember(to netip.Addr) {
	w.configure(func(g *maps.Generation) {
		g.Members[0].Address = netip.AddrPortFrom(to, 80)
		g.Schedule = []uint16{0}
	})
}

func routeMTU(w *world) {
	w.moveMember(narrow)
	c := w.open(client(1), 0, 1024)
	const room = narrowMTU - 40
	c.sends("as long as the route takes", seg(packet.ACK, c.cseq, c.mseq).with(room))
	long := seg(packet.ACK, c.cseq, c.mseq).with(room + 1)
	in, _ := c.up(long)
	w.expect("a byte too long", in, answers("too_big", icmpAnswer(in, packet.FragNeeded(narrowMTU))).refreshing())
	long.ip.DF = false
	in, _ = c.up(long)
	w.expect("a byte too long, and may be cut", in, drops("too_big").refreshing())
	// The other way there is more room.
	c.gets("1500 bytes", seg(packet.ACK, c.mseq, c.cseq).with(1460))
	// A super-packet is as long as its segments.
	s := seg(packet.ACK, c.cseq, c.mseq).with(2 * room)
	in, out := c.up(s)
	counts := delta{"m0.packets_in": 2, "m0.bytes_in": 2 * narrowMTU}
	w.expectGSO("two segments that fit", in, gso{2, room}, forwards(out, counts))
	w.expectGSO("segments that are too long", in, gso{2, room + 1},
		answers("too_big", icmpAnswer(in, packet.FragNeeded(narrowMTU))).refreshing())
}

// noRoute: the handshake waits for the route as it would for a silent member.
func noRoute(w *world) {
	w.moveMember(nowhere)
	in := seg(packet.SYN, clientISN, 0).arrives(client(1), vip)
	w.expect("SYN", in, drops("no_route", opened(0)))
	w.expect("SYN again", in, drops("no_route").refreshing())
}

// noNeighbour: the kernel asks who has the address, and sends the packet then.
func noNeighbour(w *world) {
	w.moveMember(silent)
	c := conn{w: w, client: client(1), port: 1024, cseq: clientISN + 1, mseq: memberISN}
	in, out := c.up(seg(packet.SYN, clientISN, 0))
	w.expect("SYN", in, forwards(out, opened(0), toMember(0, in)).unresolved(in))
	w.expect("SYN again", in, forwards(out, toMember(0, in)).unresolved(in))
	c = c.synAck() // the client's side is known
	in, out = c.up(seg(packet.ACK, c.cseq, c.mseq))
	w.expect("ACK", in, forwards(out, established(0), toMember(0, in)).unresolved(in))
	c.gets("data", seg(packet.ACK, c.mseq, c.cseq).with(10))
	in, out = c.up(seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
	w.expect("FIN", in, forwards(out, toMember(0, in)).unresolved(in))
	in, out = c.up(seg(packet.RST, c.cseq+1, 0))
	w.expect("RST", in, forwards(out, toMember(0, in), closed(0)).unresolved(in))
	// The same for a RST that ends a handshake: XDP leaves it to tc as it was.
	c = conn{w: w, client: client(2), port: 1025, cseq: clientISN + 1, mseq: memberISN}
	in, out = c.up(seg(packet.SYN, clientISN, 0))
	w.expect("SYN", in, forwards(out, opened(0), toMember(0, in)).unresolved(in))
	c = c.synAck()
	in, out = c.up(seg(packet.RST, c.cseq, 0))
	w.expect("RST", in, forwards(out, toMember(0, in), forgotten(0)).unresolved(in))
}

// superPackets pass whole, and count as the segments that they will be.
func superPackets(w *world) {
	c := w.open(client(1), 0, 1024)
	for _, n := range []struct{ payload, size, segments int }{
		{3000, 1000, 3}, {3000, 1460, 3}, {2921, 1460, 3}, {3500, 100, 35}, {1461, 1460, 2},
	} {
		g := gso{uint32(n.segments), uint32(n.size)}
		name := fmt.Sprintf("%d bytes in segments of %d", n.payload, n.size)
		wire := int64(n.payload + n.segments*40)

		in, out := c.up(seg(packet.ACK, c.cseq, c.mseq).with(n.payload))
		w.expectGSO(name+" from the client", in, g,
			forwards(out, delta{"m0.packets_in": int64(n.segments), "m0.bytes_in": wire}))
		in, out = c.down(seg(packet.ACK, c.mseq, c.cseq).with(n.payload))
		w.expectGSO(name+" from the member", in, g,
			forwards(out, delta{"m0.packets_out": int64(n.segments), "m0.bytes_out": wire}))
	}
}
