package bpf_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
	"qlbaas/tests/rows"
)

// Time passes by writing it into the entries, not by waiting.

func TestSweep(t *testing.T) {
	onFamilies(t, options{}, func(w *world) {
		w.run("idle flows", idleFlows)
		w.run("closed flows", closedFlows)
		w.run("handshakes", idleHandshakes)
		w.run("either direction keeps a flow", eitherDirection)
		w.run("under pressure", sweepUnderPressure)
		w.run("when the table is full", sweepWhenFull)
		w.run("in slices", inSlices)
		w.run("ports of nobody", portsOfNobody)
		w.run("half a pair", halfPairs)
		w.run("marks that a race left behind", leftMarks)
		w.run("members that are not there", func(w *world) {
			for _, s := range []maps.Sweep{{Slot: 3, Words: 8}, {Slot: maps.MaxSlots - 1, Words: 8}} {
				if got, err := s.Run(w.sweep); err != nil || got != (maps.Swept{}) {
					w.Errorf("sweep of slot %d: %+v, %v", s.Slot, got, err)
				}
			}
		})
		w.run("a member that drains", drainingMember)
		w.run("the end of a drain", endOfDrain)
	})
}

// idleFlows go after the idle timeout, and not before it.
func idleFlows(w *world) {
	a, b := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort)
	w.age(a, 7400*time.Second)
	w.age(b, 7450*time.Second)
	w.expires(0, 0)
	w.expires(1, 1, sum(closed(1), removed(1)))
	a.works() // and is fresh again
	w.expires(0, 0)
	b.strays("packet of the expired flow", seg(packet.ACK, b.cseq, b.mseq))
	w.configure(func(g *maps.Generation) { g.VIP.Idle = 10 * time.Second })
	w.age(a, 20*time.Second)
	w.expires(0, 1, sum(closed(0), removed(0)))
	w.nothingExpires()
}

// closedFlows go soon; a port without timestamps rests, for the member may still
// hold it in TIME-WAIT.
func closedFlows(w *world) {
	rows.Proves(w, 58, 66)
	plain := w.open(client(0), 0, firstPort)
	plain.bothFIN()
	stamped, _ := w.stamped(1, 7)
	in, _ := stamped.down(seg(packet.SYN|packet.ACK, stamped.mseq, stamped.cseq))
	w.mustForward("SYN-ACK", in)
	stamped.mseq++
	in, _ = stamped.up(seg(packet.ACK, stamped.cseq, stamped.mseq))
	w.mustForward("ACK", in)
	stamped.sends("RST", seg(packet.RST, stamped.cseq, 0), closed(1))

	w.nothingExpires()
	w.age(plain, 15*time.Second)
	w.age(stamped, 15*time.Second)
	w.expires(0, 0)
	w.expires(1, 1, removed(1))
	w.age(plain, time.Minute)
	w.expires(0, 1, removed(0))
}

// ageHandshake lets time pass for a handshake.
func (w *world) ageHandshake(c conn, by time.Duration) {
	w.Helper()
	w.ageHalf(c.upKey(), by)
	w.ageHalf(c.downKey(), by)
}

// ageHalf lets time pass for one direction of a handshake.
func (w *world) ageHalf(tuple maps.FlowKey, by time.Duration) {
	w.Helper()
	shared, at := w.node.Maps(), seenOffset(storedKey(tuple))
	w.edit(shared.HalfOpen, w.storedHalf(tuple), func(entry []byte) { earlier(entry[at:], by) })
}

func idleHandshakes(w *world) {
	rows.Proves(w, 65)
	silentOne := w.syn(client(1), 0, firstPort)
	answeredOne := w.syn(client(2), 1, firstPort).synAck()
	w.ageHandshake(silentOne, 40*time.Second)
	w.ageHandshake(answeredOne, 40*time.Second)
	w.nothingExpires()
	w.ageHandshake(silentOne, 25*time.Second)
	w.ageHandshake(answeredOne, 25*time.Second)
	silentOne.sends("SYN again", seg(packet.SYN, clientISN, 0)) // keeps it
	w.expires(0, 0)
	w.expires(1, 1, forgotten(1))
	answeredOne.strays("late ACK", seg(packet.ACK, answeredOne.cseq, answeredOne.mseq))
	c := silentOne.synAck().ack()
	c.works()
}

// eitherDirection: a download's client says little, an upload's member as well.
func eitherDirection(w *world) {
	c := w.open(client(1), 0, firstPort)
	for range 2 {
		w.age(c, 8000*time.Second)
		c.sends("ACK", seg(packet.ACK, c.cseq, c.mseq))
		w.nothingExpires()
		w.age(c, 8000*time.Second)
		c.gets("ACK", seg(packet.ACK, c.mseq, c.cseq))
		w.nothingExpires()
	}
	// A clock that is ahead of the expiry's makes nobody old.
	w.age(c, -time.Hour)
	w.nothingExpires()
}

