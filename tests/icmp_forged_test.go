package tests

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// forger is somebody who can send what he likes to the VIP, but sees nothing: he has to
// guess what stands in the quote. This one guesses far too well.
type forger struct {
	*ways
	b           *balancer
	client, nat netip.AddrPort // of the connection that he is after
	member      netip.AddrPort
	// clientISN and memberISN are the numbers that its ends have begun with.
	clientISN, memberISN uint32
}

// narrowest is an MTU that is admitted, and what forgers would ask for.
const narrowest = 1280

// farOff is a distance that no window covers; nextTo is one that the balancer lets pass,
// and that the connection has not come to yet.
const (
	farOff = 1 << 30
	nextTo = 1 << 24
)

func (f *forger) tooBig(mtu uint16) packet.Layer {
	if f.VIP.Is6() {
		return packet.PacketTooBig(uint32(mtu))
	}
	return packet.FragNeeded(mtu)
}

func (f *forger) unreachable() packet.Layer {
	if f.VIP.Is6() {
		return packet.Unreachable6(4)
	}
	return packet.Unreachable(3)
}

// either is an error that would hurt: one lowers the path MTU, the other ends connections.
func (f *forger) either(i int) packet.Layer {
	if i%4 < 2 {
		return f.tooBig(narrowest)
	}
	return f.unreachable()
}

func tcpQuote(from, to netip.AddrPort, seq uint32) packet.Quote {
	tcp := packet.TCP{SrcPort: from.Port(), DstPort: to.Port(), Seq: seq, Flags: packet.ACK, Window: 1000}
	return packet.Quote{Packet: append(ipLayer(from.Addr(), to.Addr(), 30), tcp)}
}

// both quotes a segment of the client's and one of the member's by turns.
func (f *forger) both(i int, off uint32) packet.Quote {
	if i%2 == 0 {
		return tcpQuote(f.nat, f.member, f.clientISN+off)
	}
	return tcpQuote(f.b.at, f.client, f.memberISN+off)
}

// ping quotes an answer to a ping, or an ICMP error, that the VIP might have sent to
// either end.
func (f *forger) ping(i int) packet.Quote {
	to := []netip.Addr{f.client.Addr(), f.member.Addr()}[i%2]
	var l packet.Layer = packet.EchoReply(1, uint16(i))
	switch {
	case f.VIP.Is6() && i%4 < 2:
		l = packet.ICMPv6{Type: 129, Rest: 1}
	case f.VIP.Is6():
		l = packet.Unreachable6(4)
	case i%4 >= 2:
		l = packet.Unreachable(3)
	}
	return packet.Quote{Packet: append(ipLayer(f.b.at.Addr(), to, 30), l, packet.Repeat(1200))}
}

// sidelong calls a ping too big where the program has no eye for it: in fragments, and
// to a group that the stack is in.
func (f *forger) sidelong(i int) {
	f.t.Helper()
	layers := append(ipLayer(f.Gateway, f.b.at.Addr(), 64), f.tooBig(narrowest), f.ping(i))
	whole := packet.Frame(layers...)
	const first = 64 // bytes of ICMP
	if !f.VIP.Is6() {
		message, proto := whole[20:], uint8(packet.ProtoICMPv4)
		ip := packet.IPv4{Src: f.Gateway, Dst: f.b.at.Addr(), TTL: 64, ID: uint16(i), Protocol: &proto}
		ip.FragmentOffset = first
		f.sends(ip, packet.Payload(message[first:]))
		ip.FragmentOffset, ip.MF = 0, true
		f.sends(ip, packet.Payload(message[:first]))
		return
	}
	message, proto := whole[40:], uint8(packet.ProtoICMPv6)
	ip := packet.IPv6{Src: f.Gateway, Dst: f.b.at.Addr(), HopLimit: 64, NextHeader: &proto}
	fragment := func(word byte) []packet.Extension {
		return []packet.Extension{{Header: packet.ProtoFragment, Body: []byte{0, word, 0, 0, 0, byte(i)}}}
	}
	ip.Extensions = fragment(first)
	f.sends(ip, packet.Payload(message[first:]))
	ip.Extensions = fragment(1) // more follow
	f.sends(ip, packet.Payload(message[:first]))
	// The frame is for the balancer alone: the test's router would believe it.
	everybody := netip.MustParseAddr("ff02::1")
	f.sends(ipLayer(f.Gateway, everybody, 64)[0], f.tooBig(narrowest), f.ping(i))
}

