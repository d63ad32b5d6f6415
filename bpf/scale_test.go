package bpf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// scaleVar, set to anything, makes these tests as large as the scoreboard wants them.
const scaleVar = "QLBAAS_SCALE"

// scaled is a number for everyday, or that of the scoreboard.
func scaled(small, large int) int {
	if os.Getenv(scaleVar) != "" {
		return large
	}
	return small
}

// report says what was measured, for the scoreboard.
func report(t testing.TB, numbers map[string]any) {
	t.Helper()
	text, err := json.Marshal(numbers)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("scoreboard: %s", text)
}

// nth is the n-th of many clients, behind the gateway.
func nth(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(n >> 16), byte(n >> 8), byte(n)}), 40000)
}

// opensFast is a whole handshake of which nothing is looked at but the port.
func (w *world) opensFast(from netip.AddrPort) conn {
	w.Helper()
	c := w.asksFast(from)
	w.only(seg(packet.SYN|packet.ACK, c.mseq, c.cseq).arrives(c.member(), c.nat()))
	c.mseq++
	w.only(seg(packet.ACK, c.cseq, c.mseq).arrives(c.client, c.vip()))
	return c
}

// asksFast is its SYN.
func (w *world) asksFast(from netip.AddrPort) conn {
	w.Helper()
	slot, port := w.chosen(w.only(seg(packet.SYN, clientISN, 0).arrives(from, w.vip())))
	return conn{w: w, client: from, slot: slot, port: port, cseq: clientISN + 1, mseq: memberISN}
}

// TestEveryPort takes every port toward a member, by connections; gives some back, and
// measures what a new connection costs while so many are taken; and gives all back.
func TestEveryPort(t *testing.T) {
	rows.Proves(t, 119, 120)
	// A table with room: what a new connection does for room in a full one is another cost.
	w := newWorld(t, tcHook, options{flowLimit: 2 * maps.NATPorts})
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	w.must(err)
	defer stats.Close()
	found := map[string]any{}
	tries, twice := 0, 0
	for _, pattern := range []string{"scattered", "block"}[:scaled(1, 2)] {
		p := portsTaken{w: w, found: found, held: map[uint16]conn{}}
		p.takeAll()
		p.costs(pattern)
		p.giveBack(0)
		tries, twice = tries+p.tries, twice+p.twice
		if state := w.memberState(0); state.PortsUsed != 0 || slices.Max(state.Ports[:]) != 0 {
			t.Errorf("%d ports are never given back", state.PortsUsed)
		}
		w.checkInvariants()
	}
	found["tries"], found["failures"], found["leaked"] = tries, twice, w.memberState(0).PortsUsed
	report(t, found)
}

// portsTaken are the connections that hold a member's ports.
type portsTaken struct {
	w     *world
	found map[string]any
	held  map[uint16]conn
	order []uint16 // of ports that are to be given back, from the end
	tries int      // ports that were given out
	twice int      // of them, those that somebody held
}

// take notes a connection's port.
func (p *portsTaken) take(c conn) {
	p.tries++
	if other, taken := p.held[c.port]; taken {
		p.twice++
		p.w.Errorf("%s has the port of %s", c, other)
	}
	if c.port < firstPort || c.port > lastPort {
		p.w.Errorf("%s: outside of the range", c)
	}
	p.held[c.port] = c
}

func (p *portsTaken) takeAll() {
	for n := range maps.NATPorts {
		p.take(p.w.opensFast(nth(n)))
	}
	p.w.refused("SYN", seg(packet.SYN, clientISN, 0), "nat_full")
	for port := range p.held {
		p.order = append(p.order, port)
	}
	slices.Sort(p.order)
}

// costs measures at several shares. In a block, the cursor stands where all taken ports
// lie before it; scattered, they lie anywhere.
func (p *portsTaken) costs(pattern string) {
	if pattern == "scattered" {
		r := p.w.random()
		r.Shuffle(len(p.order), func(i, j int) { p.order[i], p.order[j] = p.order[j], p.order[i] })
	}
	for _, percent := range []int{99, 95, 90, 50, 0} {
		p.giveBack(maps.NATPorts * percent / 100)
		times := p.measure(scaled(100, 2000), pattern == "block")
		name := fmt.Sprintf("%s_%d", pattern, percent)
		p.found[name+"_p99_ns"] = quietest(times, 0.99).Nanoseconds()
		p.found[name+"_p50_ns"] = quantile(times, 0.5).Nanoseconds()
	}
}

// quietest is the quantile of that fifth of the times in which it was least: a machine
// that is not ours alone takes CPUs away at any time.
func quietest(times []time.Duration, part float64) time.Duration {
	least := time.Duration(math.MaxInt64)
	for fifth := range slices.Chunk(times, len(times)/5) {
		least = min(least, quantile(fifth, part))
	}
	return least
}

func quantile(times []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[int(part*float64(len(sorted)))]
}

// giveBack ends connections until so many are left.
func (p *portsTaken) giveBack(left int) {
	w := p.w
	for _, port := range p.order[left:] {
		c := p.held[port]
		w.only(seg(packet.RST, c.cseq, 0).arrives(c.client, c.vip()))
		delete(p.held, port)
	}
	p.order = p.order[:left]
	// Under pressure closed connections are gone after a tenth of a second.
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(10 * time.Second); w.memberState(0).PortsUsed > uint32(left); <-ticker.C {
		w.sweepAll(0, maps.Sweep{Pressure: true})
		if time.Now().After(end) {
			w.Fatalf("%d ports are taken, want %d", w.memberState(0).PortsUsed, left)
		}
	}
}

