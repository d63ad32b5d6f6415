package bpf_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// More than there is room for: ports, flows, clients that are remembered. What is there
// goes on, what is too much is told so, and in the end nothing is left.

func TestExhaustion(t *testing.T) {
	onFamilies(t, options{flowLimit: 1000}, func(w *world) {
		w.run("ports", fewPorts)
		w.run("flows", fewFlows)
		w.run("clients that are remembered", fewAffinities)
		w.run("churn", churn)
	})
}

// crowd is what became of many clients' SYNs.
type crowd struct {
	served  []conn
	refused int
}

// admit sends SYNs of clients from the given one on and completes what is forwarded.
func (w *world) admit(from, n int) (c crowd) {
	w.Helper()
	for i := from; i < from+n; i++ {
		got := w.send(seg(packet.SYN, clientISN, 0).arrives(w.client(i), w.vip()))
		switch got.action {
		case forwarded:
			slot, port := w.chosen(got.frame)
			served := conn{w: w, client: w.client(i), slot: slot, port: port, cseq: clientISN + 1, mseq: memberISN}
			c.served = append(c.served, served.finish())
		case answered:
			c.refused++
		default:
			w.Fatalf("SYN of client %d was %s", i, got.action)
		}
	}
	return c
}

// unique wants no two connections to look alike to their members.
func (w *world) unique(all []conn) {
	w.Helper()
	type seen struct{ nat, member netip.AddrPort }
	users := make(map[seen]conn)
	for _, c := range all {
		key := seen{c.nat(), c.member()}
		if other, twice := users[key]; twice {
			w.Errorf("%s and %s are one to the member", c, other)
		}
		users[key] = c
	}
}

// bySlots counts connections by member.
func bySlots(all []conn) (n [3]int) {
	for _, c := range all {
		n[c.slot]++
	}
	return n
}

// fewPorts: 64 ports toward a member and 200 clients. Another member takes the rest as
// long as it can; then clients hear that there is no room.
func fewPorts(w *world) {
	rows.Proves(w, 119)
	const left, clients = 64, 200
	lastWord := maps.Sweep{Slot: 0, Word: maps.NATWords - 1, Words: 1}
	w.plant(0, firstPort, lastPort-left)
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0, 1} })
	all := w.admit(1000, clients)
	if n := bySlots(all.served); n != [3]int{left, clients - left, 0} || all.refused > 0 {
		w.Errorf("with room at slot 1: %v served, %d refused", n, all.refused)
	}
	w.unique(all.served)
	// Now the other one has no more than it holds.
	w.plant(1, firstPort, lastPort)
	for range 10 {
		w.refused("SYN", seg(packet.SYN, clientISN, 0), "nat_full")
	}
	for n := 0; n < len(all.served); n += 17 {
		all.served[n].works()
	}
	// A port that was freed rests, and is used again then.
	var freed conn
	for _, c := range all.served {
		if c.slot == 0 {
			freed = c
		}
	}
	freed.close()
	w.age(freed, 30*time.Second)
	if got, err := lastWord.Run(w.sweep); err != nil || got.Expired != 0 {
		w.Errorf("too early: %+v, %v", got, err)
	}
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "nat_full")
	w.age(freed, 40*time.Second)
	if got, err := lastWord.Run(w.sweep); err != nil || got.Expired != 1 {
		w.Errorf("after a minute: %+v, %v", got, err)
	}
	again := w.quick(client(500))
	if again.nat() != freed.nat() || again.slot != 0 {
		w.Errorf("%s was freed, and %s opened", freed, again)
	}
	again.works()
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "nat_full")
}

// fewFlows: room for 1,000, and 1,200 clients.
func fewFlows(w *world) {
	rows.Proves(w, 121)
	const clients = 1200
	room := w.room()
	before := w.counted()
	all := w.admit(1000, clients)
	if len(all.served) != room || all.refused != clients-room {
		w.Errorf("%d served, %d refused", len(all.served), all.refused)
	}
	if d := w.counted().since(before); d["drops.flows_full"] != int64(clients-room) {
		w.Errorf("counted %s", d.verdict())
	}
	w.allWork(all.served)
	// No half of a refused one is left.
	if s := w.snapshot(); len(s.flows) != 2*room || len(s.handshakes) != 0 {
		w.Errorf("%d entries of flows, %d of handshakes", len(s.flows), len(s.handshakes))
	}
}

