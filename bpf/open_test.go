package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/maps/maglev"
	"qlbaas/maps/schedule"
	"qlbaas/tests/packet"
)

// Who gets a new connection.

func TestRoundRobin(t *testing.T) {
	onFamilies(t, options{slots: 8}, func(w *world) {
		w.run("in fixed order", func(w *world) {
			w.turns([]int{0, 1, 2}, 100)
		})
		w.run("by weight", func(w *world) {
			// The interleave of 5, 1 and 1, as it is known.
			turns := schedule.Interleave([]uint16{5, 1, 1})
			w.configure(func(g *maps.Generation) { g.Schedule = turns })
			w.turns([]int{0, 0, 1, 0, 2, 0, 0}, 100)
		})
		w.run("a long schedule", func(w *world) {
			// More than two blocks, and not a whole number of them.
			weights := []uint16{41, 17, 23}
			w.configure(func(g *maps.Generation) { g.Schedule = schedule.Interleave(weights) })
			want := make([]int, 0, 81)
			for _, slot := range w.gen.Schedule {
				want = append(want, int(slot))
			}
			w.turns(want, 3*len(want)+5)
		})
		w.run("a change keeps the turn", func(w *world) {
			w.turns([]int{0, 1, 2}, 4)
			w.configure(func(g *maps.Generation) { g.VIP.Idle *= 2 })
			w.turns([]int{1, 2, 0}, 4)
			w.configure(func(g *maps.Generation) { g.Schedule = []uint16{2, 1, 0} })
			w.turns([]int{0, 2, 1}, 6) // turn 8 of three
		})
		w.run("retransmitted SYNs take no turn", func(w *world) {
			for n := range 9 {
				c := w.quickSYN(client(n))
				if again := w.quickSYN(client(n)); again.slot != c.slot || c.slot != n%3 {
					w.Errorf("SYN %d to slot %d, again to slot %d", n, c.slot, again.slot)
				}
			}
		})
		w.run("a member that is down is passed over", passedOver)
		w.run("nobody is up", func(w *world) {
			for slot := range 3 {
				w.setUp(slot, false)
			}
			w.refused("SYN", seg(packet.SYN, clientISN, 0), "no_member")
			w.setUp(1, true)
			w.turns([]int{1}, 5)
		})
	})
}

// turns opens n connections and expects the order, over and over.
func (w *world) turns(order []int, n int) {
	w.Helper()
	at := w.clients()
	var got []int
	for i := range n {
		got = append(got, w.quickSYN(client(at+i)).slot)
	}
	for i, slot := range got {
		if slot != order[i%len(order)] {
			w.Fatalf("connection %d to slot %d, want %d: %v, want %v again and again", i, slot, order[i%len(order)], got, order)
		}
	}
}

// clients is a number from which on no client has been seen.
func (w *world) clients() int {
	n := 1000
	for _, h := range w.snapshot().handshakes {
		if a := four(h.Key.Source.Addr()).As4(); a[0] == 10 && a[1] == 10 {
			n = max(n, int(a[2]-10)<<8+int(a[3])+1)
		}
	}
	return n
}

// passedOver: the others keep their order and share its turns evenly: no neighbour
// gets them all. That is so at once, by the verdict alone, and by the schedule that
// is built anew.
func passedOver(w *world) {
	w.configure(func(g *maps.Generation) {
		g.Members = append(g.Members, member(3))
		g.Schedule = []uint16{0, 1, 2, 3}
	})
	w.setUp(1, false)
	w.turns([]int{0, 2, 3}, 30)
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0, 2, 3} })
	counts := make(map[int]int)
	for n := range 30 {
		counts[w.quickSYN(client(w.clients()+n)).slot]++
	}
	if counts[0] != 10 || counts[2] != 10 || counts[3] != 10 {
		w.Errorf("connections by slot: %v", counts)
	}
}

func TestSourceIP(t *testing.T) {
	onFamilies(t, options{}, func(w *world) {
		w.run("by the hash of the address", func(w *world) {
			for _, seed := range []uint32{0, 1, 0x5eed, 0xffffffff} {
				w.reset()
				w.bySource(seed)
				w.followsHash()
			}
		})
		w.run("ports do not matter", func(w *world) {
			w.bySource(7)
			first := w.quickSYN(client(1)).slot
			for n := range 50 {
				from := netip.AddrPortFrom(client(1).Addr(), uint16(1+n*999))
				if slot := w.quickSYN(from).slot; slot != first {
					w.Errorf("%s to slot %d, before to %d", from, slot, first)
				}
			}
		})
		w.run("only who lost his member moves", func(w *world) {
			w.bySource(7)
			before := make(map[int]int)
			for n := range 300 {
				before[n] = w.quickSYN(client(n)).slot
			}
			w.setUp(1, false)
			for n := range 300 {
				from := netip.AddrPortFrom(client(n).Addr(), 2000)
				if slot := w.quickSYN(from).slot; slot == 1 || before[n] != 1 && slot != before[n] {
					w.Errorf("client %d from slot %d to slot %d", n, before[n], slot)
				}
			}
		})
		w.run("nobody is up", func(w *world) {
			w.bySource(7)
			for slot := range 3 {
				w.setUp(slot, false)
			}
			w.refused("SYN", seg(packet.SYN, clientISN, 0), "no_member")
		})
	})
}

