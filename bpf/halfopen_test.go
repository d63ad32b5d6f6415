package bpf_test

import (
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// ringSize is how many handshakes a node can hold.
const ringSize = 32768

func TestHalfOpenRing(t *testing.T) {
	onFamilies(t, options{wholeRing: true}, func(w *world) {
		w.run("a flood takes no flow", floodTakesNoFlow)
		if w.hook == tcHook || w.ipv6 { // the ring is the same C on XDP
			w.run("the oldest gives way, whole", oldestGivesWay)
			w.run("places of what has ended are free", placesAreFree)
		}
		w.run("a pool that the node does not know", func(w *world) {
			w.must(w.node.RemovePool(w.number))
			in := seg(packet.SYN, clientISN, 0).arrives(w.client(1), w.vip())
			w.expect("SYN", in, drops("internal"))
			w.must(w.node.AddPool(w.number))
			w.open(client(1), 1, firstPort)
		})
	})
}

// flood sends n SYNs of clients that never answer, from the given one on.
func (w *world) flood(from, n int) {
	w.Helper()
	for i := from; i < from+n; i++ {
		w.only(seg(packet.SYN, clientISN, 0).arrives(w.flooder(i), w.gen.VIP.Address))
	}
}

// press is flood where some SYNs may be refused, and says how many.
func (w *world) press(from, n int) (refused int) {
	w.Helper()
	before := w.counted()["drops.half_open_full"]
	for i := from; i < from+n; i++ {
		_, _, err := w.try(seg(packet.SYN, clientISN, 0).arrives(w.flooder(i), w.gen.VIP.Address))
		w.must(err)
	}
	return int(w.counted()["drops.half_open_full"] - before)
}

func (w *world) flooder(n int) netip.AddrPort {
	return w.host(netip.AddrPortFrom(netip.AddrFrom4([4]byte{12, byte(n >> 16), byte(n >> 8), byte(n)}), 7777))
}

func (w *world) levels() delta {
	w.Helper()
	return w.snapshot().counts
}

// has tells whether the client's handshake is there.
func (w *world) has(from netip.AddrPort) bool {
	w.Helper()
	shared := w.node.Maps()
	entry, err := shared.HalfOpen.LookupBytes(w.storedHalf(maps.FlowKey{
		Source: from, Destination: w.vip(), Protocol: w.gen.VIP.Protocol,
	}))
	w.must(err)
	return entry != nil
}

// oldestGivesWay: one out for one in, in the order of arrival, and what one holds
// goes with it.
func oldestGivesWay(w *world) {
	const more = 1000
	w.flood(0, ringSize)
	if n := w.levels()["evicted"]; n != 0 {
		w.Errorf("%d were evicted while there was room", n)
	}
	w.checkInvariants()
	w.flood(ringSize, more)
	levels := w.levels()
	if levels["evicted"] != more || levels["handshakes"] != ringSize {
		w.Errorf("%d evicted, %d are there", levels["evicted"], levels["handshakes"])
	}
	for n := range ringSize + more {
		if there := w.has(w.flooder(n)); there != (n >= more) {
			w.Fatalf("handshake %d is there: %v", n, there)
		}
	}
	w.checkInvariants()

	// An evicted client that tries again is as good as new.
	got := w.send(seg(packet.SYN, clientISN, 0).arrives(w.flooder(0), w.vip()))
	if got.action != forwarded || !w.has(w.flooder(0)) || w.has(w.flooder(more)) {
		w.Errorf("evicted client's SYN was %s", got.action)
	}
}

// floodTakesNoFlow: flows stay, and whoever completes a handshake gets one.
func floodTakesNoFlow(w *world) {
	const flows, syns = 300, 100_000
	var all []conn
	for n := range flows {
		all = append(all, w.quick(client(n)))
	}
	before := w.levels()
	late := 0
	for n := 0; n < syns; n += 10_000 {
		w.flood(n, 5_000)
		c := w.quickSYN(client(1000 + late))
		w.flood(n+5_000, 5_000) // arrives within the client's round trip
		all = append(all, c.finish())
		late++
	}
	for n := range all {
		in, out := all[n].up(seg(packet.ACK, all[n].cseq, all[n].mseq).with(10))
		if d := packet.Diff(w.only(in), out); d != "" {
			w.Fatalf("flow %d: %s", n, d)
		}
	}
	d := w.levels().since(before)
	if d["flows"] != int64(late) || d["active"] != int64(late) || d["evicted"] < syns-ringSize {
		w.Errorf("changed %s", d)
	}
}

// placesAreFree: handshakes that are over make nobody give way.
func placesAreFree(w *world) {
	c := w.syn(client(1), 0, firstPort)
	for n := range ringSize - 1 {
		from := w.flooder(n)
		w.only(seg(packet.SYN, clientISN, 0).arrives(from, w.vip()))
		if n%2 == 0 {
			continue
		}
		// Refused by its member.
		slot, natPort := (n+1)%3, uint16(firstPort+(n+1)/3)
		w.only(seg(packet.RST|packet.ACK, 0, clientISN+1).arrives(
			w.memberAt(slot), netip.AddrPortFrom(w.vip().Addr(), natPort)))
	}
	levels := w.levels()
	if levels["evicted"] != 0 || levels["handshakes"] != 1+ringSize/2 {
		w.Errorf("%d evicted, %d are there", levels["evicted"], levels["handshakes"])
	}
	// The first place is next: only its handshake goes.
	w.flood(ringSize, 2)
	if levels := w.levels(); levels["evicted"] != 2 {
		w.Errorf("%d evicted", levels["evicted"])
	}
	if w.has(c.client) {
		w.Error("the oldest handshake is still there")
	}
	w.checkInvariants()
}

func TestHalfOpenPools(t *testing.T) {
	onFamilies(t, options{number: 1, wholeRing: true}, func(a *world) {
		b := newWorld(a, a.hook, options{number: 2, node: a.node, ipv6: a.ipv6})
		both := func(name string, test func(a, b *world)) {
			a.run(name, func(own *world) {
				other := *b
				other.TB = own.TB
				other.reset()
				test(own, &other)
				other.checkInvariants()
			})
		}
		both("each has its own handshakes", func(a, b *world) {
			// The same client, VIP, member and port: two tenants may overlap.
			ca, cb := a.open(client(1), 0, firstPort), b.open(client(1), 0, firstPort)
			ca.works()
			cb.works()
		})
		both("who holds more gives way", holdsMore)
		if a.hook == tcHook || a.ipv6 {
			both("a flood on one leaves the other alone", floodOnOne)
			both("both are flooded", bothFlooded)
		}
	})
}

// holdsMore: a small pool takes its places from the flooded one, whose ports the
// flooded one's own expiry finds.
func holdsMore(a, b *world) {
	a.flood(0, ringSize)
	const some = 200
	var all []conn
	for n := range some {
		all = append(all, b.quickSYN(client(n)))
	}
	a.orphans = some
	if levels := a.levels(); levels["handshakes"] != ringSize-some || levels["evicted"] != some {
		a.Errorf("flooded pool: %d are there, %d evicted", levels["handshakes"], levels["evicted"])
	}
	a.checkInvariants()
	b.checkInvariants()
	a.orphans = 0
	healed := uint32(0)
	for slot := range 3 {
		healed += a.sweepAll(slot, maps.Sweep{}).Healed
	}
	if healed != some {
		a.Errorf("%d ports were healed, want %d", healed, some)
	}
	for _, c := range all {
		c.finish()
	}
}

// floodOnOne: laps of the ring pass over a smaller pool's handshakes, which may take
// their time.
func floodOnOne(a, b *world) {
	a.flood(0, 1000)
	var all []conn
	for n := range 100 { // in a row: longer than one search for a place
		all = append(all, b.quickSYN(client(n)))
	}
	refused := a.press(1000, 2*ringSize)
	// Where a hundred places of others stand in a row the flooded pool's SYN is
	// dropped, once a lap, and its sender told nothing.
	levels := a.levels()
	if refused == 0 || refused > 4 || levels["drops.half_open_full"] != int64(refused) || levels["verdicts.answered"] != 0 {
		a.Errorf("%d SYNs of the flood were refused: %s", refused, levels.verdict())
	}
	if n := b.levels()["handshakes"]; n != 100 {
		b.Errorf("the other pool has %d handshakes left of 100", n)
	}
	for n := range all {
		all[n] = all[n].finish()
	}
	all[0].works()
	all[99].works()
}

// bothFlooded: they share, and neither keeps the other out.
func bothFlooded(a, b *world) {
	a.flood(0, ringSize)
	b.press(0, ringSize)
	for n := 0; n < ringSize/2; n += 100 {
		a.press(ringSize+n, 100)
		b.press(ringSize+n, 100)
	}
	inA, inB := a.levels()["handshakes"], b.levels()["handshakes"]
	if inA+inB > ringSize || inA < ringSize/4 || inB < ringSize/4 {
		a.Errorf("%d and %d handshakes", inA, inB)
	}
	for _, w := range []*world{a, b} {
		for slot := range 3 {
			w.sweepAll(slot, maps.Sweep{})
		}
		w.checkInvariants()
		in := seg(packet.SYN, clientISN, 0).arrives(w.client(1), w.vip())
		if got := w.send(in); got.action != forwarded {
			w.Errorf("SYN was %s", got.action)
		}
	}
}
