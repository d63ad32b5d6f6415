package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// Two CPUs at once. What must hold is asserted when they are done; how often they
// really met is up to the machine.

// together calls f for every n on two threads, each on a CPU of its own, that start
// every n at the same moment.
func (w *world) together(count int, f func(cpu, n int) error) {
	w.Helper()
	const cpus = 2
	var arrived [cpus]atomic.Int64
	var threads sync.WaitGroup
	errs := make([]error, cpus)
	var failed atomic.Bool
	for cpu := range cpus {
		threads.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with this
			var set unix.CPUSet
			set.Set(cpu % runtime.NumCPU())
			_ = unix.SchedSetaffinity(0, &set) // without it they meet more seldom
			for n := range count {
				arrived[cpu].Store(int64(n + 1))
				for arrived[1-cpu].Load() < int64(n+1) && !failed.Load() {
					runtime.Gosched()
				}
				if err := f(cpu, n); err != nil {
					errs[cpu] = fmt.Errorf("CPU %d, round %d: %w", cpu, n, err)
					failed.Store(true)
					return
				}
			}
		})
	}
	threads.Wait()
	for _, err := range errs {
		if err != nil {
			w.Error(err)
		}
	}
}

// forwards is what the frame leaves as.
func (w *world) forwards(in []byte) ([]byte, error) {
	code, out, err := w.try(in)
	if err == nil && code != tcRedirect && code != xdpTX {
		err = fmt.Errorf("code %d for %s", int32(code), packet.Summary(in))
	}
	return out, err
}

func TestRaces(t *testing.T) {
	onFamilies(t, options{flowLimit: 32768}, func(w *world) {
		w.run("one SYN on both", oneSYNOnBoth)
		w.run("no port twice", noPortTwice)
		w.run("turns", turnsOnBoth)
		w.run("fewest connections", fewestOnBoth)
		w.run("one client's first connections", firstConnections)
		w.run("ACK and data complete one handshake", completedOnBoth)
		w.run("SYN again as the handshake completes", synOfTheCompleted)
		w.run("limit", limitOnBoth)
		w.run("a port used again", portAgainOnBoth)
		w.run("closed from both sides", closedOnBoth)
		w.run("a packet as its flow expires", lastMoment)
		w.run("packets and expiry", packetsAndExpiry)
	})
}

// oneSYNOnBoth: one mapping, which both copies get.
func oneSYNOnBoth(w *world) {
	rows.Proves(w, 50)
	const count = 1000
	var outs [2][count][]byte
	w.together(count, func(cpu, n int) (err error) {
		outs[cpu][n], err = w.forwards(seg(packet.SYN, clientISN, 0).arrives(w.client(n), w.vip()))
		return err
	})
	for n := range count {
		if !bytes.Equal(outs[0][n], outs[1][n]) {
			w.Errorf("client %d: %s", n, packet.Diff(outs[0][n], outs[1][n]))
		}
	}
	if levels := w.levels(); levels["handshakes"] != count {
		w.Errorf("%d handshakes, want %d", levels["handshakes"], count)
	}
}

func noPortTwice(w *world) {
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
	const count = 4000
	var ports [2][count]uint16
	w.together(count, func(cpu, n int) error {
		out, err := w.forwards(seg(packet.SYN, clientISN, 0).arrives(w.client(2*n+cpu), w.vip()))
		if err == nil {
			ports[cpu][n] = binary.BigEndian.Uint16(out[transportOf(out):])
		}
		return err
	})
	used := make(map[uint16]bool)
	for cpu := range ports {
		for _, p := range ports[cpu] {
			if used[p] {
				w.Errorf("port %d twice", p)
			}
			used[p] = true
		}
	}
	// In order, too: none was left out.
	for p := range 2 * count {
		if !used[uint16(firstPort+p)] {
			w.Errorf("port %d was left out", firstPort+p)
		}
	}
}

