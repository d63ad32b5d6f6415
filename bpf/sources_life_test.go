package bpf_test

import (
	"fmt"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// A connection by a second source address is one like any other: errors about its
// packets, RSTs, and SYN cookies before it.
func TestLifeBySource(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[ipv6], func(t *testing.T) {
			onHooks(t, options{sources: 3, calm: calm, ipv6: ipv6}, func(w *world) {
				w.run("errors", errorsToSources)
				w.run("errors about handshakes", errorsAboutHandshakesBySource)
				w.run("RST of either end", resetsBySource)
				w.run("the end of a drain", drainedSource)
				w.run("a whole life by cookie", cookieLifeBySource)
				w.run("the member refuses", cookieRefusedBySource)
				w.run("the end of the address", cookieAndEndOfSource)
			})
		})
	}
}

func errorsToSources(w *world) {
	w.oneMember()
	for source := range 3 {
		c := w.by(client(source), 0, source, firstPort).synAck().ack()
		c.works()
		for _, e := range w.errors() {
			keep := 8 * (source % 2) // some quotes are whole
			in, out := w.errorPair(c, seg(packet.ACK, c.cseq, c.mseq).with(400), true, e.layer, keep, 64)
			w.translates(fmt.Sprintf("%s by address %d", e.name, source), in, out)
			in, out = w.errorPair(c, seg(packet.ACK, c.mseq, c.cseq).with(400), false, e.layer, keep, 64)
			w.translates(fmt.Sprintf("%s, address %d, to the member", e.name, source), in, out)
		}
		// The same port of another address is nobody's.
		other := c
		other.source, other.port = (source+1)%3, firstPort+9
		in, _ := w.errorPair(other, seg(packet.ACK, c.cseq, c.mseq), true, w.errors()[0].layer, 8, 64)
		w.expect("error about no connection", in, drops("icmp_nomap").late())
		c.works()
	}
}

func errorsAboutHandshakesBySource(w *world) {
	w.oneMember()
	w.moveTurn(0, 1)
	c := w.by(client(1), 0, 1, firstPort)
	for _, e := range w.errors()[:3] {
		in, out := w.errorPair(c, seg(packet.SYN, clientISN, 0), true, e.layer, 8, 64)
		w.translates(e.name, in, out)
	}
	c = c.synAck().ack()
	c.works()
}

func resetsBySource(w *world) {
	w.oneMember()
	w.moveTurn(0, 1)
	a := w.by(client(1), 0, 1, firstPort).synAck().ack()
	b := w.by(client(2), 0, 2, firstPort).synAck().ack()
	refused := w.by(client(3), 0, 0, firstPort)
	a.gets("RST", seg(packet.RST, a.mseq, 0), closed(0))
	b.sends("RST", seg(packet.RST, b.cseq, 0), closed(0))
	refused.gets("refusal", seg(packet.RST|packet.ACK, 0, refused.cseq), forgotten(0))
}

// drainedSource: the member hears it from the address that it knows.
func drainedSource(w *world) {
	w.oneMember()
	w.moveTurn(0, 2)
	c := w.by(client(1), 0, 2, firstPort).synAck().ack()
	w.sweeps("mark", maps.Sweep{Slot: 0, Place: 2, Reset: true}, maps.Swept{})
	wire := w.wire()
	s := seg(packet.ACK, c.cseq, c.mseq).with(7)
	in, _ := c.up(s)
	w.expect("data", in, answers("drained", s.resetBy(c.vip(), c.client), closed(0)))
	w.sees(wire, segment{ip: resetIP(), tcp: packet.TCP{Flags: packet.RST, Seq: c.cseq}}.leaves(c.nat(), c.member()))
	in, _ = c.down(seg(packet.ACK, c.mseq, c.cseq))
	back := segment{ip: resetIP(), tcp: packet.TCP{Flags: packet.RST, Seq: c.cseq}}
	w.expect("member's ACK", in, answers("drained", back.leaves(c.nat(), c.member())))
}

// askedBy is asked, by a certain source address.
func (w *world) askedBy(n, source int, natPort uint16) conn {
	w.Helper()
	c := w.cookie(client(n), cookieSYN(), 1460)
	c.source = source
	return c.back(seg(packet.ACK, c.cseq, c.mseq), 0, natPort, 1460, accepted, opened(0))
}

// cookieLifeBySource is a connection from the SYN to the last ACK.
func cookieLifeBySource(w *world) {
	w.flooded()
	w.oneMember()
	for n, source := range []int{1, 2, 0, 1} { // the flood has been by address 0
		port := uint16(w.portsOf(0, source).PortCursor) + firstPort
		c := w.askedBy(n, source, port)
		c.back(seg(packet.ACK, c.cseq, c.mseq), 0, port, 1460) // again
		c.memberAnswers(established(0))
		c.memberAnswers()
		for range 2 {
			s := seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(700)
			c.sendsShifted("data", s)
			c.cseq = s.end()
			s = seg(packet.ACK|packet.PSH, c.mseq, c.cseq).with(1400)
			c.getsShifted("data", s)
		}
		theirs := seg(packet.ACK, c.mseq, c.cseq).with(1000)
		ours := theirs
		ours.tcp.Seq -= c.shift()
		for _, e := range w.errors()[:2] {
			in, _ := w.errorPair(c, theirs, false, e.layer, 0, 64)
			_, out := w.errorPair(c, ours, false, e.layer, 0, 64)
			w.translates(e.name+" to the member", in, out)
			in, out = w.errorPair(c, seg(packet.ACK, c.cseq, c.mseq).with(100), true, e.layer, 8, 64)
			w.translates(e.name+" to the client", in, out)
		}
		c.sendsShifted("FIN", seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
		c.getsShifted("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq+1), closed(0))
		c.sendsShifted("last ACK", seg(packet.ACK, c.cseq+1, c.mseq+1))
	}
}

func cookieRefusedBySource(w *world) {
	w.flooded()
	w.oneMember()
	c := w.askedBy(1, 1, firstPort)
	stale := seg(packet.ACK, 5000, 6000)
	in, _ := c.down(stale)
	w.expect("ACK of the last connection", in, answers("bad_ack", stale.resetBy(c.nat(), c.member())))
	in, _ = c.down(seg(packet.RST|packet.ACK, 0, c.cseq))
	_, out := c.down(seg(packet.RST|packet.ACK, c.mseq, c.cseq))
	o := forwards(out, forgotten(0), toClient(0, in))
	o.byTC = true
	w.expect("refusal", in, o)
}

func cookieAndEndOfSource(w *world) {
	w.flooded()
	w.oneMember()
	c := w.askedBy(1, 1, firstPort)
	c.memberAnswers(established(0))
	half := w.askedBy(2, 2, firstPort)
	w.configure(func(g *maps.Generation) { g.VIP.SNAT[1].Closing, g.VIP.SNAT[2].Closing = true, true })
	w.tick(c)
	w.sweeps("the end", maps.Sweep{Slot: 0, Place: 1, End: true}, maps.Swept{Expired: 1}, closed(0), removed(0))
	w.ageHandshake(half, 5<<20)
	w.sweeps("the end", maps.Sweep{Slot: 0, Place: 2, End: true}, maps.Swept{Expired: 1}, forgotten(0))
	// The client still has its number, and comes by another address.
	half.source = 0
	half.back(seg(packet.ACK, half.cseq, half.mseq), 0, firstPort+1, 1460, accepted, opened(0))
}
