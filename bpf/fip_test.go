package bpf_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

var (
	fromOutside = packet.TCP{SrcPort: 40000, DstPort: 80, Seq: 1, Ack: 2, Flags: packet.ACK | packet.ECE, Window: 501}
	fromInside  = packet.TCP{SrcPort: 80, DstPort: 40000, Seq: 2, Ack: 1, Flags: packet.ACK | packet.PSH, Window: 502}
	query       = packet.UDP{SrcPort: 4000, DstPort: 53}
)

// bothWays is a packet in and one out.
func bothWays(s stand, layers ...packet.Layer) []trip {
	return []trip{through(s, false, layers...), through(s, true, layers...)}
}

func wayOf(p trip) string {
	if p.out {
		return " out"
	}
	return " in"
}

func TestFloatingIP(t *testing.T) {
	rows.Proves(t, 8, 74)
	onGates(t, func(g *gate) {
		for _, host := range []stand{plainHost, otherHost} {
			for _, p := range bothWays(host, fromOutside, packet.Repeat(1)) {
				g.carries("TCP"+wayOf(p), p)
				p.client = onLinkAddr
				g.carries("TCP, client on the link"+wayOf(p), p)
			}
		}
		payloads := []packet.Layer{nil, packet.Repeat(1), packet.Repeat(2), packet.Repeat(999), packet.Repeat(1400)}
		for _, payload := range payloads {
			for name, layer := range map[string]packet.Layer{
				"TCP": fromInside, "SYN": packet.TCP{SrcPort: 1, DstPort: 2, Flags: packet.SYN, Options: []packet.TCPOption{packet.MSS(1460)}},
				"nothing that TCP sends": packet.TCP{SrcPort: 0, DstPort: 0}, "UDP": query,
				"UDP without sum": packet.UDP{SrcPort: 4000, DstPort: 53, Sum: packet.SumZero},
				"ping":            packet.EchoRequest(7, 8), "pong": packet.EchoReply(7, 8),
				"timestamp request": packet.ICMPv4{Type: 13},
			} {
				layers := []packet.Layer{layer}
				if payload != nil {
					layers = append(layers, payload)
				}
				for _, p := range bothWays(plainHost, layers...) {
					g.carries(name+wayOf(p), p)
				}
			}
		}
		for _, p := range bothWays(plainHost, query, packet.Repeat(9)) {
			g.carries("the last hop but one"+wayOf(p), p.with(func(ip *packet.IPv4) { ip.TTL = 2 }))
			g.carries("many hops"+wayOf(p), p.with(func(ip *packet.IPv4) { ip.TTL = 255 }))
			g.carries("reserved bit"+wayOf(p), p.with(func(ip *packet.IPv4) { ip.Reserved, ip.DF = true, false }))
		}
		g.padded()
	})
}

// padded is what short frames have behind their packet.
func (g *gate) padded() {
	p := through(plainHost, false, fromOutside)
	in, out := append(p.before(), 1, 2, 3, 4, 5, 6), append(p.after(), 1, 2, 3, 4, 5, 6)
	g.expect("rubbish behind the packet", p.device(), in, forwards(out, p.onAccount(1, 40)))
}

// Protocols that nobody here knows keep everything but the address; three more have the
// addresses in their sums.
func TestFloatingProtocols(t *testing.T) {
	onGates(t, func(g *gate) {
		for _, proto := range []uint8{0, 47, 50, 51, 132, 255} {
			for _, p := range bothWays(plainHost, packet.Repeat(64)) {
				p.ip.Protocol = &proto
				g.carries(fmt.Sprintf("protocol %d%s", proto, wayOf(p)), p)
			}
		}
		for _, proto := range []uint8{33, 136} {
			for _, p := range bothWays(plainHost) {
				p.ip.Protocol = &proto
				p.layers = func(v view) []packet.Layer { return []packet.Layer{pseudoSummed(v, proto)} }
				g.carries(fmt.Sprintf("protocol %d%s", proto, wayOf(p)), p)
			}
		}
	})
}

// pseudoSummed is a message with the sum of UDP at UDP's place, as DCCP and UDP-Lite have it: a
// sum over the pseudo header does not tell source from destination.
func pseudoSummed(v view, proto uint8) packet.Layer {
	udp := packet.Frame(packet.Ethernet{}, packet.IPv4{Src: v.client, Dst: v.host, Protocol: &proto},
		packet.UDP{SrcPort: 5, DstPort: 6}, packet.Repeat(30))
	message := udp[ethernetLength+ipv4Length:]
	binary.BigEndian.PutUint16(message[6:], 0)
	pseudo := append(append(v.client.AsSlice(), v.host.AsSlice()...), 0, proto, 0, byte(len(message)))
	binary.BigEndian.PutUint16(message[6:], packet.Checksum(append(pseudo, message...)))
	return packet.Payload(message)
}