// sweepUnderPressure shortens what nobody misses.
func sweepUnderPressure(w *world) {
	rows.Proves(w, 65)
	live := w.open(client(1), 0, firstPort)
	w.age(live, 7000*time.Second)
	over := w.open(client(2), 1, firstPort)
	over.bothFIN()
	w.age(over, -time.Hour)
	half := w.syn(client(3), 2, firstPort)
	s := maps.Sweep{Pressure: true}
	for slot := range uint16(3) {
		s.Slot = slot
		w.sweeps("too early", s, maps.Swept{})
	}
	w.age(over, time.Hour+time.Second)
	w.ageHandshake(half, 7*time.Second)
	w.sweeps("live", maps.Sweep{Slot: 0, Pressure: true}, maps.Swept{})
	w.sweeps("closed", maps.Sweep{Slot: 1, Pressure: true}, maps.Swept{Expired: 1}, removed(1))
	w.sweeps("half-open", maps.Sweep{Slot: 2, Pressure: true}, maps.Swept{Expired: 1}, forgotten(2))
}

// sweepWhenFull is the programs' own; see TestFlowLimit. Here: it leaves what lives.
func sweepWhenFull(w *world) {
	w.configure(func(g *maps.Generation) { g.VIP.FlowLimit = 3 })
	a, b, c := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort), w.open(client(3), 2, firstPort)
	a.sends("FIN", seg(packet.FIN|packet.ACK, a.cseq, a.mseq)) // half-closed is alive
	a.cseq++
	w.age(a, time.Hour)
	in := seg(packet.SYN, clientISN, 0).arrives(w.client(4), w.vip())
	w.expect("SYN", in, answers("flows_full", seg(packet.SYN, clientISN, 0).resetBy(w.vip(), w.client(4))))
	a.gets("FIN", seg(packet.FIN|packet.ACK, a.mseq, a.cseq), closed(0))
	w.age(a, 5<<20)
	d := conn{w: w, client: w.client(4), slot: 0, port: firstPort + 1, cseq: clientISN + 1, mseq: memberISN}
	_, out := d.up(seg(packet.SYN, clientISN, 0))
	w.expect("SYN", in, forwards(out, removed(0), opened(0), toMember(0, in)))
	d = d.synAck().ack()
	for _, c := range []conn{b, c, d} {
		c.works()
	}
}

// inSlices: any words, in any order, and never beyond the end.
func inSlices(w *world) {
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
	var all []conn
	for n, natPort := range []uint16{firstPort, firstPort + 63, firstPort + 64, 30000, lastPort} {
		w.moveCursor(0, natPort, 0)
		c := w.open(client(n), 0, natPort)
		w.age(c, 3*time.Hour)
		all = append(all, c)
	}
	slice := func(word, words uint32, want maps.Swept) {
		w.Helper()
		got, err := maps.Sweep{Slot: 0, Word: word, Words: words}.Run(w.sweep)
		if err != nil || got != want {
			w.Errorf("words %d+%d: %+v, %v, want %+v", word, words, got, err, want)
		}
	}
	slice(2, 100, maps.Swept{})
	slice(1, 1, maps.Swept{Looked: 1, Expired: 1})
	slice(0, 0, maps.Swept{})
	slice(0, 1, maps.Swept{Looked: 2, Expired: 2})
	slice(0, 1, maps.Swept{})
	slice(999, 1, maps.Swept{Looked: 1, Expired: 1})
	all[3].works()
	slice(0, 1000, maps.Swept{Looked: 1})
	// Past the end, as only a mistaken caller could ask.
	for _, args := range []bpf.Lb4Sweep{{Word: 1000, Words: 8}, {Word: 0xffffffff, Words: 0xffffffff}, {Word: 990, Words: 0xffffffff}} {
		w.runSweep(args)
	}
	all[3].works()
}

func (w *world) runSweep(args bpf.Lb4Sweep) {
	w.Helper()
	_, err := w.sweep.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
	w.must(err)
}

// portsOfNobody: another pool has evicted their handshakes.
func portsOfNobody(w *world) {
	c := w.open(client(1), 0, firstPort)
	h := w.syn(client(2), 1, firstPort)
	w.plant(0, firstPort+1, firstPort+500)
	w.plant(0, 50000, 50001)
	w.plant(1, firstPort+1, firstPort+1)
	w.orphans = 1
	n := int64(502)
	w.sweeps("slot 0", maps.Sweep{Slot: 0}, maps.Swept{Healed: uint32(n)}, delta{"m0.ports": -n, "m0.conns": -n})
	w.orphans = 0
	w.sweeps("slot 1", maps.Sweep{Slot: 1}, maps.Swept{Healed: 1}, delta{"m1.ports": -1, "m1.conns": -1})
	w.nothingExpires()
	c.works()
	h = h.synAck().ack()
	h.works()
}

// halfPairs cannot stay for good, whatever made them.
func halfPairs(w *world) {
	shared := w.node.Maps()
	c := w.syn(client(1), 0, firstPort)
	w.ageHandshake(c, 2*time.Minute)
	w.must(shared.HalfOpen.Delete(w.storedHalf(c.upKey())))
	use := bpf.Lb4HalfOpenUse{}
	w.must(shared.HalfOpenUse.Put(w.number, use))
	got := w.sweepAll(0, maps.Sweep{})
	if got.Healed != 1 {
		w.Errorf("swept %+v, want one healed", got)
	}
	w.checkInvariants()
}