// bySource configures SOURCE_IP with the table that the loader would build.
func (w *world) bySource(seed uint32) {
	w.configure(func(g *maps.Generation) {
		g.VIP.Method, g.VIP.HashSeed = maps.SourceIP, seed
		members := make([]maglev.Member, len(g.Members))
		for i := range members {
			members[i] = maglev.Member{ID: [16]byte{byte(i)}, Weight: 1, Usable: true}
		}
		g.Schedule = maglev.Build(members)
	})
}

func (w *world) followsHash() {
	random := w.random()
	for range 500 {
		a := netip.AddrFrom4([4]byte{byte(1 + random.IntN(126)), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())})
		table := w.gen.Schedule
		from := w.host(netip.AddrPortFrom(a, 5000))
		want := int(table[sourceHash(w.gen.VIP.HashSeed, from.Addr())%uint32(len(table))])
		if slot := w.quickSYN(from).slot; slot != want {
			w.Fatalf("%s to slot %d, want %d", a, slot, want)
		}
	}
}

// sourceHash is what the programs compute: MurmurHash3's finalizer.
func sourceHash(seed uint32, a netip.Addr) uint32 {
	h := seed
	for b := a.AsSlice(); len(b) > 0; b = b[4:] {
		h ^= binary.NativeEndian.Uint32(b)
		h ^= h >> 16
		h *= 0x85ebca6b
		h ^= h >> 13
		h *= 0xc2b2ae35
		h ^= h >> 16
	}
	return h
}

func TestLeastConnections(t *testing.T) {
	const most = 1024
	onFamilies(t, options{slots: most, flowLimit: 65536}, func(w *world) {
		w.reset()
		w.configure(func(g *maps.Generation) { leastConnections(g, 3) })
		w.leastByHand()
		w.reset()
		w.configure(func(g *maps.Generation) { leastConnections(g, most) })
		if w.hook == tcHook || w.ipv6 { // the choice is the same C on XDP
			rapid.Check(t, func(r *rapid.T) { w.leastLikeModel(r, most) })
		}
		w.configure(func(g *maps.Generation) { leastConnections(g, most) })
		w.reset()
		for n := range most {
			if slot := w.quickSYN(client(n)).slot; slot != n {
				w.Fatalf("connection %d of an idle pool to slot %d", n, slot)
			}
		}
		w.checkInvariants()
	})
}

func leastConnections(g *maps.Generation, members int) {
	g.VIP.Method, g.Schedule = maps.LeastConnections, nil
	g.Members, g.Weights = nil, nil
	for slot := range members {
		g.Members = append(g.Members, member(slot))
		g.Weights = append(g.Weights, 1)
	}
}

// leastByHand is a story that can be followed without a model.
func (w *world) leastByHand() {
	w.Helper()
	var open []conn
	opens := func(slots ...int) {
		w.Helper()
		for _, slot := range slots {
			c := w.quick(client(len(open)))
			if c.slot != slot {
				w.Fatalf("connection %d to slot %d, want %d", len(open), c.slot, slot)
			}
			open = append(open, c)
		}
	}
	opens(0, 1, 2, 0, 1, 2) // nobody has fewer: in turn
	open[1].close()         // slot 1 has one, the others two
	opens(1, 2, 0, 1)       // and again in turn
	open[2].close()
	open[5].close()
	opens(2, 2)
	w.configure(func(g *maps.Generation) { g.Weights = []uint32{2, 1, 1} })
	// 3, 3, 3 by weights 2, 1, 1: slot 0 may have as many as both others.
	opens(0, 0, 0)
	w.must(w.pool.ZeroWeight(0))
	opens(1, 2, 1, 2)
	w.must(w.pool.ZeroWeight(1))
	w.must(w.pool.ZeroWeight(2))
	got := w.send(seg(packet.SYN, clientISN, 0).arrives(w.client(999), w.vip()))
	if got.action != answered {
		w.Errorf("SYN without anybody to go to was %s", got.action)
	}
	w.checkInvariants()
}

// leastModel is the method in the simplest words.
type leastModel struct {
	weights, conns []uint32
	next           int // where a tie starts
}