func (w *world) bySlot(count int) [3]int {
	w.Helper()
	var counts [2][3]int
	w.together(count, func(cpu, n int) error {
		out, err := w.forwards(seg(packet.SYN, clientISN, 0).arrives(w.client(2*n+cpu), w.vip()))
		if err != nil {
			return err
		}
		slot, err := w.whose(out)
		counts[cpu][slot]++
		return err
	})
	for slot, n := range counts[1] {
		counts[0][slot] += n
	}
	return counts[0]
}

func turnsOnBoth(w *world) {
	if counts := w.bySlot(3000); counts != [3]int{2000, 2000, 2000} {
		w.Errorf("connections by slot: %v", counts)
	}
}

func fewestOnBoth(w *world) {
	w.configure(func(g *maps.Generation) { leastConnections(g, 3); g.Weights = []uint32{1, 2, 3} })
	if counts := w.bySlot(3000); counts != [3]int{1000, 2000, 3000} {
		w.Errorf("connections by slot: %v", counts)
	}
}

// firstConnections: a browser opens several at once, and all must meet one member.
func firstConnections(w *world) {
	rows.Proves(w, 109)
	w.configure(func(g *maps.Generation) { g.VIP.Affinity = true })
	const count = 1000
	var slots [2][count]int
	w.together(count, func(cpu, n int) error {
		from := netip.AddrPortFrom(w.client(n).Addr(), uint16(5000+cpu))
		out, err := w.forwards(seg(packet.SYN, clientISN, 0).arrives(from, w.vip()))
		if err == nil {
			slots[cpu][n], err = w.whose(out)
		}
		return err
	})
	if slots[0] != slots[1] {
		w.Error("some clients were split")
	}
	// One client, and a thousand at once.
	w.together(count/2, func(cpu, n int) error {
		from := netip.AddrPortFrom(w.client(count).Addr(), uint16(1+2*n+cpu))
		out, err := w.forwards(seg(packet.SYN, clientISN, 0).arrives(from, w.vip()))
		if err == nil {
			slots[cpu][n], err = w.whose(out)
		}
		return err
	})
	for n := range count {
		if slot := slots[n%2][n/2]; slot != slots[0][0] {
			w.Errorf("connection %d of one client to slot %d, the first to slot %d", n, slot, slots[0][0])
		}
	}
}

// completedOnBoth: a flow comes once, whichever packet makes it, and the other one
// finds it.
func completedOnBoth(w *world) {
	const count = 1000
	all := w.answered(count)
	var lost atomic.Int64
	w.together(count, func(cpu, n int) error {
		s := seg(packet.ACK, all[n].cseq, all[n].mseq).with(cpu * 10)
		in, out := all[n].up(s)
		got, err := w.forwards(in)
		if err != nil {
			lost.Add(1)
			return nil
		}
		if d := packet.Diff(got, out); d != "" {
			return fmt.Errorf("flow %d: %s", n, d)
		}
		return nil
	})
	if levels := w.levels(); levels["flows"] != count || levels["handshakes"] != 0 {
		w.Errorf("%d flows, %d handshakes", levels["flows"], levels["handshakes"])
	}
	connections := int64(0)
	for slot := range 3 {
		connections += w.levels()[memberName(slot, "connections")]
	}
	if connections != count || lost.Load() > 0 {
		w.Errorf("%d connections, %d packets lost", connections, lost.Load())
	}
}

// synOfTheCompleted: a SYN that was sent again for want of an answer opens nothing
// beside the flow.
func synOfTheCompleted(w *world) {
	const count = 1000
	all := w.answered(count)
	w.together(count, func(cpu, n int) error {
		in, _ := all[n].up(seg(packet.SYN, clientISN, 0))
		if cpu == 0 {
			in, _ = all[n].up(seg(packet.ACK, all[n].cseq, all[n].mseq))
		}
		_, err := w.forwards(in)
		return err
	})
	if levels := w.levels(); levels["flows"] != count || levels["handshakes"] != 0 {
		w.Errorf("%d flows, %d handshakes", levels["flows"], levels["handshakes"])
	}
}

