package bpf_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// routerOutside complains about packets that have left by the floating IP.
var routerOutside = netip.MustParseAddr("100.66.7.99")

// complaint is an ICMP error about a packet that has gone the other way through the router:
// each side has it quoted as that side saw it.
func complaint(s stand, out bool, about packet.Layer, kind packet.ICMPv4, keep int) trip {
	p := through(s, out)
	p.client = internetAddr
	p.layers = func(v view) []packet.Layer {
		quoted := packet.IPv4{Src: v.host, Dst: v.client, TTL: 3, ID: 99, DF: true}
		if out {
			quoted.Src, quoted.Dst = v.client, v.host
		}
		return []packet.Layer{kind, packet.Quote{Packet: []packet.Layer{quoted, about, packet.Repeat(64)}, Keep: keep}}
	}
	return p
}

func icmpErrors() []packet.ICMPv4 {
	return []packet.ICMPv4{
		packet.FragNeeded(1400), packet.Unreachable(0), packet.Unreachable(1), packet.Unreachable(3), packet.Unreachable(13),
		packet.TimeExceeded(),
		{Type: 12, Rest: 8 << 24},
	}
}

func TestFloatingErrors(t *testing.T) {
	rows.Proves(t, 85)
	onGates(t, func(g *gate) {
		for _, kind := range icmpErrors() {
			for _, about := range []packet.Layer{fromInside, query, packet.EchoRequest(1, 2)} {
				for _, keep := range []int{0, 8, 16, 18, 20} {
					for _, out := range []bool{false, true} {
						p := complaint(plainHost, out, about, kind, keep)
						g.carriesLate(fmt.Sprintf("error %d/%d, %d bytes quoted%s", kind.Type, kind.Code, keep, wayOf(p)), p)
					}
				}
			}
		}
		for _, out := range []bool{false, true} {
			noSum := query
			noSum.Sum = packet.SumZero
			g.carriesLate("about a datagram without sum", complaint(plainHost, out, noSum, packet.Unreachable(3), 0))
			g.carriesLate("bare header", complaint(plainHost, out, fromInside, packet.Unreachable(3), 1))
			g.fragmentQuoted(out)
			g.quotesOfNothing(out)
		}
		for _, out := range []bool{false, true} {
			p := complaint(plainHost, out, fromInside, packet.Unreachable(3), 8)
			rubbish := []byte(packet.Repeat(32))
			o := forwards(append(p.after(), rubbish...), p.onAccount(1, len(p.before())-ethernetLength)).late()
			g.expect("rubbish where a longer quote would have the sum"+wayOf(p), p.device(), append(p.before(), rubbish...), o)
		}
		g.carriesLate("from the second leg", complaint(otherHost, true, query, packet.Unreachable(3), 0))
		p := complaint(lostHost, false, query, packet.Unreachable(3), 0)
		o := forwards(p.after(), p.onAccount(1, len(p.before())-ethernetLength))
		g.expect("to a host to be looked for", p.device(), p.before(), o.unresolved(p.before()))
		for _, p := range bothWays(plainHost, packet.ICMPv4{Type: 5, Code: 1}, packet.Repeat(28)) {
			g.ends("redirect", p, "icmp_type")
			p.layers = func(view) []packet.Layer { return []packet.Layer{packet.ICMPv4{Type: 4}, packet.Repeat(28)} }
			g.ends("source quench", p, "icmp_type")
			p.layers = func(view) []packet.Layer { return []packet.Layer{packet.Payload{8, 0, 0xf7, 0xff}} }
			p.ip.Protocol = new(uint8)
			*p.ip.Protocol = packet.ProtoICMPv4
			g.ends("cut", p, "trunc_l4")
		}
	})
}

// requote changes what the error quotes.
func (p trip) requote(change func(v view, quoted *packet.IPv4, inside []packet.Layer) []packet.Layer) trip {
	layers := p.layers
	p.layers = func(v view) []packet.Layer {
		all := slices.Clone(layers(v))
		q := all[1].(packet.Quote)
		quoted := q.Packet[0].(packet.IPv4)
		inside := change(v, &quoted, q.Packet[1:])
		q.Packet = append([]packet.Layer{quoted}, inside...)
		all[1] = q
		return all
	}
	return p
}

