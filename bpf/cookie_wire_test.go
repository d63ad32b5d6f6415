package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

// The segments of our own that a connection by cookie needs are made of packets that
// come as they like: sums left to the device, super-packets, with data.
func TestCookiesOnAWire(t *testing.T) {
	for _, o := range []options{{calm: 1}, {calm: 1, ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			w := newWire(t, newWorld(t, tcHook, o))
			w.handshakeInFlight()
			for n, c := range []struct {
				partial       bool
				payload, size int
			}{{false, 0, 0}, {true, 0, 0}, {false, 1000, 0}, {true, 1000, 0}, {true, 2800, 1400}} {
				w.from = netip.AddrPortFrom(w.from.Addr(), uint16(42000+n))
				w.lives(fmt.Sprintf("%+v", c), c.partial, c.payload, c.size)
			}
		})
	}
}

// handshakeInFlight makes the pool answer all other SYNs by cookies.
func (w *wire) handshakeInFlight() {
	w.Helper()
	other := netip.AddrPortFrom(w.from.Addr(), 41000)
	in := seg(packet.SYN, clientISN, 0).frame(w.leftMAC, w.clientMAC, other, w.gen.VIP.Address)
	w.exchange("first SYN", w.client, afpacket.Header{}, in, w.toMember())
}

// own compares what comes out with a segment of the balancer's own making.
func (w *wire) own(what string, got []byte, s segment, toClient bool) {
	w.Helper()
	s.ip = packet.IPv4{TTL: 64, DF: true}
	want := s.frame(w.memberMAC, w.rightMAC, w.nat(), w.memberAddress())
	if toClient {
		want = s.frame(w.clientMAC, w.leftMAC, w.gen.VIP.Address, w.from)
	}
	if d := packet.Diff(got, want); d != "" {
		w.Errorf("%s:\n%s", what, d)
	}
}

// comes is a segment as it comes in, and how.
func (w *wire) comes(s segment, fromMember, partial bool, size int) ([]byte, afpacket.Header) {
	h := afpacket.Header{}
	if partial {
		s, h = s.partial(), w.header(uint16(size))
	}
	if fromMember {
		return s.frame(w.rightMAC, w.memberMAC, w.memberAddress(), w.nat()), h
	}
	return s.frame(w.leftMAC, w.clientMAC, w.from, w.gen.VIP.Address), h
}

// lives is a connection by cookie from its first segment to data both ways.
func (w *wire) lives(what string, partial bool, payload, size int) {
	w.Helper()
	in, h := w.comes(cookieSYN().with(payload%1400), false, partial, 0)
	got := w.exchange(what+": SYN", w.client, h, in, w.toClient())
	cookie := binary.BigEndian.Uint32(got[transportOf(got)+4:])
	w.own(what+": SYN+ACK", got, withWindow(seg(packet.SYN|packet.ACK, cookie, clientISN+1).options(packet.MSS(w.known(1460))), 0), true)

	w.cseq, w.mseq = clientISN+1, cookie+1
	in, h = w.comes(withWindow(seg(packet.ACK, w.cseq, w.mseq).with(payload), 999), false, partial, size)
	got = w.exchange(what+": ACK", w.client, h, in, w.toMember())
	w.natPort = binary.BigEndian.Uint16(got[transportOf(got):])
	w.gen.Members[0].Address = w.memberOf(got)
	w.own(what+": SYN to the member", got, withWindow(seg(packet.SYN, clientISN, 0).options(packet.MSS(w.known(1460))), 999), false)

	answer := withWindow(seg(packet.SYN|packet.ACK, memberISN, w.cseq).options(packet.MSS(1400), packet.NOPs(8)), 4321)
	for _, window := range []uint16{999, 1220} { // the second time its answer got lost
		in, h = w.comes(answer, true, partial, 0)
		got = w.exchange(what+": ACK to the client", w.member, h, in, w.toClient())
		w.own(what+": ACK to the client", got, withWindow(seg(packet.ACK, w.mseq, w.cseq), 4321), true)
		w.own(what+": ACK to the member", w.await(what+": ACK to the member", w.toMember()),
			withWindow(seg(packet.ACK, w.cseq, memberISN+1), window), false)
	}
	w.carriesShifted(what, partial, payload, size)
}

// carriesShifted sends data both ways, each in its sender's numbers.
func (w *wire) carriesShifted(what string, partial bool, payload, size int) {
	w.Helper()
	shift := w.mseq - (memberISN + 1)
	up := seg(packet.ACK, w.cseq, w.mseq).with(payload)
	in, h := w.comes(up, false, partial, size)
	got := w.exchange(what+": client's data", w.client, h, in, w.toMember())
	up.ip.TTL--
	up.tcp.Ack -= shift
	w.arrives(what+": client's data", w.toMember(), got, up, size, func(s segment) []byte {
		return s.frame(w.memberMAC, w.rightMAC, w.nat(), w.memberAddress())
	})
	down := seg(packet.ACK, w.mseq-shift, w.cseq+uint32(payload)).with(payload)
	in, h = w.comes(down, true, partial, size)
	got = w.exchange(what+": member's data", w.member, h, in, w.toClient())
	down.ip.TTL--
	down.tcp.Seq += shift
	w.arrives(what+": member's data", w.toClient(), got, down, size, func(s segment) []byte {
		return s.frame(w.clientMAC, w.leftMAC, w.gen.VIP.Address, w.from)
	})
}

// memberOf is where a frame goes to.
func (w *wire) memberOf(frame []byte) netip.AddrPort {
	to, _ := addressesOf(frame)
	return netip.AddrPortFrom(to, binary.BigEndian.Uint16(frame[transportOf(frame)+2:]))
}

func withWindow(s segment, window uint16) segment {
	s.tcp.Window = window
	return s
}
