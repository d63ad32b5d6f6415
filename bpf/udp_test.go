package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

func TestUDP(t *testing.T) {
	rows.Proves(t, 2, 30, 32, 40, 42)
	for _, o := range []options{{flowLimit: 64}, {flowLimit: 64, ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			onHooks(t, o, func(w *world) {
				for name, test := range map[string]func(w *world){
					"a datagram makes a flow": datagramsMakeFlows, "lengths": datagramLengths,
					"sums": datagramSums, "idle": idleDatagrams, "member goes down": datagramsOfDownMember,
					"at the limits": datagramLimits, "nobody is there": datagramsRefused,
					"stray": strayDatagrams, "in fragments": datagramFragments, "without hops": datagramsWithoutHops,
				} {
					w.run(name, func(w *world) {
						w.listenUDP()
						test(w)
					})
				}
			})
		})
	}
	onFamilies(t, options{}, func(w *world) {
		w.run("first datagrams on both CPUs", func(w *world) {
			w.listenUDP()
			firstDatagramsOnBoth(w)
		})
	})
}

func (w *world) listenUDP() {
	w.Helper()
	w.configure(func(g *maps.Generation) {
		g.VIP.Protocol, g.VIP.Idle = maps.UDP, 120*time.Second
	})
}

// datagramFlow is what a client's first datagram opens; the flow counts at once.
func (w *world) datagramFlow(from netip.AddrPort, slot int, natPort uint16) conn {
	w.Helper()
	c := conn{w: w, client: w.host(from), slot: slot, port: natPort}
	in, out := c.up(datagram(30))
	w.expect("first datagram", in, forwards(out, openedUDP(slot), toMember(slot, in)))
	return c
}

func openedUDP(slot int) delta {
	return delta{
		"flows": 1, "active": 1, memberName(slot, "ports"): 1, memberName(slot, "conns"): 1,
		memberName(slot, "active"): 1, memberName(slot, "connections"): 1,
	}
}

func datagramsMakeFlows(w *world) {
	var all []conn
	for n := range 9 {
		all = append(all, w.datagramFlow(client(n), n%3, firstPort+uint16(n/3)))
	}
	for _, c := range all {
		for range 2 {
			c.sends("datagram", datagram(100))
			c.gets("answer", datagram(1200))
		}
	}
}

// datagramLengths: no payload is a payload; a length that contradicts is none.
func datagramLengths(w *world) {
	rows.Proves(w, 76, 77)
	c := w.datagramFlow(client(1), 0, firstPort)
	for _, n := range []int{0, 1, 2, 3, 1000, 1400} {
		c.sends(fmt.Sprintf("%d bytes", n), datagram(n))
		c.gets(fmt.Sprintf("%d bytes", n), datagram(n))
	}
	for _, n := range []uint16{0, 1, 7, 8 + 101, 0xffff} {
		s := datagram(100)
		s.udp.Length = &n
		in, _ := c.up(s)
		w.expect(fmt.Sprintf("length %d of 108", n), in, drops("udp_len"))
		in, _ = c.down(s)
		w.expect(fmt.Sprintf("member's length %d of 108", n), in, drops("udp_len"))
	}
	whole, _ := c.up(datagram(0))
	for n := range 8 {
		in := bytes.Clone(whole[:transportOf(whole)+n])
		setLength(in)
		if w.ipv6 && n == 0 { // no payload at all: a jumbogram's sign
			w.expect("0 bytes of UDP", in, drops("ip_len"))
			continue
		}
		w.expect(fmt.Sprintf("%d bytes of UDP", n), in, drops("trunc_l4"))
	}
	in, _ := conn{w: w, client: netip.AddrPortFrom(c.client.Addr(), 0)}.up0(datagram(5))
	w.expect("source port 0", in, drops("port0"))
}

// up0 is up of a connection that there is not.
func (c conn) up0(s segment) (in, out []byte) { return s.arrives(c.client, c.vip()), nil }