// answered are handshakes that only the client's ACK is missing to.
func (w *world) answered(count int) []conn {
	w.Helper()
	all := make([]conn, count)
	for n := range all {
		all[n] = w.quickSYN(client(n))
		in, _ := all[n].down(seg(packet.SYN|packet.ACK, memberISN, all[n].cseq))
		w.only(in)
		all[n].mseq++
	}
	return all
}

// limitOnBoth: not one too many, and not one too few.
func limitOnBoth(w *world) {
	rows.Proves(w, 105)
	const count, limit = 400, 300
	all := w.answered(2 * count)
	w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = limit })
	w.together(count, func(cpu, n int) error {
		c := all[2*n+cpu]
		in, _ := c.up(seg(packet.ACK, c.cseq, c.mseq))
		_, _, err := w.try(in)
		return err
	})
	levels := w.levels()
	if n := levels["active"]; n != limit {
		w.Errorf("%d flows, the limit is %d", n, limit)
	}
	if levels["active"]+levels["drops.conn_limit"] != 2*count {
		w.Errorf("%s", levels.verdict())
	}
}

// portAgainOnBoth: a closed flow gives way once, and there is one new handshake.
func portAgainOnBoth(w *world) {
	rows.Proves(w, 54)
	const count = 1000
	for n := range count {
		w.quick(client(n)).close()
	}
	w.together(count, func(_, n int) error {
		_, _, err := w.try(seg(packet.SYN, 1, 0).arrives(w.client(n), w.vip()))
		return err
	})
	if levels := w.levels(); levels["flows"] != 0 || levels["handshakes"] != count || levels["active"] != 0 {
		w.Errorf("%d flows, %d handshakes, %d active", levels["flows"], levels["handshakes"], levels["active"])
	}
}

