package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

const (
	firstPort = 1024
	lastPort  = 65023
)

func TestPorts(t *testing.T) {
	onFamilies(t, options{wholeRing: true}, func(w *world) {
		oneMember := func(test func(w *world)) func(w *world) {
			return func(w *world) {
				w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
				test(w)
			}
		}
		w.run("in order, each member its own", func(w *world) {
			for n := range 90 {
				c := w.quickSYN(client(n))
				if c.slot != n%3 || c.port != firstPort+uint16(n/3) {
					w.Fatalf("connection %d: %s", n, c)
				}
			}
		})
		w.run("the whole range, and round again", oneMember(wholeRange))
		w.run("a freed port comes last", oneMember(freedPort))
		w.run("the listener's is never used", oneMember(listenersPort))
		w.run("busy ports are passed over", oneMember(busyPorts))
		w.run("all are taken", oneMember(allTaken))
		w.run("only the listener's is left", oneMember(listenersIsLeft))
		w.run("the cursor wraps", oneMember(cursorWraps))
		w.run("a taken port whose bit is lost", oneMember(lostBit))
		w.run("a member without ports is passed over", otherMember)
		w.run("ports of different members", func(w *world) {
			// The same port at two members leads each answer to its own client.
			a, b := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort)
			a.works()
			b.works()
		})
	})
}

// wholeRange: every port of the range once, in order, before any is used again. The
// handshakes are let go on the way, as the ring does it.
func wholeRange(w *world) {
	rows.Proves(w, 66)
	for n := range maps.NATPorts + 10 {
		from := w.host(netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(n >> 16), byte(n >> 8), byte(n)}), 40000))
		out := w.only(seg(packet.SYN, clientISN, 0).arrives(from, w.vip()))
		if got, want := int(binary.BigEndian.Uint16(out[transportOf(out):])), firstPort+n%maps.NATPorts; got != want {
			w.Fatalf("connection %d got port %d, want %d", n, got, want)
		}
	}
}

func freedPort(w *world) {
	rows.Proves(w, 61, 66)
	for n := range 5 {
		c := w.syn(client(n), 0, firstPort+uint16(n))
		c.gets("RST", seg(packet.RST|packet.ACK, 0, c.cseq), forgotten(0))
	}
	w.open(client(9), 0, firstPort+5)
}

// moveCursor makes a member's next port the given one; before is how often the range
// has been walked.
func (w *world) moveCursor(slot int, natPort uint16, before uint32) {
	state := w.memberState(slot)
	state.PortCursor = before*maps.NATPorts + uint32(natPort-firstPort)
	w.setMemberState(slot, state)
}

// plant takes ports from first up to last, as handshakes that another pool has
// evicted leave them behind.
func (w *world) plant(slot int, first, last int) {
	w.Helper()
	state := w.memberState(slot)
	n := uint32(0)
	for p := first; p <= last; p++ {
		word, bit := (p-firstPort)/64, uint64(1)<<((p-firstPort)%64)
		if state.Ports[word]&bit == 0 {
			state.Ports[word] |= bit
			n++
		}
	}
	state.PortsUsed += n
	w.setMemberState(slot, state)
	w.addConns(slot, n)
	w.orphans += int(n)
}

// free gives a planted port back.
func (w *world) free(slot int, natPort int) {
	w.Helper()
	state := w.memberState(slot)
	state.Ports[(natPort-firstPort)/64] &^= 1 << ((natPort - firstPort) % 64)
	state.PortsUsed--
	w.setMemberState(slot, state)
	w.addConns(slot, ^uint32(0))
	w.orphans--
}

func (w *world) addConns(slot int, n uint32) {
	own := w.pool.Maps()
	var conns bpf.Lb4Conns
	w.must(own.Conns.Lookup(uint32(0), &conns))
	conns.Count[slot] += n
	w.must(own.Conns.Put(uint32(0), conns))
}

