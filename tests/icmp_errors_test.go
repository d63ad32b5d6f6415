package tests

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// Types and codes of the errors that a test waits for, by family.
func (x *ways) timeExceeded() complaint {
	if x.VIP.Is6() {
		return complaint{kind: 3, errno: unix.EHOSTUNREACH}
	}
	return complaint{kind: 11, errno: unix.EHOSTUNREACH}
}

func (x *ways) portUnreachable() complaint {
	if x.VIP.Is6() {
		return complaint{kind: 1, code: 4, errno: unix.ECONNREFUSED}
	}
	return complaint{kind: 3, code: 3, errno: unix.ECONNREFUSED}
}

func (c complaint) by(a netip.Addr) complaint {
	c.from = a
	return c
}

// wants compares the next error that the socket hears of.
func (p *probe) wants(what string, want complaint) {
	p.x.t.Helper()
	if got := p.hears(); got != want {
		p.x.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// gateway is the router as the client sees it.
func (x *ways) gatewayOfClient() netip.Addr {
	x.t.Helper()
	found, err := x.Client.Netlink().RouteGet(x.VIP.AsSlice())
	x.must(err)
	a, _ := netip.AddrFromSlice(found[0].Gw)
	return a.Unmap()
}

// traceroute: the hops are the router, the VIP, and the member's own answer.
func traceroute(x *ways) {
	rows.Proves(x.t, 21, 93)
	for _, c := range []struct {
		protocol string
		kind     int
	}{{"TCP", unix.SOCK_STREAM}, {"UDP", unix.SOCK_DGRAM}} {
		member := x.endpoints(5010)[0]
		b := x.balancer(c.protocol, member)
		for ttl, hop := range []netip.Addr{x.gatewayOfClient(), b.at.Addr()} {
			p := x.probe(x.Client, c.kind, ttl+1).connect(b.at)
			if c.kind == unix.SOCK_DGRAM {
				p.send("who is there?")
			}
			p.wants(fmt.Sprintf("%s, hop %d", c.protocol, ttl+1), x.timeExceeded().by(hop))
		}
		p := x.probe(x.Client, c.kind, 3).connect(b.at)
		if c.kind == unix.SOCK_DGRAM {
			p.send("who is there?")
			p.wants("UDP, hop 3", x.portUnreachable().by(b.at.Addr()))
			continue
		}
		until(x.t, requestTimeout, func() error { // nobody listens: the member's RST
			n, err := unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && unix.Errno(n) != unix.ECONNREFUSED {
				err = fmt.Errorf("TCP, hop 3: %w, want a RST", unix.Errno(n))
			}
			return err
		})
	}
}

// talk is a flow of datagrams, and what its packets look like on either side.
type talk struct {
	b              *balancer
	client, member *probe
	nat            netip.AddrPort
}

// talk sends a datagram each way.
func (x *ways) talk() talk {
	x.t.Helper()
	at := x.endpoints(5011)[0]
	b := x.balancer("UDP", at)
	t := talk{b: b, client: x.probe(x.Client, unix.SOCK_DGRAM, 64).connect(b.at)}
	t.member = x.probe(x.Members[0].Host, unix.SOCK_DGRAM, 64).bind(at)
	t.client.send("hello")
	t.nat = t.member.receive()
	x.must(unix.Sendto(t.member.fd, []byte("hello"), 0, sockaddr(t.nat)))
	t.client.receive()
	return t
}

// datagram is a datagram as somebody on the way would quote it.
func datagram(from, to netip.AddrPort) []packet.Layer {
	return append(ipLayer(from.Addr(), to.Addr(), 17), packet.UDP{SrcPort: from.Port(), DstPort: to.Port()}, packet.Payload("hello"))
}

func ipLayer(from, to netip.Addr, ttl uint8) []packet.Layer {
	if from.Is6() {
		return []packet.Layer{packet.IPv6{Src: from, Dst: to, HopLimit: ttl}}
	}
	return []packet.Layer{packet.IPv4{Src: from, Dst: to, TTL: ttl, DF: true}}
}

// complains sends an ICMP error to the VIP from the wire, in the name of the subnet's
// gateway.
func (x *ways) complains(b *balancer, e packet.Layer, quote packet.Quote) {
	x.t.Helper()
	layers := append([]packet.Layer{x.ethernet(b)}, ipLayer(x.Gateway, b.at.Addr(), 64)...)
	x.must(x.wire.Send(packet.Frame(append(layers, e, quote)...)))
}

// ethernet is a frame's header from raw to a balancer.
func (x *ways) ethernet(b *balancer) packet.Layer {
	x.t.Helper()
	own, err := x.raw.MAC(lab.Uplink)
	x.must(err)
	return packet.Ethernet{Dst: x.mac(b), Src: own}
}

// kindsOfErrors that somebody on the way may send, and what a socket hears then.
func (x *ways) kindsOfErrors() map[string]struct {
	packet.Layer
	complaint
} {
	type e = struct {
		packet.Layer
		complaint
	}
	if x.VIP.Is6() {
		return map[string]e{
			"packet too big":    {packet.PacketTooBig(smallMTU), complaint{2, 0, smallMTU, unix.EMSGSIZE, netip.Addr{}}},
			"no route":          {packet.Unreachable6(0), complaint{1, 0, 0, unix.ENETUNREACH, netip.Addr{}}},
			"prohibited":        {packet.Unreachable6(1), complaint{1, 1, 0, unix.EACCES, netip.Addr{}}},
			"host unreachable":  {packet.Unreachable6(3), complaint{1, 3, 0, unix.EHOSTUNREACH, netip.Addr{}}},
			"port unreachable":  {packet.Unreachable6(4), x.portUnreachable()},
			"time exceeded":     {packet.TimeExceeded6(), x.timeExceeded()},
			"parameter problem": {packet.ICMPv6{Type: 4, Code: 1, Rest: 6}, complaint{4, 1, 6, unix.EPROTO, netip.Addr{}}},
		}
	}
	return map[string]e{
		"fragmentation needed": {packet.FragNeeded(smallMTU), complaint{3, 4, smallMTU, unix.EMSGSIZE, netip.Addr{}}},
		"net unreachable":      {packet.Unreachable(0), complaint{3, 0, 0, unix.ENETUNREACH, netip.Addr{}}},
		"host unreachable":     {packet.Unreachable(1), complaint{3, 1, 0, unix.EHOSTUNREACH, netip.Addr{}}},
		"protocol unreachable": {packet.Unreachable(2), complaint{3, 2, 0, unix.ENOPROTOOPT, netip.Addr{}}},
		"port unreachable":     {packet.Unreachable(3), x.portUnreachable()},
		"prohibited":           {packet.Unreachable(13), complaint{3, 13, 0, unix.EHOSTUNREACH, netip.Addr{}}},
		"time exceeded":        {packet.TimeExceeded(), x.timeExceeded()},
		"parameter problem":    {packet.ICMPv4{Type: 12, Rest: 1 << 24}, complaint{12, 0, 1, unix.EPROTO, netip.Addr{}}},
	}
}

// errorsAboutDatagrams: each kind reaches the socket that it concerns, as if the balancer
// was not there, whole and with the shortest quote.
func errorsAboutDatagrams(x *ways) {
	rows.Proves(x.t, 83, 84, 85, 91, 93)
	t := x.talk()
	for name, e := range x.kindsOfErrors() {
		for _, keep := range []int{0, 8} {
			x.complains(t.b, e.Layer, packet.Quote{Packet: datagram(t.nat, t.member.own), Keep: keep})
			t.client.wants(name+" about the client's", e.by(t.b.at.Addr()))
			x.complains(t.b, e.Layer, packet.Quote{Packet: datagram(t.b.at, t.client.own), Keep: keep})
			t.member.wants(name+" about the member's", e.by(t.nat.Addr()))
		}
	}
	t.client.send("still there?")
	if again := t.member.receive(); again != t.nat {
		x.t.Errorf("the flow is %s now, and was %s", again, t.nat)
	}
	x.nothingDropped(t.b)
}

// refusedDatagram: the member's kernel says that nobody takes it, and the client hears
// it from V.
func refusedDatagram(x *ways) {
	rows.Proves(x.t, 92)
	b := x.balancer("UDP", x.endpoints(5012)...)
	for range 4 {
		p := x.probe(x.Client, unix.SOCK_DGRAM, 64).connect(b.at)
		p.send("anybody?")
		p.wants("a refused datagram", x.portUnreachable().by(b.at.Addr()))
	}
	x.nothingDropped(b)
}
