package bpf_test

import (
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// A client whose SYN went to a member that turns out to be down, or to be removed, asks
// another one when it sends the SYN again: it would go on asking in vain for two minutes.
func TestSYNOfDownMember(t *testing.T) {
	onFamilies(t, options{}, func(w *world) {
		w.run("down before it answers", func(w *world) {
			c := w.syn(client(1), 0, firstPort)
			w.setUp(0, false)
			next := c
			next.slot = 1
			in, out := next.up(seg(packet.SYN, clientISN, 0))
			w.expect("SYN again", in, forwards(out, forgotten(0), opened(1), toMember(1, in)))
			late := c
			in, _ = late.down(seg(packet.SYN|packet.ACK, c.mseq, c.cseq))
			w.expect("late answer", in, drops("nat_nomap"))
			next = next.synAck().ack()
			next.works()
		})
		w.run("down, and its answer got lost", func(w *world) {
			c := w.syn(client(1), 0, firstPort).synAck()
			w.setUp(0, false)
			next := c
			next.slot, next.mseq = 1, memberISN
			in, out := next.up(seg(packet.SYN, clientISN, 0))
			w.expect("SYN again", in, forwards(out, forgotten(0), opened(1), toMember(1, in)))
		})
		w.run("down, but it has answered", func(w *world) {
			c := w.syn(client(1), 0, firstPort).synAck()
			w.setUp(0, false)
			c = c.ack()
			c.works()
		})
		w.run("nobody else is there", func(w *world) {
			c := w.syn(client(1), 0, firstPort)
			w.configure(func(g *maps.Generation) { g.Schedule = nil })
			w.setUp(0, false)
			s := seg(packet.SYN, clientISN, 0)
			in, _ := c.up(s)
			w.expect("SYN again", in, answers("no_member", s.resetBy(w.vip(), c.client), forgotten(0)))
		})
		w.run("persistent", func(w *world) {
			w.configure(func(g *maps.Generation) { g.VIP.Affinity = true })
			in, out := (conn{w: w, client: w.client(1), slot: 0, port: firstPort}).up(seg(packet.SYN, clientISN, 0))
			w.expect("SYN", in, forwards(out, opened(0), toMember(0, in), delta{"affinities": 1}))
			w.setUp(0, false)
			in, out = (conn{w: w, client: w.client(1), slot: 1, port: firstPort}).up(seg(packet.SYN, clientISN, 0))
			w.expect("SYN again", in, forwards(out, forgotten(0), opened(1), toMember(1, in)))
		})
	})
}