// closedOnBoth: two FINs, or a FIN and a RST, end a flow once.
func closedOnBoth(w *world) {
	rows.Proves(w, 63)
	const count = 1000
	var all [count]conn
	for n := range all {
		all[n] = w.quick(client(n))
	}
	w.together(count, func(cpu, n int) error {
		c := all[n]
		in, _ := c.up(seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
		if cpu == 1 && n%2 == 0 {
			in, _ = c.down(seg(packet.FIN|packet.ACK, c.mseq, c.cseq))
		} else if cpu == 1 {
			in, _ = c.down(seg(packet.RST, c.mseq, 0))
		}
		_, err := w.forwards(in)
		return err
	})
	if levels := w.levels(); levels["active"] != 0 || levels["flows"] != count {
		w.Errorf("%d active, %d flows", levels["active"], levels["flows"])
	}
}

// lastMoment: either the packet comes first and the flow stays, or the expiry does and
// both halves are gone. Only a packet that comes in between may have been for nothing.
func lastMoment(w *world) {
	rows.Proves(w, 108)
	const count = 500
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
	var all [count]conn
	for n := range all { // each in a word of its own
		w.moveCursor(0, uint16(firstPort+64*n), 0)
		all[n] = w.quick(client(n))
		w.age(all[n], 3*time.Hour)
	}
	var passed [count]bool
	w.together(count, func(cpu, n int) error {
		if cpu == 1 {
			s := maps.Sweep{Slot: 0, Word: uint32(n), Words: 1}
			_, err := s.Run(w.sweep)
			return err
		}
		in, _ := all[n].up(seg(packet.ACK, all[n].cseq, all[n].mseq))
		_, out, err := w.try(in)
		if err == nil {
			_, answered := w.whose(out) // a RST goes to no member
			passed[n] = answered == nil && len(out) == len(in)
		}
		return err
	})
	inVain, left := 0, w.snapshot().flows
	for n, c := range all {
		_, there := left[maps.FlowKey{Source: c.client, Destination: w.vip(), Protocol: maps.TCP}]
		if there && !passed[n] {
			w.Errorf("flow %d is left, though its packet was dropped", n)
		}
		if passed[n] && !there {
			inVain++
		}
	}
	w.Logf("%d of %d flows left, %d packets in vain", len(left)/2, count, inVain)
}

// packetsAndExpiry: clients open, talk, close, reset, come again at random while the
// expiry takes whatever has been quiet for a moment. In the end nothing is left.
func packetsAndExpiry(w *world) {
	rows.Proves(w, 108, 123)
	w.configure(func(g *maps.Generation) {
		g.VIP.HalfOpenPressure, g.VIP.Closing, g.VIP.Rest = 0, 0, 0
	})
	seed := rand.Uint64()
	w.Logf("random seed %#x", seed)
	done := make(chan struct{})
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for slot := uint16(0); ; slot++ {
			select {
			case <-done:
				return
			default:
			}
			s := maps.Sweep{Slot: slot % 3, Words: maps.NATWords, Pressure: slot%768 < 3}
			if _, err := s.Run(w.sweep); err != nil {
				w.Error(err)
				return
			}
		}
	})
	const clients, rounds = 40, 15_000
	random := [2]*rand.Rand{rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))}
	w.together(rounds, func(cpu, _ int) error {
		r := random[cpu]
		in := w.anything(r, w.client(r.IntN(clients)))
		_, _, err := w.try(in)
		return err
	})
	close(done)
	sweeper.Wait()
	w.checkInvariants()

	state := w.snapshot()
	w.Logf("at the end: %s", state.counts)
	for key := range state.flows {
		w.ageEntry(key, 3*time.Hour)
	}
	for key := range state.handshakes {
		w.ageHalf(key, time.Hour)
	}
	for slot := range 3 {
		w.sweepAll(slot, maps.Sweep{})
	}
	levels := w.levels()
	for _, name := range []string{"flows", "active", "handshakes", "m0.ports", "m1.ports", "m2.ports", "m0.conns", "m1.conns", "m2.conns"} {
		if levels[name] != 0 {
			w.Errorf("%s is %d in the end", name, levels[name])
		}
	}
}

// anything is a packet that a client, or the member that may have him, might send.
func (w *world) anything(r *rand.Rand, from netip.AddrPort) []byte {
	seq, ack := uint32(clientISN+1), uint32(memberISN+1)
	switch r.IntN(8) {
	case 0, 1:
		return seg(packet.SYN, clientISN, 0).arrives(w.host(from), w.vip())
	case 2:
		return seg(packet.ACK, seq, ack).arrives(w.host(from), w.vip())
	case 3:
		return seg(packet.FIN|packet.ACK, seq, ack).arrives(w.host(from), w.vip())
	case 4:
		return seg(packet.RST, seq, 0).arrives(w.host(from), w.vip())
	}
	// Ports are given in order, so the last few are likely to be in use.
	slot := r.IntN(3)
	nat := netip.AddrPortFrom(w.vip().Addr(), w.recentPort(slot, r.IntN(20)))
	flags := []packet.Flags{packet.SYN | packet.ACK, packet.SYN | packet.ACK, packet.SYN | packet.ACK, packet.FIN | packet.ACK, packet.RST}[r.IntN(5)]
	s := seg(flags, memberISN, seq)
	if flags&packet.SYN == 0 {
		s.tcp.Seq++
	}
	return s.arrives(w.memberAt(slot), nat)
}

// recentPort is the one that the member in the slot was given so many connections ago.
func (w *world) recentPort(slot, ago int) uint16 {
	cursor := w.memberState(slot).PortCursor + maps.NATPorts - 1 - uint32(ago)
	return uint16(firstPort + cursor%maps.NATPorts)
}