// Quoted fragments have a sum in the first of them only, and options stand before it.
func (g *gate) fragmentQuoted(out bool) {
	p := complaint(plainHost, out, query, packet.TimeExceeded(), 0)
	g.carriesLate("about a later fragment"+wayOf(p), p.requote(func(_ view, quoted *packet.IPv4, _ []packet.Layer) []packet.Layer {
		proto := uint8(packet.ProtoUDP)
		quoted.DF, quoted.FragmentOffset, quoted.Protocol = false, 1480, &proto
		return []packet.Layer{packet.Repeat(64)}
	}))
	g.carriesLate("about a first fragment"+wayOf(p), p.requote(func(_ view, quoted *packet.IPv4, inside []packet.Layer) []packet.Layer {
		quoted.DF, quoted.MF = false, true
		return inside
	}))
	g.carriesLate("about a packet with options"+wayOf(p), p.requote(func(_ view, quoted *packet.IPv4, inside []packet.Layer) []packet.Layer {
		quoted.Options = []byte{7, 11, 4, 1, 2, 3, 4, 5, 6, 7, 8, 0}
		return inside
	}))
}

// Quotes of nothing that has gone through the floating IP.
func (g *gate) quotesOfNothing(out bool) {
	p := complaint(plainHost, out, query, packet.Unreachable(3), 0)
	six, two := uint8(6), uint8(2)
	for name, change := range map[string]func(*packet.IPv4){
		"version 6": func(q *packet.IPv4) { q.Version = &six },
		"no header": func(q *packet.IPv4) { q.IHL = &two },
	} {
		g.expect(name+wayOf(p), p.device(), p.requote(func(_ view, q *packet.IPv4, inside []packet.Layer) []packet.Layer {
			change(q)
			return inside
		}).before(), drops("icmp_inner").late())
	}
	for _, n := range []int{0, 1, 19} {
		cut := p
		cut.layers = func(view) []packet.Layer { return []packet.Layer{packet.Unreachable(3), packet.Repeat(n)} }
		g.expect(fmt.Sprintf("%d bytes quoted%s", n, wayOf(p)), p.device(), cut.before(), drops("icmp_inner").late())
	}
	strange := p.requote(func(_ view, q *packet.IPv4, inside []packet.Layer) []packet.Layer {
		q.Src, q.Dst = netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("192.0.2.6")
		return inside
	})
	o := drops("icmp_inner").late()
	if out { // the stack may have translated it
		o = passes()
	}
	g.expect("about somebody else's packet"+wayOf(p), p.device(), strange.before(), o)
}

// A router behind the floating IP's host, or beside it, complains under its own floating IP
// or, if he has none, under that of the host. Neither his address nor the host's gets out.
func TestFloatingErrorsOfOthers(t *testing.T) {
	onGates(t, func(g *gate) {
		for name, sender := range map[string]stand{
			"without floating IP": {floating: plainHost.floating, fixed: innerRouter},
			"with one":            {floating: narrowHost.floating, fixed: narrowHost.fixed},
		} {
			about := complaint(plainHost, true, fromOutside, packet.FragNeeded(1300), 0)
			p := trip{stand: sender, client: about.client, out: true, ip: about.ip}
			p.layers = func(v view) []packet.Layer {
				if v == p.inside() {
					return about.layers(about.inside())
				}
				return about.layers(about.outside())
			}
			in, out := p.before(), p.after()
			copy(in[6:], innerMAC)
			account := p.onAccount(1, len(in)-ethernetLength)
			o := forwards(out, account)
			o.byTC = true
			g.expect(name, insideLeg, in, o)
		}
		p := complaint(plainHost, false, fromInside, packet.TimeExceeded(), 0)
		p.client = routerOutside
		p.layers = complaint(plainHost, false, fromInside, packet.TimeExceeded(), 0).layers
		g.carriesLate("a router outside about the host's packet to somebody else", p.requote(
			func(v view, q *packet.IPv4, inside []packet.Layer) []packet.Layer {
				q.Dst = internetAddr
				return inside
			}))
	})
}

// Wrong sums of the error, or in its quote, are wrong by as much afterwards.
func TestFloatingBadQuotes(t *testing.T) {
	onGates(t, func(g *gate) {
		for _, out := range []bool{false, true} {
			bad := fromInside
			bad.Sum = packet.SumBad
			for _, about := range []packet.Layer{bad, fromInside} {
				kind := packet.Unreachable(3)
				kind.Sum = packet.SumBad
				p := complaint(plainHost, out, about, kind, 0).requote(func(_ view, q *packet.IPv4, inside []packet.Layer) []packet.Layer {
					q.Sum = packet.SumBad
					return inside
				})
				got := g.send(p.device(), p.before(), gso{})
				if got.action != forwarded {
					g.Fatalf("%s: %s", packet.Summary(p.before()), got.action)
				}
				const quote = ipv4Length + 8
				for _, at := range []int{0, quote} {
					ip, transport := residue(p.before()[at:])
					ipAfter, transportAfter := residue(got.frame[at:])
					if ip != ipAfter || transport != transportAfter {
						g.Errorf("at %d: wrong by %04x and %04x, then by %04x and %04x", at, ip, transport, ipAfter, transportAfter)
					}
				}
			}
		}
	})
}