// measure is what the program takes for each of n SYNs, one after the other: their
// members refuse.
func (p *portsTaken) measure(n int, fromStart bool) []time.Duration {
	w := p.w
	defer undisturbed(w)()
	times := make([]time.Duration, n)
	for i := range times {
		if fromStart {
			w.moveCursor(0, firstPort, 0)
		}
		in := seg(packet.SYN, clientISN, 0).arrives(nth(1<<20+i), w.vip())
		before, err := w.tc.Stats()
		w.must(err)
		out := w.only(in)
		after, err := w.tc.Stats()
		w.must(err)
		times[i] = after.Runtime - before.Runtime
		_, port := w.chosen(out)
		c := conn{w: w, client: nth(1<<20 + i), port: port, cseq: clientISN + 1}
		p.take(c)
		w.only(seg(packet.RST|packet.ACK, 0, c.cseq).arrives(c.member(), c.nat()))
		delete(p.held, port)
	}
	return times
}

// undisturbed keeps other threads from this one's CPU until the function that it returns
// is called.
func undisturbed(t testing.TB) (end func()) {
	t.Helper()
	runtime.LockOSThread()
	set := func(policy, priority uint32) {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.SCHED_FIFO, 1)
	return func() {
		set(unix.SCHED_NORMAL, 0)
		runtime.UnlockOSThread()
	}
}

// TestExpiryOfMany: one pass over a large table costs little, ends all that is old, and
// nothing that has been refreshed.
func TestExpiryOfMany(t *testing.T) {
	rows.Proves(t, 125)
	const members = 8
	count := scaled(8000, 500_000)
	w := newWorld(t, tcHook, options{flowLimit: uint32(count), slots: members})
	w.configure(func(g *maps.Generation) {
		g.Members, g.Schedule = nil, nil
		for slot := range members {
			g.Members = append(g.Members, member(slot))
			g.Schedule = append(g.Schedule, uint16(slot))
		}
	})
	all := make([]conn, count)
	for n := range all {
		all[n] = w.opensFast(nth(n))
	}
	found := map[string]any{"entries": 2 * count}
	pass := func(name string, want int) {
		var expired int
		cpu := onOneThread(t, func() { expired = w.wholePass(members) })
		found[name+"_cpu_s"], found[name+"_expired"] = cpu.Seconds(), expired
		if expired != want {
			t.Errorf("%s: %d expired, want %d", name, expired, want)
		}
	}
	pass("nothing_old", 0)
	w.ageAll(2 * time.Hour)
	pass("nothing_old_yet", 0)
	w.ageAll(time.Hour)
	fresh := 0
	refresh := func() {
		for n := 0; n < count; n += 10 {
			w.only(seg(packet.ACK, all[n].cseq, all[n].mseq).arrives(all[n].client, all[n].vip()))
		}
	}
	refresh()
	fresh = (count + 9) / 10
	var stop atomic.Bool
	refreshed := make(chan struct{})
	go func() { // packets go on meanwhile
		defer close(refreshed)
		for !stop.Load() {
			refresh()
		}
	}()
	pass("most_old", count-fresh)
	stop.Store(true)
	<-refreshed
	state, err := w.pool.PoolState()
	w.must(err)
	if int(state.Flows) != fresh || int(state.Active) != fresh {
		t.Errorf("%d flows are left, %d active, want %d", state.Flows, state.Active, fresh)
	}
	refresh() // which fails where one of them is gone
	found["tries"], found["failures"] = fresh, fresh-int(state.Flows)
	report(t, found)
}

// wholePass goes over all ports as the daemon does, slice by slice.
func (w *world) wholePass(members int) (expired int) {
	const words = 8
	for slot := range members {
		ports, err := w.pool.Ports(uint16(slot), 0)
		w.must(err)
		for word, more := ports.NextTaken(0); more; word, more = ports.NextTaken(word + words) {
			s := maps.Sweep{Slot: uint16(slot), Word: word, Words: min(words, maps.NATWords-word)}
			swept, err := s.Run(w.sweep)
			w.must(err)
			expired += int(swept.Expired)
		}
	}
	return expired
}

// ageAll lets time pass for every flow.
func (w *world) ageAll(by time.Duration) {
	w.Helper()
	own := w.pool.Maps()
	const size = 4096
	keys, flows := make([]bpf.Lb4FlowKey, size), make([]bpf.Lb4FlowEntry, size)
	var cursor ebpf.MapBatchCursor
	for last := false; !last; {
		n, err := own.Flows.BatchLookup(&cursor, keys, flows, nil)
		if last = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !last {
			w.Fatal(err)
		}
		for i := range flows[:n] {
			flows[i].Flow.Seen -= uint32(by >> 20)
		}
		if n > 0 {
			_, err := own.Flows.BatchUpdate(keys[:n], flows[:n], nil)
			w.must(err)
		}
	}
}

// onOneThread calls f and returns the time that the CPU has spent on it.
func onOneThread(t testing.TB, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := func() time.Duration {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
			t.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before := spent()
	f()
	return spent() - before
}