// Sums and carries of all kinds become what computing them anew gives; a UDP sum of 0 is
// written as all ones.
func TestFloatingSums(t *testing.T) {
	rows.Proves(t, 75)
	onGates(t, func(g *gate) {
		step := map[hook]int{tcHook: 7, xdpHook: 301}[g.hook] // XDP's test run takes a millisecond
		for n := rand.IntN(step); n < 1<<16; n += step {
			layer := []packet.Layer{query, fromOutside}[n/2%2]
			g.sumsAnew(through(plainHost, n%2 == 1, layer, word(uint16(n))))
		}
		for _, p := range bothWays(plainHost, query, word(0)) {
			for _, side := range [][]byte{p.before(), p.after()} {
				// The word that makes the sum of this side 0.
				n := binary.BigEndian.Uint16(side[ethernetLength+ipv4Length+6:])
				g.sumsAnew(through(plainHost, p.out, query, word(n)))
			}
		}
	})
}

func word(n uint16) packet.Payload { return binary.BigEndian.AppendUint16(nil, n) }

func (g *gate) sumsAnew(p trip) {
	g.Helper()
	want := p.after()
	if got := g.send(p.device(), p.before(), gso{}); got.action != forwarded || string(got.frame) != string(want) {
		g.Fatalf("%s: %s\n%s", packet.Summary(p.before()), got.action, packet.Diff(got.frame, want))
	}
}

// residue is what is wrong with the sums of a frame: of the IP header, and of the transport
// with its pseudo header. Of right ones it is 0.
func residue(frame []byte) (ip, transport uint16) {
	header, segment := frame[ethernetLength:ethernetLength+ipv4Length], frame[ethernetLength+ipv4Length:]
	var pseudo []byte
	if header[9] != packet.ProtoICMPv4 {
		pseudo = append(pseudo, header[12:20]...)
		pseudo = append(pseudo, 0, header[9])
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(segment)))
	}
	return packet.Checksum(header), packet.Checksum(append(pseudo, segment...))
}

// What was wrong when it came is wrong by just as much when it leaves.
func TestFloatingBadSums(t *testing.T) {
	onGates(t, func(g *gate) {
		tcp, udp, ping := fromOutside, query, packet.EchoRequest(1, 2)
		tcp.Sum, udp.Sum, ping.Sum = packet.SumBad, packet.SumBad, packet.SumBad
		for _, layer := range []packet.Layer{tcp, udp, ping, fromInside} {
			for _, p := range bothWays(plainHost, layer, packet.Repeat(10)) {
				p = p.with(func(ip *packet.IPv4) { ip.Sum = packet.SumBad })
				in := p.before()
				got := g.send(p.device(), in, gso{})
				if got.action != forwarded {
					g.Fatalf("%s: %s", packet.Summary(in), got.action)
				}
				ip, transport := residue(in)
				ipAfter, transportAfter := residue(got.frame)
				if ip == 0 || ip != ipAfter || transport != transportAfter {
					g.Errorf("%s: wrong by %04x and %04x, then by %04x and %04x", packet.Summary(in), ip, transport, ipAfter, transportAfter)
				}
			}
		}
	})
}

func TestFloatingFragments(t *testing.T) {
	onGates(t, func(g *gate) {
		udp, tcp, icmp := uint8(packet.ProtoUDP), uint8(packet.ProtoTCP), uint8(packet.ProtoICMPv4)
		fragment := func(p trip, proto *uint8, offset int, more bool) trip {
			return p.with(func(ip *packet.IPv4) {
				ip.DF, ip.MF, ip.FragmentOffset = false, more, offset
				if offset > 0 {
					ip.Protocol = proto
				}
			})
		}
		for _, first := range []packet.Layer{query, fromOutside, packet.EchoRequest(1, 2)} {
			for _, p := range bothWays(plainHost, first, packet.Repeat(800)) {
				g.carries("first fragment"+wayOf(p), fragment(p, nil, 0, true))
			}
		}
		for _, proto := range []*uint8{&udp, &tcp, &icmp} {
			for _, p := range bothWays(plainHost, packet.Repeat(800)) {
				g.carries("middle fragment"+wayOf(p), fragment(p, proto, 1480, true))
				g.carries("last fragment"+wayOf(p), fragment(p, proto, 2960, false))
				g.carries("third row of 8 bytes"+wayOf(p), fragment(p, proto, 24, true))
			}
		}
		g.cutThroughSums(fragment)
		for _, p := range bothWays(lostHost, query, packet.Repeat(800)) {
			if p.out {
				continue
			}
			p = fragment(p, nil, 0, true)
			o := forwards(p.after(), p.onAccount(1, len(p.before())-ethernetLength))
			g.expect("fragment to a host to be looked for", p.device(), p.before(), o.unresolved(p.before()))
		}
		small := through(narrowHost, false, query, packet.Repeat(8))
		g.carries("small, through a narrow link", small)
		g.leaves("small fragment, whose others are too long for the next link", fragment(small, nil, 0, true))
	})
}