// leftMarks: an entry that is marked for deletion, by nobody who is still at it.
func leftMarks(w *world) {
	own := w.pool.Maps()
	c := w.open(client(1), 0, firstPort)
	key := storedKey(c.upKey())
	w.edit(own.Flows, key, func(entry []byte) { entry[stateOffset(key)] |= byte(maps.Dead) })
	w.age(c, 7500*time.Second)
	if got := w.sweepAll(0, maps.Sweep{}); got.Expired != 0 {
		w.Error("the expiry took what somebody else is at")
	}
	in, _ := c.up(seg(packet.ACK, c.cseq, c.mseq))
	if got := w.send(in); got.action != dropped {
		w.Errorf("packet of a flow that is being deleted was %s", got.action)
	}
	w.age(c, 7500*time.Second)
	w.expires(0, 1, sum(closed(0), removed(0)))
	again := w.open(client(1), 1, firstPort)
	again.works()
}

// drainingMember: removed or admin-down, but its flows go on, and end in time.
func drainingMember(w *world) {
	rows.Proves(w, 107)
	a, b := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort)
	w.configure(func(g *maps.Generation) {
		g.Members[0].Present, g.Members[0].Weight = false, 0
		g.Schedule = []uint16{1, 2}
	})
	a.works()
	w.turns([]int{1, 2}, 4) // turn 2 of two
	a.bothFIN()
	w.age(a, 2*time.Minute)
	w.expires(0, 1, removed(0))
	if state := w.memberState(0); state.PortsUsed != 0 || state.Active != 0 {
		w.Errorf("%d ports, %d active", state.PortsUsed, state.Active)
	}
	b.works()
}

// endOfDrain: what is still open gets a RST with its next packet, from either side,
// and the other side gets one too.
func endOfDrain(w *world) {
	rows.Proves(w, 107)
	wire := w.wire()
	a, b, c := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort), w.open(client(3), 2, firstPort)
	d, e := w.open(client(4), 0, firstPort+1), w.open(client(5), 1, firstPort+1)
	d.bothFIN() // over: nothing to reset
	for _, slot := range []uint16{0, 2} {
		w.sweeps("mark", maps.Sweep{Slot: slot, Reset: true}, maps.Swept{})
	}
	d.sends("last ACK", seg(packet.ACK, d.cseq, d.mseq))
	b.works() // another member's
	e.works()

	s := seg(packet.ACK|packet.PSH, a.cseq, a.mseq).with(77)
	in, _ := a.up(s)
	w.expect("client's data", in, answers("drained", s.resetBy(a.vip(), a.client), closed(0)))
	peer := segment{ip: resetIP(), tcp: packet.TCP{Flags: packet.RST, Seq: a.cseq}}.leaves(a.nat(), a.member())
	w.sees(wire, peer)
	w.expect("client's data again", in, answers("drained", s.resetBy(a.vip(), a.client)))
	w.sees(wire, peer)
	a.sends("RST", seg(packet.RST, a.cseq, 0)) // nobody answers it

	s = seg(packet.ACK, c.mseq, c.cseq)
	in, _ = c.down(s)
	back := segment{ip: resetIP(), tcp: packet.TCP{Flags: packet.RST, Seq: c.cseq}}
	w.expect("member's ACK", in, answers("drained", back.leaves(c.nat(), c.member()), closed(2)))
	w.sees(wire, segment{ip: resetIP(), tcp: packet.TCP{Flags: packet.RST, Seq: c.mseq}}.leaves(c.vip(), c.client))

	// The client's next connection is one like any other.
	again := conn{w: w, client: a.client, slot: 2, port: firstPort + 1, cseq: clientISN + 1, mseq: memberISN}
	in, out := again.up(seg(packet.SYN, clientISN, 0))
	w.expect("SYN", in, forwards(out, removed(0), opened(2), toMember(2, in)))
	w.age(c, 2*time.Minute)
	w.expires(2, 1, removed(2))
}

func resetIP() packet.IPv4 { return packet.IPv4{TTL: 65, DF: true} }

// wire receives what leaves by the device.
func (w *world) wire() *afpacket.Socket {
	w.Helper()
	s, err := afpacket.Open(outside, afpacket.Options{})
	w.must(err)
	w.Cleanup(func() { s.Close() })
	return s
}

// sees waits for a frame that a program itself has sent.
func (w *world) sees(wire *afpacket.Socket, wanted []byte) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	ours := func(frame []byte) bool { return bytes.Equal(frame[6:14], wanted[6:14]) } // our MAC, IPv4
	f, err := wire.Await(ctx, ours)
	if err != nil {
		w.Fatalf("wait for %s: %v", packet.Summary(wanted), err)
	}
	if d := packet.Diff(f.Bytes, wanted); d != "" {
		w.Errorf("on the wire: %s\n%s", packet.Summary(f.Bytes), d)
	}
}