func (f *forger) sends(layers ...packet.Layer) {
	f.t.Helper()
	f.must(f.wire.Send(packet.Frame(append([]packet.Layer{f.ethernet(f.b)}, layers...)...)))
}

// strangers quotes segments of connections that are not there.
func (f *forger) strangers(i int) packet.Quote {
	other := netip.AddrPortFrom(f.nat.Addr(), 30000+uint16(i))
	return tcpQuote(other, f.member, f.clientISN)
}

// forgedErrors: a thousand of them beside a transfer change no path MTU, end no connection,
// and are counted one by one.
func forgedErrors(x *ways) {
	rows.Proves(x.t, 88, 89, 90, 94)
	member := x.endpoints(5020)[0]
	l := x.server(x.Members[0].Host, member)
	f := &forger{ways: x, b: x.balancer("TCP", member), member: member}
	seen := x.sniff(x.Client, true)
	p := x.pair(f.b, x.Client, l)
	f.client, f.nat = addressOf(p.client.LocalAddr()), addressOf(p.member.RemoteAddr())
	f.clientISN = x.number(seen, f.client.Port(), "SYN")
	f.memberISN = x.number(seen, f.b.at.Port(), "SYN|ACK")
	// Each end moves less than nextTo meanwhile.
	const rounds, perRound, size = 10, 25, 256 << 10
	for round := range rounds {
		moved := make(chan error, 1)
		go func() {
			err := move(p.member, p.client, size, uint64(round))
			if err == nil {
				err = move(p.client, p.member, size, uint64(round))
			}
			moved <- err
		}()
		for i := range perRound {
			x.complains(f.b, f.either(i), f.both(i, farOff))
			x.complains(f.b, f.either(i), f.strangers(i))
			x.complains(f.b, f.tooBig(uint16(68+19*i)), f.both(i, 1))
			x.complains(f.b, f.tooBig(narrowest), f.ping(i))
			x.complains(f.b, f.either(i), f.both(i, nextTo)) // for the ends to judge
		}
		for i := range 4 {
			f.sidelong(i)
		}
		x.must(<-moved)
		for _, reason := range []string{"icmp_seq", "icmp_nomap", "icmp_mtu", "icmp_inner"} {
			f.counts(reason, float64((round+1)*perRound))
		}
	}
	x.learned("the client", x.Client, f.b.at.Addr(), 0)
	x.learned("the member", x.Members[0].Host, f.nat.Addr(), 0)
	x.segments("the client", p.client, 1500)
	x.segments("the member", p.member, 1500)
	for _, to := range []netip.Addr{f.client.Addr(), member.Addr()} {
		x.must(lab.Within(f.b.netns(), func() error {
			routes, err := netlink.NewHandle()
			if err != nil {
				return err
			}
			defer routes.Close()
			mtu, err := pathMTU(routes, to)
			if err == nil && mtu != 0 {
				err = fmt.Errorf("the balancer knows an MTU of %d on the way to %s", mtu, to)
			}
			return err
		}))
	}
	x.bulk(p)
}

// counts waits until exactly n packets were dropped for a reason.
func (f *forger) counts(reason string, n float64) {
	f.t.Helper()
	until(f.t, requestTimeout, func() error {
		now := f.b.drops(reason)
		if now > n {
			f.t.Fatalf("%v packets were dropped as %s, want %v", now, reason, n)
		}
		if now < n {
			return fmt.Errorf("%v packets were dropped as %s, want %v", now, reason, n)
		}
		return nil
	})
}

// number waits for a segment from a port with these flags and returns its sequence number.
func (x *ways) number(seen socket, from uint16, flags string) uint32 {
	x.t.Helper()
	frame := x.await(seen, func(frame []byte) bool { return isSegment(frame, from, flags) })
	return number32(x, frame, "tcp.seq")
}

func isSegment(frame []byte, from uint16, flags string) bool {
	port, err := packet.Find(frame, "tcp.sport")
	if err != nil || port.Value != fmt.Sprint(from) {
		return false
	}
	f, err := packet.Find(frame, "tcp.flags")
	return err == nil && strings.Contains(f.Value, flags)
}