// choose is the member with the fewest connections by weight; among equals the first
// one at or after next, else the first one.
func (m *leastModel) choose() int {
	best := -1
	for i := range m.weights {
		slot := (m.next + i) % len(m.weights)
		if m.weights[slot] == 0 {
			continue
		}
		if best < 0 || uint64(m.conns[slot])*uint64(m.weights[best]) < uint64(m.conns[best])*uint64(m.weights[slot]) {
			best = slot
		}
	}
	if best >= 0 {
		m.conns[best]++
		m.next = best + 1
	}
	return best
}

// leastLikeModel: whatever members hold and weigh, the choice is the model's.
func (w *world) leastLikeModel(r *rapid.T, most int) {
	n := rapid.OneOf(rapid.IntRange(1, 8), rapid.IntRange(1, 100), rapid.IntRange(1, most)).Draw(r, "members")
	weight := rapid.SampledFrom([]uint32{0, 1, 1, 1, 2, 3, 100, 255, 256})
	held := rapid.Uint32Range(0, rapid.SampledFrom([]uint32{0, 1, 5, 60000}).Draw(r, "load"))
	m := leastModel{make([]uint32, most), make([]uint32, most), rapid.IntRange(0, n).Draw(r, "next")}
	for slot := range n {
		m.weights[slot], m.conns[slot] = weight.Draw(r, "weight"), held.Draw(r, "conns")
	}
	w.impose(&m)
	for i := range rapid.IntRange(1, 24).Draw(r, "connections") {
		if rapid.IntRange(0, 3).Draw(r, "ends") == 0 {
			// Some connection ends: the tables' side of that is tested elsewhere.
			slot := rapid.IntRange(0, n-1).Draw(r, "slot")
			if m.conns[slot] > 0 {
				m.conns[slot]--
				w.imposeConns(&m)
			}
		}
		want := m.choose()
		from := w.host(netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, 0, 0, byte(i)}), uint16(1+w.serial())))
		got := w.send(seg(packet.SYN, clientISN, 0).arrives(from, w.vip()))
		switch {
		case want < 0 && got.action == answered:
		case want >= 0 && got.action == forwarded:
			if slot, _ := w.chosen(got.frame); slot != want {
				r.Fatalf("connection %d to slot %d (%d by %d), want %d (%d by %d)", i,
					slot, m.conns[slot], m.weights[slot], want, m.conns[want]-1, m.weights[want])
			}
		default:
			r.Fatalf("connection %d was %s, want slot %d", i, got.action, want)
		}
	}
}

// serial counts up, by what the node has opened.
func (w *world) serial() int {
	var node bpf.Lb4HalfOpenNode
	shared := w.node.Maps()
	w.must(shared.HalfOpenNode.Lookup(uint32(0), &node))
	return int(node.Cursor) % 60000
}

// impose writes the model's state into the active tables.
func (w *world) impose(m *leastModel) {
	w.imposeConns(m)
	for _, half := range []int{0, 1} {
		table := slices.IndexFunc(w.pool.Inner(), func(in maps.Inner) bool { return in.Name == fmt.Sprintf("weights_%d", half) })
		if table < 0 {
			continue
		}
		inner := w.pool.Inner()[table].Map
		for b := range min(int(inner.MaxEntries()), len(m.weights)/32) {
			w.must(inner.Put(uint32(b), bpf.Lb4WeightBlock{Weight: [32]uint32(m.weights[32*b : 32*b+32])}))
		}
	}
	state := w.poolState()
	state.LastSlot = uint32(m.next)
	own := w.pool.Maps()
	w.must(own.PoolState.Put(uint32(0), state))
}

func (w *world) imposeConns(m *leastModel) {
	var conns bpf.Lb4Conns
	copy(conns.Count[:], m.conns)
	own := w.pool.Maps()
	w.must(own.Conns.Put(uint32(0), conns))
}

// refused sends a client's segment and expects a RST for it, as a closed port's.
func (w *world) refused(what string, s segment, reason string) {
	w.Helper()
	from, to := w.host(client(1)), w.host(vip)
	w.expect(what, s.arrives(from, to), answers(reason, s.resetBy(to, from)))
}

// reset is the RST that answers the segment of a client.
func (s segment) reset(to netip.AddrPort) []byte { return s.resetBy(vip, to) }

// resetBy is the RST that answers the segment, from whom it was for to its sender.
func (s segment) resetBy(from, to netip.AddrPort) []byte {
	rst := segment{
		ip:  packet.IPv4{TTL: 65, DF: true}, // leaves with one less
		tcp: packet.TCP{Flags: packet.RST | packet.ACK, Ack: s.end()},
	}
	if s.tcp.Flags&packet.ACK != 0 {
		rst.tcp = packet.TCP{Flags: packet.RST, Seq: s.tcp.Ack}
	}
	return rst.leaves(from, to)
}