// Fragments that are cut so that the sum is not in the first one.
func (g *gate) cutThroughSums(fragment func(trip, *uint8, int, bool) trip) {
	udp, tcp := uint8(packet.ProtoUDP), uint8(packet.ProtoTCP)
	for _, p := range bothWays(plainHost) {
		for _, size := range []int{0, 8, 16} {
			p.layers = func(view) []packet.Layer { return []packet.Layer{packet.Repeat(size)} }
			p.ip.Protocol = &tcp
			g.ends("first fragment without the sum", fragment(p, nil, 0, true), "frag")
		}
		p.layers = func(view) []packet.Layer { return []packet.Layer{packet.Repeat(64)} }
		for _, offset := range []int{8, 16} {
			g.ends("later fragment with the sum", fragment(p, &tcp, offset, true), "frag")
		}
		p.layers = func(view) []packet.Layer { return []packet.Layer{packet.Repeat(0)} }
		p.ip.Protocol = &udp
		g.ends("empty first fragment", fragment(p, nil, 0, true), "frag")
	}
}

// What is the stack's to do, or nobody's floating IP.
func TestFloatingPasses(t *testing.T) {
	onGates(t, func(g *gate) {
		for _, p := range bothWays(plainHost, fromOutside, packet.Repeat(1)) {
			for _, ttl := range []uint8{0, 1} {
				g.leaves("no hop left"+wayOf(p), p.with(func(ip *packet.IPv4) { ip.TTL = ttl }))
			}
			g.leaves("options"+wayOf(p), p.with(func(ip *packet.IPv4) { ip.Options = []byte{7, 7, 4, 0, 0, 0, 0} }))
			g.malformed(p)
			g.framed(p)
		}
		g.leaves("to a host to be looked for", through(lostHost, false, fromOutside))
		g.leaves("to a host without route", through(goneHost, false, fromOutside))
		g.leaves("too long for the next link", through(narrowHost, false, query, packet.Repeat(1400)))
		long := through(narrowHost, false, query, packet.Repeat(1400))
		g.leaves("too long, may be cut", long.with(func(ip *packet.IPv4) { ip.DF = false }))
		g.ends("to a host that is not behind an inside leg", through(strayHost, false, fromOutside), "no_route")

		for _, to := range []string{"10.10.10.1", "10.10.10.13", "172.16.50.11", "172.16.50.1", "224.0.0.1", "255.255.255.255", "10.10.10.255"} {
			p := through(stand{netip.MustParseAddr(to), netip.MustParseAddr(to)}, false, fromOutside)
			g.leaves("from outside to "+to, p)
		}
		for _, to := range []string{"172.16.50.1", "172.16.60.9", "10.10.10.1", "10.10.10.10", "10.10.10.7", "192.0.2.1", "224.0.0.1", "255.255.255.255"} {
			p := through(plainHost, true, fromInside)
			p.client = netip.MustParseAddr(to)
			g.leaves("from inside to "+to, p)
		}
		p := through(plainHost, true, query, packet.Repeat(8)).with(func(ip *packet.IPv4) { ip.DF, ip.MF = false, true })
		p.client = otherHost.floating
		g.leaves("fragment from inside to a floating IP", p)
		g.leaves("from a host without floating IP", through(stand{poor, poor}, true, fromInside))
		g.leaves("its ping", through(stand{poor, poor}, true, packet.EchoRequest(1, 2)))
		g.leaves("from a host that has no address", through(stand{poor, netip.IPv4Unspecified()}, true, fromInside))
		p = through(plainHost, false, fromOutside)
		g.expect("by a device that is no leg", insideIndex, p.before(), passes())
	})
}