// listenersPort: a listener within the range is reached by clients, and members'
// answers never look as if they were for it.
func listenersPort(w *world) {
	rows.Proves(w, 100)
	w.configure(func(g *maps.Generation) { g.VIP.Address = netip.AddrPortFrom(w.vip().Addr(), 8080) })
	w.moveCursor(0, 8078, 0)
	for n, want := range []uint16{8078, 8079, 8081, 8082} {
		c := w.open(client(n), 0, want)
		c.works()
	}
	// It counts as nobody's, or the member could never be let go.
	if used := w.memberState(0).PortsUsed; used != 4 {
		w.Errorf("%d ports are used, want 4", used)
	}
	w.moveCursor(0, 8080, 5)
	w.open(client(9), 0, 8083)
	listener := netip.AddrPortFrom(w.vip().Addr(), 8080)
	for _, flags := range []packet.Flags{packet.SYN | packet.ACK, packet.RST} {
		in := seg(flags, 1, 1).arrives(w.memberAt(0), listener)
		w.expect("member to the listener", in, drops("no_entry"))
	}
	ack := seg(packet.ACK, 1, 1)
	w.expect("member's ACK to the listener", ack.arrives(w.memberAt(0), listener),
		answers("no_entry", ack.resetBy(listener, w.memberAt(0))))
	// Port 80 is nobody's now.
	port80 := netip.AddrPortFrom(w.vip().Addr(), 80)
	w.expect("SYN to port 80", seg(packet.SYN, 1, 0).arrives(w.client(1), port80), passes())
}

// busyPorts: runs of any length and place are passed over, and the next port is the
// first free one behind the cursor, always.
func busyPorts(w *world) {
	next := 0
	opens := func(want uint16) {
		w.Helper()
		c := w.quickSYN(client(next))
		next++
		if c.port != want {
			w.Errorf("connection %d got port %d, want %d", next, c.port, want)
		}
	}
	w.plant(0, firstPort, firstPort)
	opens(1025)
	w.plant(0, 1026, 1089) // a word, though not an aligned one
	opens(1090)
	opens(1091)
	w.plant(0, 1092, 5000)
	opens(5001)
	w.plant(0, 5003, 5003)
	opens(5002)
	opens(5004)
	for p := 5005; p < 5400; p += 2 {
		w.plant(0, p, p)
	}
	for p := 5006; p < 5400; p += 2 {
		opens(uint16(p))
	}
	opens(5400)
	opens(5401)
	w.plant(0, 5402, lastPort) // to the end, and on from the beginning
	w.free(0, firstPort)
	opens(firstPort)
	w.free(0, 40000)
	opens(40000)
	w.free(0, 39999) // behind the cursor now: only all the way round
	opens(39999)
	w.free(0, lastPort)
	opens(lastPort)
	w.free(0, 1500)
	w.free(0, 1499)
	opens(1499)
	opens(1500)
}

// allTaken: there is no port for another connection, and the client hears it.
func allTaken(w *world) {
	rows.Proves(w, 119)
	w.plant(0, firstPort, lastPort)
	for range 3 {
		w.refused("SYN", seg(packet.SYN, clientISN, 0), "nat_full")
	}
	w.free(0, 30000)
	c := w.open(client(1), 0, 30000)
	c.works()
	in := seg(packet.SYN, clientISN, 0).arrives(w.client(2), w.vip())
	w.expect("SYN", in, answers("nat_full", seg(packet.SYN, clientISN, 0).resetBy(w.vip(), w.client(2))))
	c.works()
}