// datagramSums: none stays none; one that comes out as 0 is sent as all ones; a wrong
// one stays wrong.
func datagramSums(w *world) {
	rows.Proves(w, 74, 75)
	c := w.datagramFlow(client(1), 0, firstPort)
	if !w.ipv6 {
		s := datagram(100)
		s.udp.Sum = packet.SumZero
		c.sends("without a sum", s)
		c.gets("without a sum", s)
		c2 := conn{w: w, client: client(2), slot: 1, port: firstPort}
		in, out := c2.up(s)
		w.expect("first one without a sum", in, forwards(out, openedUDP(1), toMember(1, in)))
	}
	ones := 0
	for n := range 0x10000 {
		s := datagram(0)
		s.data = binary.BigEndian.AppendUint16(nil, uint16(n))
		in, out := c.up(s)
		at := transportOf(out) + 6
		if binary.BigEndian.Uint16(out[at:]) < 0xfffe && binary.BigEndian.Uint16(in[at:]) < 0xfffe && n%61 != 0 {
			continue
		}
		if out[at] == 0xff && out[at+1] == 0xff {
			ones++
		}
		if got := w.only(in); !bytes.Equal(got, out) {
			w.Fatalf("payload %#04x: %s", n, packet.Diff(got, out))
		}
		in, out = c.down(s)
		if got := w.only(in); !bytes.Equal(got, out) {
			w.Fatalf("member's payload %#04x: %s", n, packet.Diff(got, out))
		}
	}
	if ones == 0 {
		w.Error("no sum came out as 0")
	}
	bad := datagram(77)
	bad.udp.Sum = packet.SumBad
	in, _ := c.up(bad)
	if got := w.send(in); got.action != forwarded || packet.Verify(got.frame) == nil {
		w.Errorf("bad sum: %s, made good: %v", got.action, packet.Verify(got.frame) == nil)
	}
}

// idleDatagrams: a flow lives as long as either side speaks within the idle timeout.
func idleDatagrams(w *world) {
	rows.Proves(w, 80)
	c := w.datagramFlow(client(1), 0, firstPort)
	w.age(c, 119*time.Second)
	w.nothingExpires()
	c.gets("late answer", datagram(10))
	w.age(c, 119*time.Second)
	w.nothingExpires()
	c.sends("late datagram", datagram(10))
	w.age(c, 125*time.Second)
	w.expires(0, 1, sum(closed(0), removed(0)))
	in, _ := c.down(datagram(10))
	w.expect("answer after the end", in, drops("nat_nomap"))
	w.datagramFlow(client(1), 1, firstPort)
}

// datagramsOfDownMember: there is no connection that could break, so the next datagram
// goes to another member.
func datagramsOfDownMember(w *world) {
	rows.Proves(w, 79)
	c := w.datagramFlow(client(1), 0, firstPort)
	w.setUp(0, false)
	c.gets("answer of one that is down", datagram(10))
	next := conn{w: w, client: c.client, slot: 1, port: firstPort}
	in, out := next.up(datagram(10))
	w.expect("datagram", in, forwards(out, closed(0), removed(0), openedUDP(1), toMember(1, in)))
	in, _ = c.down(datagram(10))
	w.expect("the former member", in, drops("nat_nomap"))
	next.sends("datagram", datagram(10))
	next.gets("answer", datagram(10))
	// The member is removed, and its slot is nobody's.
	w.setUp(1, false)
	next = conn{w: w, client: c.client, slot: 2, port: firstPort}
	in, out = next.up(datagram(10))
	w.expect("datagram", in, forwards(out, closed(1), removed(1), openedUDP(2), toMember(2, in)))
	w.setUp(2, false)
	in, _ = next.up(datagram(10))
	w.expect("nobody is left", in, w.unreachable("no_member", in, closed(2), removed(2)))
}

// unreachable is the answer to a datagram that nobody takes.
func (w *world) unreachable(reason string, in []byte, changes ...delta) want {
	var e packet.Layer = packet.Unreachable(3)
	if w.ipv6 {
		e = packet.Unreachable6(4)
	}
	return answers(reason, icmpAnswer(in, e), changes...)
}

func datagramLimits(w *world) {
	w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = 2 })
	a, b := w.datagramFlow(client(1), 0, firstPort), w.datagramFlow(client(2), 1, firstPort)
	over := datagram(10).arrives(w.host(client(3)), w.gen.VIP.Address)
	for range 3 {
		w.expect("over the limit", over, drops("conn_limit"))
	}
	a.sends("datagram", datagram(10))
	b.gets("answer", datagram(10))
	w.age(a, time.Hour)
	w.expires(0, 1, sum(closed(0), removed(0)))
	w.datagramFlow(client(3), 2, firstPort)
	// The table is full of live flows.
	w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = maps.NoLimit })
	for n := w.levels()["flows"]; n < int64(w.room()); n++ {
		got := w.send(datagram(1).arrives(w.host(client(100+int(n))), w.gen.VIP.Address))
		if got.action != forwarded {
			w.Fatalf("datagram with %d flows was %s", n, got.action)
		}
	}
	over = datagram(10).arrives(w.host(client(500)), w.gen.VIP.Address)
	w.expect("table is full", over, w.unreachable("flows_full", over))
	b.sends("datagram", datagram(10))
}

