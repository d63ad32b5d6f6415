package bpf_test

import (
	"fmt"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

func TestConntrack(t *testing.T) {
	onHooks(t, options{}, func(w *world) {
		w.run("client closes first", func(w *world) { closing(w, true) })
		w.run("member closes first", func(w *world) { closing(w, false) })
		w.run("both close at once", simultaneousClose)
		w.run("half-closed", halfClosed)
		w.run("RST ends a flow once", trueRST)
		w.run("RST of another number", forgedRST)
		w.run("RST prepared by forged data", preparedRST)
		w.run("FIN of another number", forgedFIN)
		w.run("SYN in a flow", synInFlow)
		w.run("client uses its port again", portAgain)
		w.run("a port whose last member is of no use", portOfDeparted)
		w.run("late packets", latePackets)
		w.run("keepalive and window probe", keepalive)
		w.run("what refreshes a flow", refreshes)
		w.run("numbers that wrap", wrapping)
	})
}

// finish closes the connection from both sides.
func (c *conn) bothFIN() {
	c.w.Helper()
	c.sends("FIN", seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
	c.cseq++
	c.gets("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq), closed(c.slot))
	c.mseq++
	c.sends("last ACK", seg(packet.ACK, c.cseq, c.mseq))
}

// closing: the flow is over with the second FIN, once, and all that follows still
// passes.
func closing(w *world, clientFirst bool) {
	c := w.open(client(1), 0, 1024)
	c.works()
	first, second := conn.sends, conn.gets
	one, two := &c.cseq, &c.mseq
	if !clientFirst {
		first, second, one, two = second, first, two, one
	}
	first(c, "FIN", seg(packet.FIN|packet.ACK, *one, *two))
	first(c, "FIN again", seg(packet.FIN|packet.ACK, *one, *two))
	*one++
	second(c, "ACK of the FIN", seg(packet.ACK, *two, *one))
	second(c, "FIN", seg(packet.FIN|packet.ACK, *two, *one), closed(0))
	second(c, "FIN again", seg(packet.FIN|packet.ACK, *two, *one))
	*two++
	first(c, "last ACK", seg(packet.ACK, *one, *two))
	first(c, "FIN once more", seg(packet.FIN|packet.ACK, *one-1, *two))
	first(c, "RST on top", seg(packet.RST, *one, 0))
	second(c, "RST on top", seg(packet.RST, *two, 0))
	if state := w.entry(c.client, c.vip()).State; state&maps.Closed == 0 {
		w.Errorf("flow is %s", state)
	}
}

func simultaneousClose(w *world) {
	rows.Proves(w, 63)
	c := w.open(client(1), 0, 1024)
	c.sends("FIN", seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
	c.gets("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq), closed(0)) // acknowledges nothing
	c.gets("ACK", seg(packet.ACK, c.mseq+1, c.cseq+1))
	c.sends("ACK", seg(packet.ACK, c.cseq+1, c.mseq+1))
	// The other way round, and with the last ACKs crossing too.
	c = w.open(client(2), 1, 1024)
	c.gets("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq))
	c.sends("FIN", seg(packet.FIN|packet.ACK, c.cseq, c.mseq), closed(1))
	c.sends("ACK", seg(packet.ACK, c.cseq+1, c.mseq+1))
	c.gets("ACK", seg(packet.ACK, c.mseq+1, c.cseq+1))
	c.gets("FIN again", seg(packet.FIN|packet.ACK, c.mseq, c.cseq+1))
	c.sends("FIN again", seg(packet.FIN|packet.ACK, c.cseq, c.mseq+1))
	w.age(c, time.Hour)
	w.expires(1, 1, removed(1))
}

// halfClosed: the side that has not closed may go on for as long as it likes.
func halfClosed(w *world) {
	rows.Proves(w, 62)
	c := w.open(client(1), 0, 1024)
	c.sends("FIN", seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
	c.cseq++
	for range 5 {
		s := seg(packet.ACK, c.mseq, c.cseq).with(1440)
		c.gets("data", s)
		c.mseq = s.end()
		c.sends("ACK", seg(packet.ACK, c.cseq, c.mseq))
		w.age(c, 7000*time.Second)
		w.nothingExpires()
	}
	c.gets("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq), closed(0))
}

// trueRST: the number is the next one that the sender would use, or the one that
// the other end waits for.
func trueRST(w *world) {
	rows.Proves(w, 58)
	for n, test := range []struct {
		name  string
		reset func(c conn)
	}{
		{"from the client", func(c conn) { c.sends("RST", seg(packet.RST, c.cseq, 0), closed(c.slot)) }},
		{"with ACK", func(c conn) { c.sends("RST", seg(packet.RST|packet.ACK, c.cseq, c.mseq), closed(c.slot)) }},
		{"from the member", func(c conn) { c.gets("RST", seg(packet.RST, c.mseq, 0), closed(c.slot)) }},
		{"behind lost data", func(c conn) {
			// The member has seen less than the client has sent, and says so.
			c.sends("data", seg(packet.ACK, c.cseq, c.mseq).with(1000))
			c.gets("ACK of what came before", seg(packet.ACK, c.mseq, c.cseq))
			c.sends("RST where the member is", seg(packet.RST, c.cseq, 0), closed(c.slot))
		}},
		{"behind data that is not acknowledged yet", func(c conn) {
			s := seg(packet.ACK, c.cseq, c.mseq).with(1000)
			c.sends("data", s)
			c.sends("RST", seg(packet.RST, s.end(), 0), closed(c.slot))
		}},
		{"as the answer to a challenge", func(c conn) {
			c.gets("data", seg(packet.ACK, c.mseq, c.cseq).with(10))
			c.gets("challenge", seg(packet.ACK, c.mseq+10, c.cseq))
			c.sends("RST", seg(packet.RST, c.cseq, 0), closed(c.slot))
		}},
	} {
		w.Log(test.name)
		c := w.open(client(n), n%3, 1024+uint16(n/3))
		c.works()
		test.reset(c)
		c.sends("RST again", seg(packet.RST, c.cseq, 0))
		c.gets("RST again", seg(packet.RST, c.mseq, 0))
	}
}

// forgedRST: whoever guesses the addresses cannot guess the number; the packet goes
// on to be judged by its receiver, and the flow stays.
func forgedRST(w *world) {
	rows.Proves(w, 59, 60)
	c := w.open(client(1), 0, 1024)
	c.works()
	random := w.random()
	for range 1000 {
		for _, flags := range []packet.Flags{packet.RST, packet.RST | packet.ACK} {
			s := seg(flags, random.Uint32(), random.Uint32())
			if s.tcp.Seq == c.cseq || s.tcp.Seq == c.mseq {
				continue
			}
			in, out := c.up(s)
			if d := packet.Diff(w.only(in), out); d != "" {
				w.Fatal(d)
			}
			in, out = c.down(s)
			if d := packet.Diff(w.only(in), out); d != "" {
				w.Fatal(d)
			}
		}
	}
	for _, near := range []uint32{1, 0xffffffff, 500, 0xfffffe00, 65535} {
		c.sends("RST nearby", seg(packet.RST, c.cseq+near, 0))
		c.gets("RST nearby", seg(packet.RST, c.mseq+near, 0))
	}
	if state := w.entry(c.client, c.vip()).State; state != 0 {
		w.Errorf("flow is %s", state)
	}
	c.works()
}

// preparedRST: a forged segment must not choose the number that its forger's RST
// will carry.
func preparedRST(w *world) {
	rows.Proves(w, 60)
	c := w.open(client(1), 0, 1024)
	c.works()
	random := w.random()
	for range 300 {
		// Anything but what might be a lost segment's successor.
		off := 1<<26 + random.Uint32N(1<<32-1<<27)
		data := seg(packet.ACK, c.cseq+off, random.Uint32()).with(100)
		in, _ := c.up(data)
		w.mustForward("forged data", in)
		in, _ = c.up(seg(packet.RST, data.end(), 0))
		w.mustForward("RST behind it", in)
		in, _ = c.down(seg(packet.ACK, c.mseq+off, c.cseq+off).with(100))
		w.mustForward("forged data from the member", in)
		in, _ = c.up(seg(packet.RST, c.cseq+off, 0))
		w.mustForward("RST where the forged member is", in)
	}
	if state := w.entry(c.client, c.vip()).State; state != 0 {
		w.Errorf("flow is %s", state)
	}
	c.works()
	c.sends("true RST", seg(packet.RST, c.cseq, 0), closed(0))
}

// forgedFIN: FINs from nowhere, though they come from both sides, take nothing from a
// flow that only happens to be silent.
func forgedFIN(w *world) {
	rows.Proves(w, 59, 60)
	c := w.open(client(1), 0, 1024)
	c.works()
	random := w.random()
	for range 100 {
		off := 1<<26 + random.Uint32N(1<<32-1<<27)
		in, _ := c.up(seg(packet.FIN|packet.ACK, c.cseq+off, random.Uint32()))
		w.mustForward("forged FIN", in)
		in, _ = c.down(seg(packet.FIN|packet.ACK, c.mseq+off, random.Uint32()))
		w.mustForward("member's forged FIN", in)
	}
	if state := w.entry(c.client, c.vip()).State; state != 0 {
		w.Errorf("flow is %s", state)
	}
	w.age(c, time.Hour)
	w.nothingExpires()
	c.works()
	c.gets("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq))
	c.mseq++
	c.works()
	c.sends("FIN", seg(packet.FIN|packet.ACK, c.cseq, c.mseq), closed(0))
}

// synInFlow: a SYN on a live flow is for the member to judge; its challenge goes
// back, and only a true RST ends the flow.
func synInFlow(w *world) {
	rows.Proves(w, 53)
	c := w.open(client(1), 0, 1024)
	c.works()
	w.age(c, time.Minute)
	client1, member1 := c.both()
	for _, seq := range []uint32{clientISN, c.cseq, 0, 0x80000000} {
		c.sends("SYN", seg(packet.SYN, seq, 0))
		c.gets("SYN", seg(packet.SYN, seq, 0))
		c.gets("SYN-ACK", seg(packet.SYN|packet.ACK, seq, 9))
	}
	client2, member2 := c.both()
	if client1 != client2 || member1 != member2 {
		w.Errorf("a SYN has changed the flow:\n%+v\n%+v\n%+v\n%+v", client1, client2, member1, member2)
	}
	c.works()
	c.gets("challenge", seg(packet.ACK, c.mseq, c.cseq))
	c.sends("RST", seg(packet.RST, c.cseq, 0), closed(0))
}

// portAgain: a client that uses a port again after closing gets a new member, a new
// port and an answer to its first SYN.
func portAgain(w *world) {
	rows.Proves(w, 54)
	c := w.open(client(1), 0, 1024)
	c.bothFIN()
	again := func(was conn, slot int, natPort uint16) conn {
		next := conn{w: w, client: was.client, slot: slot, port: natPort, cseq: clientISN + 1, mseq: memberISN}
		in, out := next.up(seg(packet.SYN, clientISN, 0))
		w.expect("SYN on the closed flow", in, forwards(out, removed(was.slot), opened(slot), toMember(slot, in)))
		in, _ = was.down(seg(packet.ACK, was.mseq, was.cseq))
		w.expect("the former member", in, drops("nat_nomap"))
		return next.synAck().ack()
	}
	c = again(c, 1, 1024)
	c.works()
	c.sends("RST", seg(packet.RST, c.cseq, 0), closed(1))
	c = again(c, 2, 1024)
	c.gets("RST", seg(packet.RST, c.mseq, 0), closed(2))
	c = again(c, 0, 1025)
	c.works()
	// A member's SYN is no such reason.
	c.bothFIN()
	c.gets("SYN", seg(packet.SYN, c.mseq, 0))
	c.gets("SYN-ACK", seg(packet.SYN|packet.ACK, c.mseq, c.cseq))
	c.sends("SYN-ACK", seg(packet.SYN|packet.ACK, c.cseq, c.mseq))
}

// portOfDeparted: the new choice is not bound to the old one, though that is down, has
// no weight or no port left for anybody.
func portOfDeparted(w *world) {
	rows.Proves(w, 54)
	for n, gone := range []func(){
		func() { w.setUp(0, false) },
		func() {
			w.configure(func(g *maps.Generation) { g.Members[0].Weight, g.Schedule = 0, []uint16{1, 2} })
		},
		func() { w.plant(0, firstPort, lastPort) },
	} {
		w.setUp(0, true)
		w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
		c := w.quick(client(n))
		c.close()
		w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0, 1, 2} })
		gone()
		again := w.quickSYN(client(n))
		if again.slot == 0 {
			w.Errorf("case %d: %s", n, again)
		}
		again = again.finish()
		again.works()
	}
}

// latePackets of a closed flow pass while it rests, and never open it again.
func latePackets(w *world) {
	rows.Proves(w, 64)
	c := w.open(client(1), 0, 1024)
	c.bothFIN()
	for range 3 {
		c.sends("ACK", seg(packet.ACK, c.cseq, c.mseq))
		c.gets("ACK", seg(packet.ACK, c.mseq, c.cseq))
		c.gets("FIN again", seg(packet.FIN|packet.ACK, c.mseq-1, c.cseq))
		c.sends("data", seg(packet.ACK, c.cseq, c.mseq).with(5))
	}
	w.age(c, time.Hour)
	w.expires(0, 1, removed(0))
	c.strays("ACK after it is gone", seg(packet.ACK, c.cseq, c.mseq))
	c.strays("FIN after it is gone", seg(packet.FIN|packet.ACK, c.cseq-1, c.mseq))
	in, _ := c.down(seg(packet.FIN|packet.ACK, c.mseq-1, c.cseq))
	w.expect("member's FIN after it is gone", in, drops("nat_nomap"))

	// The client comes again by the same port, and what is late is of no use to the new
	// connection either: it does not complete its handshake.
	next := w.syn(client(1), 1, 1024)
	for range 2 {
		in, _ = next.up(seg(packet.ACK, c.cseq, c.mseq))
		w.expect("last connection's ACK", in, drops("bad_ack"))
		in, _ = next.up(seg(packet.FIN|packet.ACK, c.cseq-1, c.mseq))
		w.expect("last connection's FIN", in, drops("bad_ack"))
		next.sends("last connection's RST", seg(packet.RST, c.cseq, 0))
		in, _ = c.down(seg(packet.ACK, c.mseq, c.cseq))
		w.expect("former member's ACK", in, drops("nat_nomap"))
		next = next.synAck()
		next.mseq-- // and again when the member has answered
	}
	next.mseq++
	next = next.ack()
	next.works()
}

// keepalive: the number before the next, with no byte or one.
func keepalive(w *world) {
	rows.Proves(w, 69, 70)
	c := w.open(client(1), 0, 1024)
	c.works()
	for _, n := range []int{0, 1} {
		w.age(c, 2*time.Hour)
		c.sends("keepalive", seg(packet.ACK, c.cseq-1, c.mseq).with(n))
		c.gets("its answer", seg(packet.ACK, c.mseq, c.cseq))
		w.nothingExpires()
	}
	s := seg(packet.ACK, c.mseq, c.cseq)
	s.tcp.Window = 0
	c.gets("window is closed", s)
	c.sends("window probe", seg(packet.ACK, c.cseq-1, c.mseq))
	c.works()
}

// refreshes: what anybody could send keeps no flow alive.
func refreshes(w *world) {
	for n, test := range []struct {
		s    segment
		want bool
	}{
		{seg(packet.ACK, clientISN+1, memberISN+1), true},
		{seg(packet.FIN|packet.ACK, clientISN+1, memberISN+1), true},
		{seg(packet.SYN, clientISN, 0), false},
		{seg(packet.RST, clientISN+1, 0), false},
		{seg(packet.RST, 77, 0), false},
	} {
		c := w.quick(client(n))
		w.age(c, time.Hour)
		was, _ := c.both()
		in, _ := c.up(test.s)
		w.mustForward("packet", in)
		is, _ := c.both()
		if refreshed := is.Seen != was.Seen; refreshed != test.want {
			w.Errorf("%s %#x: refreshed: %v, want %v", test.s.tcp.Flags, test.s.tcp.Seq, refreshed, test.want)
		}
	}
}

// wrapping: sequence numbers pass 2^32 in both directions, in big steps too.
func wrapping(w *world) {
	c := w.open(client(1), 0, 1024)
	for range 3000 {
		s := seg(packet.ACK, c.cseq, c.mseq).with(1440)
		in, _ := c.up(s)
		w.only(in)
		c.cseq = s.end()
		s = seg(packet.ACK, c.mseq, c.cseq).with(1440)
		in, _ = c.down(s)
		w.only(in)
		c.mseq = s.end()
	}
	up, down := c.both()
	if up.Next != c.cseq || down.Next != c.mseq || up.Ack != c.mseq-1440 || down.Ack != c.cseq {
		w.Errorf("client %#x, member %#x: %+v %+v", c.cseq, c.mseq, up, down)
	}
	// What comes twice, or late, moves nothing back.
	c.sends("an old segment", seg(packet.ACK, c.cseq-5000, c.mseq).with(100))
	if up, _ := c.both(); up.Next != c.cseq {
		w.Errorf("next is %#x, want %#x", up.Next, c.cseq)
	}
	c.sends("RST", seg(packet.RST, c.cseq, 0), closed(0))
}

// age lets time pass for one connection.
func (w *world) age(c conn, by time.Duration) {
	w.Helper()
	w.ageEntry(c.upKey(), by)
	w.ageEntry(c.downKey(), by)
}

// ageEntry lets time pass for one direction.
func (w *world) ageEntry(tuple maps.FlowKey, by time.Duration) {
	w.Helper()
	own, key := w.pool.Maps(), storedKey(tuple)
	w.edit(own.Flows, key, func(entry []byte) { earlier(entry[seenOffset(key):], by) })
}

// expires runs the expiry over a slot: so many flows and handshakes end, with all
// changes that this makes.
func (w *world) expires(slot int, n uint32, changes ...delta) {
	w.Helper()
	w.sweeps(fmt.Sprintf("sweep of slot %d", slot), maps.Sweep{Slot: uint16(slot)}, maps.Swept{Expired: n}, changes...)
}

// sweeps runs the expiry over all ports of a slot. Looked is not compared.
func (w *world) sweeps(what string, s maps.Sweep, o maps.Swept, changes ...delta) {
	w.Helper()
	before := w.snapshot()
	got := w.sweepAll(int(s.Slot), s)
	after := w.snapshot()
	if got.Expired != o.Expired || got.Healed != o.Healed {
		w.Errorf("%s: %d expired, %d healed, want %d, %d", what, got.Expired, got.Healed, o.Expired, o.Healed)
	}
	if d := after.counts.since(before.counts); !d.equal(sum(delta{}, changes...)) {
		w.Errorf("%s: changed %s\nwant %s", what, d, sum(delta{}, changes...))
	}
	if broken := after.broken(); broken != "" {
		w.Errorf("%s: %s", what, broken)
	}
}

// nothingExpires on any slot.
func (w *world) nothingExpires() {
	w.Helper()
	for _, slot := range w.pool.Slots() {
		w.expires(int(slot), 0)
	}
}