// malformed changes the header of a packet until it is none.
func (g *gate) malformed(p trip) {
	for _, value := range []byte{0x65, 0x05, 0x44, 0x40, 0x46} {
		in := p.before()
		in[ethernetLength] = value
		g.expect(fmt.Sprintf("first byte %02x", value), p.device(), in, passes())
	}
	for _, length := range []uint16{0, 19, uint16(len(p.before())), 0xffff} {
		g.leaves(fmt.Sprintf("length %d", length), p.with(func(ip *packet.IPv4) { ip.TotalLength = &length }))
	}
	for _, length := range []uint16{20, 21, 36, 37} {
		g.ends(fmt.Sprintf("length %d", length), p.with(func(ip *packet.IPv4) { ip.TotalLength = &length }), "trunc_l4")
	}
}

// framed is the same packet in frames that are not for the router, or not plain.
func (g *gate) framed(p trip) {
	for name, to := range map[string]net.HardwareAddr{
		"broadcast": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "multicast": {1, 0, 0x5e, 0, 0, 1}, "somebody else's": otherMAC,
	} {
		in := p.before()
		copy(in, to)
		g.expect(name+" frame"+wayOf(p), p.device(), in, passes())
	}
	for _, number := range []uint16{packet.TypeARP, packet.TypeIPv6, packet.TypeVLAN, packet.TypeQinQ, 0x88cc, 100} {
		in := p.before()
		binary.BigEndian.PutUint16(in[12:], number)
		g.expect(fmt.Sprintf("type %04x%s", number, wayOf(p)), p.device(), in, passes())
	}
}

// Sources that nobody can have who sends this packet by this device.
func TestFloatingSpoofs(t *testing.T) {
	onGates(t, func(g *gate) {
		for source, reason := range map[string]string{
			"0.0.0.0": "martian", "0.1.2.3": "martian", "127.0.0.1": "martian", "127.255.255.255": "martian",
			"224.0.0.1": "martian", "240.0.0.1": "martian", "255.255.255.255": "martian",
			"10.10.10.1": "spoof_self", "10.10.10.7": "spoof_self", "10.10.10.10": "spoof_self",
			"172.16.50.11": "spoof_self", "172.16.50.1": "spoof_self", "172.16.50.20": "spoof_self", "172.16.51.1": "spoof_self",
			"10.9.9.9": "spoof_self",
		} {
			p := through(plainHost, false, fromOutside)
			p.client = netip.MustParseAddr(source)
			g.ends("from "+source, p, reason)
		}
		p := through(plainHost, true, fromInside)
		in := p.before()
		copy(in, secondMAC)
		g.expect("a floating IP's host behind another leg", secondLeg, in, drops("spoof_self"))
	})
}

// Random packets, most of them malformed somewhere, come out translated or as they came.
func TestFloatingAnything(t *testing.T) {
	onGates(t, func(g *gate) {
		seed := rand.Uint64()
		g.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		for range map[hook]int{tcHook: 5000, xdpHook: 300}[g.hook] {
			p := through(plainHost, random.IntN(2) == 1, fromOutside, packet.Repeat(40))
			in := p.before()
			for range 1 + random.IntN(4) {
				in[ethernetLength+random.IntN(len(in)-ethernetLength)] = byte(random.IntN(256))
			}
			got := g.send(p.device(), in, gso{})
			if got.action == passed && string(got.frame) != string(in) {
				g.Fatalf("passed, and changed:\n%s", packet.Diff(got.frame, in))
			}
			if got.action == forwarded && len(got.frame) != len(in) {
				g.Fatalf("%d bytes became %d", len(in), len(got.frame))
			}
		}
	})
}

// A super-packet counts as the segments that it will be.
func TestFloatingSuperPackets(t *testing.T) {
	onGates(t, func(g *gate) {
		const size, segments = 1000, 3
		for _, p := range bothWays(plainHost, fromOutside, packet.Repeat(size*segments-100)) {
			o := forwards(p.after(), p.onAccount(segments, segments*40+size*segments-100))
			g.expectSuper("TCP"+wayOf(p), p.device(), p.before(), gso{segments, size}, o)
		}
		for _, p := range bothWays(plainHost, query, packet.Repeat(size*segments-100)) {
			o := forwards(p.after(), p.onAccount(segments, segments*28+size*segments-100))
			g.expectSuper("UDP"+wayOf(p), p.device(), p.before(), gso{segments, size}, o)
		}
		p := through(narrowHost, false, fromOutside, packet.Repeat(2800))
		g.expectSuper("segments fit the narrow link", p.device(), p.before(), gso{3, 1000}, forwards(p.after(), p.onAccount(3, 3*40+2800)))
		g.expectSuper("segments too long", p.device(), p.before(), gso{2, 1400}, passes())
	})
}