func datagramsRefused(w *world) {
	first := datagram(10).arrives(w.host(client(1)), w.gen.VIP.Address)
	w.configure(func(g *maps.Generation) { g.VIP.Refuse = true })
	w.expect("pool is down", first, w.unreachable("no_member", first))
	w.configure(func(g *maps.Generation) { g.VIP.Refuse, g.Schedule = false, nil })
	for _, n := range []int{0, 1, 33, 1400} {
		in := datagram(n).arrives(w.host(client(1)), w.gen.VIP.Address)
		got := w.expect(fmt.Sprintf("nobody is usable, %d bytes", n), in, w.unreachable("no_member", in))
		w.sums("port unreachable", got.frame)
	}
	given := 0
	w.pinSecond()
	for range 2 * answersPerSecond {
		if w.send(first).action == answered {
			given++
		}
	}
	if given > answersPerSecond {
		w.Errorf("%d answers in a second", given)
	}
}

// strayDatagrams are not for the listener.
func strayDatagrams(w *world) {
	to := func(port uint16) []byte {
		return datagram(10).arrives(w.host(client(1)), netip.AddrPortFrom(w.gen.VIP.Address.Addr(), port))
	}
	w.expect("to a port below the range", to(53), passes())
	w.expect("to a socket of the namespace", to(65100), passes())
	w.expect("to a NAT port", to(firstPort), drops("nat_nomap"))
	w.expect("to a NAT port", to(lastPort), drops("nat_nomap"))
	// TCP to the same port is another service's.
	in := seg(packet.SYN, 1, 0).arrives(w.host(client(1)), w.gen.VIP.Address)
	w.expect("SYN to the listener's port", in, passes())
	self := datagram(10).arrives(w.gen.VIP.Address, w.gen.VIP.Address)
	w.expect("from the VIP itself", self, drops("spoof_self"))
}

// datagramFragments: a port is only in the first fragment, and the first one alone is
// of no use; so none of them goes on, from either side, in whatever order.
func datagramFragments(w *world) {
	c := w.datagramFlow(client(1), 0, firstPort)
	const size = 1480
	whole := append(make([]byte, 8), packet.Repeat(4000)...)
	for name, way := range map[string]func(segment) ([]byte, []byte){"client's": c.up, "member's": c.down} {
		like, _ := way(datagram(0))
		for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 1, 0}} {
			for _, i := range order {
				part := whole[i*size : min((i+1)*size, len(whole))]
				in := w.fragment(like, i*size, i < 2, part)
				w.expect(fmt.Sprintf("%s fragment %d of %v", name, i, order), in, drops("frag"))
			}
		}
	}
	c.sends("whole", datagram(10))
	c.gets("whole", datagram(10))
}

// fragment is a piece of a datagram between the hosts of another one.
func (w *world) fragment(like []byte, offset int, more bool, part []byte) []byte {
	to, from := addressesOf(like)
	e := packet.Ethernet{Dst: ownMAC, Src: macOf(from)}
	if w.ipv6 {
		ip := packet.IPv6{
			Src: from, Dst: to, HopLimit: 64, NextHeader: new(uint8(packet.ProtoUDP)),
			Extensions: []packet.Extension{packet.Fragment(uint16(offset), more, 7)},
		}
		return packet.Frame(e, ip, packet.Payload(part))
	}
	ip := packet.IPv4{
		Src: from, Dst: to, TTL: 64, ID: 7, MF: more, FragmentOffset: offset, Protocol: new(uint8(packet.ProtoUDP)),
	}
	return packet.Frame(e, ip, packet.Payload(part))
}

func datagramsWithoutHops(w *world) {
	var e packet.Layer = packet.TimeExceeded()
	if w.ipv6 {
		e = packet.TimeExceeded6()
	}
	s := datagram(50)
	s.ip.TTL = 1
	in := s.arrives(w.host(client(1)), w.gen.VIP.Address)
	w.expect("first datagram", in, answers("ttl", icmpAnswer(in, e)))
	c := w.datagramFlow(client(1), 0, firstPort)
	in, _ = c.up(s)
	w.expect("datagram", in, answers("ttl", icmpAnswer(in, e)))
	in, _ = c.down(s)
	w.expect("answer", in, answers("ttl", icmpAnswer(in, e)))
}

// firstDatagramsOnBoth: one flow for a client, whoever is first.
func firstDatagramsOnBoth(w *world) {
	rows.Proves(w, 78)
	const clients = 1000
	var outs [2][clients][]byte
	w.together(clients, func(cpu, n int) (err error) {
		outs[cpu][n], err = w.forwards(datagram(10).arrives(w.client(n), w.vip()))
		return err
	})
	for n := range clients {
		if !bytes.Equal(outs[0][n], outs[1][n]) {
			w.Errorf("client %d: %s", n, packet.Diff(outs[0][n], outs[1][n]))
		}
	}
	s := w.snapshot()
	if s.counts["flows"] != clients || s.counts["active"] != clients {
		w.Errorf("%d flows, %d active", s.counts["flows"], s.counts["active"])
	}
	ports := int64(0)
	for slot := range 3 {
		ports += s.counts[memberName(slot, "ports")]
	}
	if ports != clients {
		w.Errorf("%d ports", ports)
	}
}