// fewAffinities: three times as many persistent clients as are remembered. Who is
// forgotten is a new client to the method; flows do not feel it.
func fewAffinities(w *world) {
	rows.Proves(w, 122)
	const remembered, strangers, recent = 10240, 30_000, 1000
	w.configure(func(g *maps.Generation) { g.VIP.Affinity = true })
	all := w.admit(0, 300)
	slots := make([]int, 0, strangers)
	for n := range strangers {
		slots = append(slots, w.turnedAway(w.flooder(n)))
	}
	if n := w.levels()["affinities"]; n > remembered || n < remembered/2 {
		w.Errorf("%d clients are remembered of %d", n, remembered)
	}
	hits := 0
	for n := strangers - recent; n < strangers; n++ {
		again := netip.AddrPortFrom(w.flooder(n).Addr(), 9999)
		if w.turnedAway(again) == slots[n] {
			hits++
		}
	}
	w.Logf("%d of the last %d clients met their member again", hits, recent)
	if hits < recent*9/10 {
		w.Errorf("only %d of the last %d clients met their member again", hits, recent)
	}
	w.allWork(all.served)
}

// turnedAway is a client whom his member refuses, and which one that is.
func (w *world) turnedAway(from netip.AddrPort) (slot int) {
	w.Helper()
	slot, port := w.chosen(w.only(seg(packet.SYN, clientISN, 0).arrives(from, w.vip())))
	c := conn{w: w, client: from, slot: slot, port: port}
	in, _ := c.down(seg(packet.RST|packet.ACK, 0, clientISN+1))
	w.only(in)
	return slot
}

// allWork is conn.works for many: the bytes are compared, and nothing else.
func (w *world) allWork(all []conn) {
	w.Helper()
	for n := range all {
		c := &all[n]
		s := seg(packet.ACK, c.cseq, c.mseq).with(9)
		in, out := c.up(s)
		if d := packet.Diff(w.only(in), out); d != "" {
			w.Fatalf("%s: %s", c, d)
		}
		c.cseq = s.end()
		in, out = c.down(seg(packet.ACK, c.mseq, c.cseq))
		if d := packet.Diff(w.only(in), out); d != "" {
			w.Fatalf("%s: %s", c, d)
		}
	}
}

// churn: connections of all kinds and ends, then silence. Every level is back to 0, and
// the members' counters add up to the handshakes that were completed.
func churn(w *world) {
	rows.Proves(w, 123)
	const rounds, batch = 6, 800
	w.configure(func(g *maps.Generation) { leastConnections(g, 3); g.Weights = []uint32{1, 2, 5} })
	random := w.random()
	completed := int64(0)
	for round := range rounds {
		for n := range batch {
			completed += w.passingBy(w.quickSYN(client(round*batch+n)), random)
		}
		w.silence()
		levels := w.levels()
		for name, n := range levels {
			if n != 0 && !monotonic(name) {
				w.Fatalf("round %d: %s is %d after the silence", round, name, n)
			}
		}
	}
	total := int64(0)
	levels := w.levels()
	for slot := range 3 {
		total += levels[memberName(slot, "connections")]
	}
	if total != completed {
		w.Errorf("%d connections were counted of %d", total, completed)
	}
	next := w.open(client(7), int(w.poolState().LastSlot)%3, w.recentPort(int(w.poolState().LastSlot)%3, -1))
	next.works()
}

// passingBy is a connection that comes to one of its possible ends, and how many it
// counts as.
func (w *world) passingBy(c conn, r *rand.Rand) (completed int64) {
	w.Helper()
	up := func(s segment) { in, _ := c.up(s); w.only(in) }
	down := func(s segment) { in, _ := c.down(s); w.only(in) }
	switch r.IntN(8) {
	case 0: // silence
		return 0
	case 1: // silence after the answer
		down(seg(packet.SYN|packet.ACK, c.mseq, c.cseq))
		return 0
	case 2: // refused
		down(seg(packet.RST|packet.ACK, 0, c.cseq))
		return 0
	}
	c = c.finish()
	switch r.IntN(4) {
	case 0:
		up(seg(packet.RST, c.cseq, 0))
	case 1:
		down(seg(packet.RST, c.mseq, 0))
	case 2:
		up(seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
		down(seg(packet.FIN|packet.ACK, c.mseq, c.cseq+1))
		up(seg(packet.ACK, c.cseq+1, c.mseq+1))
		up(seg(packet.FIN|packet.ACK, c.cseq, c.mseq)) // late, and twice
	default: // silence
	}
	return 1
}

// silence lets all that is there grow old, and runs the expiry over all members.
func (w *world) silence() {
	w.Helper()
	s := w.snapshot()
	for key := range s.flows {
		w.ageEntry(key, 3*time.Hour)
	}
	for key := range s.handshakes {
		w.ageHalf(key, 2*time.Minute)
	}
	for _, slot := range w.pool.Slots() {
		w.sweepAll(int(slot), maps.Sweep{})
	}
}

// monotonic counters only grow.
func monotonic(name string) bool {
	switch name {
	case "flows", "active", "handshakes", "affinities":
		return false
	}
	for _, level := range []string{".ports", ".active", ".conns"} {
		if len(name) > len(level) && name[len(name)-len(level):] == level {
			return false
		}
	}
	return true
}