// otherMember: a client that cannot have the member whose turn it is, or to whom its
// address falls, gets another one.
func otherMember(w *world) {
	rows.Proves(w, 119)
	w.plant(0, firstPort, lastPort)
	for n, slot := range []int{1, 2, 1, 2} { // the turns of slot 0 are spent
		c := w.quick(client(20 + n))
		if c.slot != slot {
			w.Errorf("connection %d to slot %d, want %d", n, c.slot, slot)
		}
		c.works()
	}
	w.bySource(7)
	moved := 0
	for n := range 60 {
		from := w.client(100 + n)
		table := w.gen.Schedule
		own := int(table[sourceHash(7, from.Addr())%uint32(len(table))])
		c := w.quick(from)
		if own != 0 && c.slot != own || c.slot == 0 {
			w.Errorf("%s to slot %d, its own is %d", from, c.slot, own)
		}
		if own == 0 {
			moved++
		}
	}
	if moved == 0 {
		w.Error("nobody fell to slot 0")
	}
	// Slot 0 has the fewest by far for its weight.
	w.configure(func(g *maps.Generation) { leastConnections(g, 3); g.Weights = []uint32{1 << 20, 1, 1} })
	for n := range 10 {
		if c := w.quick(client(300 + n)); c.slot == 0 {
			w.Errorf("%s to slot 0", c.client)
		}
	}
	// Where nobody else is, the client hears so.
	w.configure(func(g *maps.Generation) { leastConnections(g, 3); g.Weights = []uint32{1, 0, 0} })
	for range 3 {
		w.refused("SYN", seg(packet.SYN, clientISN, 0), "nat_full")
	}
	w.free(0, 4000)
	c := w.open(client(9), 0, 4000)
	c.works()
}

func listenersIsLeft(w *world) {
	w.configure(func(g *maps.Generation) { g.VIP.Address = netip.AddrPortFrom(w.vip().Addr(), 2000) })
	w.plant(0, firstPort, lastPort)
	w.free(0, 2000)
	in := seg(packet.SYN, clientISN, 0).arrives(w.client(1), w.gen.VIP.Address)
	got := w.send(in)
	if got.action != answered {
		w.Errorf("SYN was %s", got.action)
	}
	w.checkInvariants()
	w.free(0, 2001)
	w.open(client(1), 0, 2001)
}

// cursorWraps: the cursor counts without end and then starts anew; no port is given
// twice by that.
func cursorWraps(w *world) {
	state := w.memberState(0)
	state.PortCursor = 0xfffffffe // 55,294 ports into the range
	w.setMemberState(0, state)
	for n, want := range []uint16{firstPort + 55294, firstPort + 55295, firstPort, firstPort + 1} {
		c := w.open(client(n), 0, want)
		c.works()
	}
}

// lostBit: the entries are the truth. A port that looks free, but is not, gets its
// bit back, and the connection is given the next one.
func lostBit(w *world) {
	flow := w.open(client(1), 0, firstPort)
	half := w.syn(client(2), 0, firstPort+1)
	state := w.memberState(0)
	state.Ports[0], state.PortsUsed, state.PortCursor = 0, 0, 0
	w.setMemberState(0, state)
	w.addConns(0, ^uint32(1)) // as the expiry counts what it takes for orphans

	in := seg(packet.SYN, clientISN, 0).arrives(w.client(3), w.vip())
	c := conn{w: w, client: w.client(3), port: firstPort + 2, cseq: clientISN + 1, mseq: memberISN}
	_, out := c.up(seg(packet.SYN, clientISN, 0))
	w.expect("SYN", in, forwards(out, toMember(0, in),
		delta{"handshakes": 1, "m0.ports": 3, "m0.conns": 3}))
	c = c.synAck().ack()
	for _, c := range []conn{flow, half.synAck().ack(), c} {
		c.works()
	}
}

// TestPortsOfManyMembers: members behind one address with different ports, and the
// same port at different addresses, are told apart.
func TestPortsOfManyMembers(t *testing.T) {
	onFamilies(t, options{slots: 40}, func(w *world) {
		w.reset()
		w.configure(func(g *maps.Generation) {
			g.Members, g.Schedule = nil, nil
			for slot := range 40 {
				m := member(slot)
				if slot >= 20 {
					m.Address = netip.AddrPortFrom(w.memberAt(slot-20).Addr(), 9000)
				}
				g.Members = append(g.Members, m)
				g.Schedule = append(g.Schedule, uint16(slot))
			}
		})
		var all []conn
		for n := range 120 {
			c := w.quick(client(n))
			if c.slot != n%40 || c.port != firstPort+uint16(n/40) {
				w.Fatal(fmt.Sprint(n, " ", c))
			}
			all = append(all, c)
		}
		for n := 0; n < len(all); n += 7 {
			all[n].works()
		}
		w.checkInvariants()
	})
}
