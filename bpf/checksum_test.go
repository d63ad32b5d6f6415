package bpf_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// TestEveryChecksum: whatever a checksum was before, from 0 to 0xffff, after the change
// of addresses, ports and hops it is what a full computation over the new packet gives.
// Addresses and ports are chance's.
func TestEveryChecksum(t *testing.T) {
	rows.Proves(t, 73)
	for _, o := range []options{{}, {ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			onHooks(t, o, func(w *world) {
				w.run("TCP", everySum)
				w.run("UDP", func(w *world) {
					w.listenUDP()
					everySum(w)
				})
				if w.hook == tcHook { // XDP leaves them to it
					w.run("quotes", everyQuotedSum)
				}
			})
		})
	}
}

// trial counts cases and tells of the first ones that fail.
type trial struct {
	*world
	tries, failures int
}

func (t *trial) compare(what string, in, want []byte) {
	t.Helper()
	t.tries++
	code, got, tried, err := t.through(in)
	if err == nil && tried && code == tcRedirect && bytes.Equal(got, want) {
		return
	}
	t.failures++
	if t.failures <= 5 {
		t.Errorf("%s: code %d, %v\n%s", what, int32(code), err, packet.Diff(got, want))
	}
}

func (t *trial) end() {
	t.Helper()
	report(t, map[string]any{"tries": t.tries, "failures": t.failures})
}

// anywhere is a client's address and port, behind the gateway.
func (w *world) anywhere(r *rand.Rand) netip.AddrPort {
	from := netip.AddrFrom4([4]byte{byte(11 + r.IntN(100)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
	return netip.AddrPortFrom(w.host(netip.AddrPortFrom(from, 1)).Addr(), uint16(1+r.IntN(65535)))
}

// anyConnection is one from there to the member whose port is not the listener's.
func (w *world) anyConnection(r *rand.Rand) conn {
	w.Helper()
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{1} })
	from := w.anywhere(r)
	if w.gen.VIP.Protocol == maps.TCP {
		return w.quick(from)
	}
	got := w.send(datagram(2).arrives(from, w.gen.VIP.Address))
	if got.action != forwarded {
		w.Fatalf("datagram of %s was %s", from, got.action)
	}
	slot, port := w.chosen(got.frame)
	return conn{w: w, client: from, slot: slot, port: port}
}

func everySum(w *world) {
	t := &trial{world: w}
	c := w.anyConnection(w.random())
	up, down := seg(packet.ACK, c.cseq, c.mseq), seg(packet.ACK, c.mseq, c.cseq)
	if w.gen.VIP.Protocol == maps.UDP {
		up, down = datagram(0), datagram(0)
	}
	in, out := c.up(up.with(2))
	t.everySumOf("client's", in, out)
	in, out = c.down(down.with(2))
	t.everySumOf("member's", in, out)
	t.end()
}

// everySumOf sends a packet with a payload of two bytes again and again. These bytes
// and, over IPv4, the packet's id make its sums take every value.
func (t *trial) everySumOf(whose string, in, out []byte) {
	t.Helper()
	before, after := summedOf(in), summedOf(out)
	zero := before.computed([2]byte{})
	for n := range 0x10000 {
		field := uint16(n)
		payload := [2]byte{}
		// What makes the sum come out as field; 0 and 0xffff are one number.
		binary.BigEndian.PutUint16(payload[:], uint16((uint32(^field)+uint32(zero))%0xffff))
		before.put(field, payload, uint16(n))
		after.put(after.computed(payload), payload, uint16(n))
		if before.udp && field == 0 { // it has none
			after.put(0, payload, uint16(n))
		}
		t.compare(whose, in, out)
	}
}

// summed is a TCP or UDP packet whose last two bytes are its payload, and whose sums are
// set by hand.
type summed struct {
	frame  []byte
	l4     int
	at     int // of the transport's sum
	udp    bool
	pseudo []byte // header, which the sum covers too
}

func summedOf(frame []byte) summed {
	s := summed{frame: frame, l4: transportOf(frame)}
	ip := frame[ethernetLength:s.l4]
	proto, addresses := ip[6], ip[8:]
	if ip[0]>>4 == 4 {
		proto, addresses = ip[9], ip[12:]
	}
	s.at, s.udp = s.l4+16, proto == packet.ProtoUDP
	if s.udp {
		s.at = s.l4 + 6
	}
	s.pseudo = append(bytes.Clone(addresses), 0, proto)
	s.pseudo = binary.BigEndian.AppendUint16(s.pseudo, uint16(len(frame)-s.l4))
	return s
}

// computed is the transport's sum, in full, with that payload.
func (s summed) computed(payload [2]byte) uint16 {
	covered := append(bytes.Clone(s.pseudo), s.frame[s.l4:]...)
	copy(covered[len(s.pseudo)+s.at-s.l4:], []byte{0, 0})
	copy(covered[len(covered)-2:], payload[:])
	sum := packet.Checksum(covered)
	if s.udp && sum == 0 {
		return 0xffff
	}
	return sum
}

// put sets the transport's sum, the payload and, over IPv4, the packet's id and its
// header's sum, computed in full.
func (s summed) put(sum uint16, payload [2]byte, id uint16) {
	binary.BigEndian.PutUint16(s.frame[s.at:], sum)
	copy(s.frame[len(s.frame)-2:], payload[:])
	ip := s.frame[ethernetLength:s.l4]
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[4:], id)
		copy(ip[10:], []byte{0, 0})
		binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip))
	}
}

// everyQuotedSum: an ICMP error's own sum takes every value by the sequence number in a
// quote of eight bytes, and the quoted segment's by the payload of a whole one.
func everyQuotedSum(w *world) {
	t := &trial{world: w}
	c := w.anyConnection(w.random())
	e := w.errors()[0].layer
	own, quoted := map[uint16]bool{}, map[uint16]bool{}
	for n := range 0x10000 {
		for _, fromClient := range []bool{true, false} {
			s := seg(packet.ACK, c.cseq, c.mseq)
			if !fromClient {
				s = seg(packet.ACK, c.mseq, c.cseq)
			}
			whole := s
			whole.data = binary.BigEndian.AppendUint16(nil, uint16(n))
			in, out := w.errorPair(c, whole, fromClient, e, 0, 64)
			quoted[binary.BigEndian.Uint16(in[len(in)-6:])] = true
			t.compare("whole quote", in, out)
			s.tcp.Seq += uint32(n)
			in, out = w.errorPair(c, s, fromClient, e, 8, 64)
			own[binary.BigEndian.Uint16(in[icmpOffset(in)+2:])] = true
			t.compare("short quote", in, out)
		}
	}
	if len(own) < 0xffff || len(quoted) < 0xffff {
		t.Errorf("only %d own sums and %d quoted ones were tried", len(own), len(quoted))
	}
	t.end()
}
