package bpf_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

func TestConnectionLimit(t *testing.T) {
	rows.Proves(t, 105)
	onFamilies(t, options{}, func(w *world) {
		limit := func(n uint32) {
			w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = n })
		}
		w.run("at the SYN", func(w *world) {
			limit(2)
			a, b := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort)
			syn := seg(packet.SYN, clientISN, 0)
			for range 3 {
				w.expect("SYN over the limit", syn.arrives(w.client(3), w.vip()), drops("conn_limit"))
			}
			a.works()
			b.works()
			a.sends("SYN in a flow", syn)
			b.bothFIN() // a closed flow does not count
			c := w.open(client(3), 2, firstPort)
			c.works()
			w.expect("SYN over the limit", syn.arrives(w.client(4), w.vip()), drops("conn_limit"))
		})
		w.run("at the ACK", limitAtACK)
		w.run("none at all", func(w *world) {
			w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = 0 })
			w.expect("SYN", seg(packet.SYN, clientISN, 0).arrives(w.client(1), w.vip()), drops("conn_limit"))
		})
		w.run("lowered below what there is", func(w *world) {
			a, b := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort)
			w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = 1 })
			a.works()
			b.works()
			b.sends("RST", seg(packet.RST, b.cseq, 0), closed(1))
			w.expect("SYN", seg(packet.SYN, clientISN, 0).arrives(w.client(3), w.vip()), drops("conn_limit"))
			a.sends("RST", seg(packet.RST, a.cseq, 0), closed(0))
			w.open(client(3), 2, firstPort)
		})
	})
}

// limitAtACK: handshakes do not count, so more of them may be under way than there
// is room for flows. Who comes late waits: his ACK, or his data, is sent again.
func limitAtACK(w *world) {
	rows.Proves(w, 105)
	w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = 1 })
	a := w.syn(client(1), 0, firstPort).synAck()
	b := w.syn(client(2), 1, firstPort).synAck()
	a = a.ack()
	for range 3 {
		in, _ := b.up(seg(packet.ACK, b.cseq, b.mseq))
		w.expect("ACK over the limit", in, drops("conn_limit"))
		in, _ = b.up(seg(packet.ACK|packet.PSH, b.cseq, b.mseq).with(50))
		w.expect("data over the limit", in, drops("conn_limit"))
	}
	b.gets("SYN-ACK again", seg(packet.SYN|packet.ACK, b.mseq-1, b.cseq))
	a.works()
	a.sends("RST", seg(packet.RST, a.cseq, 0), closed(0))
	s := seg(packet.ACK|packet.PSH, b.cseq, b.mseq).with(50)
	b.sends("data", s, established(1))
	b.cseq = s.end()
	b.works()
}

func TestRefusals(t *testing.T) {
	rows.Proves(t, 106)
	onHooks(t, options{}, func(w *world) {
		w.run("pool is down", func(w *world) {
			c := w.open(client(9), 0, firstPort)
			h := w.syn(client(8), 1, firstPort)
			w.configure(func(g *maps.Generation) { g.VIP.Refuse = true })
			w.refusals()
			c.works() // what is open stays
			h = h.synAck().ack()
			h.works()
		})
		w.run("no member is usable", func(w *world) {
			w.configure(func(g *maps.Generation) { g.Schedule = nil })
			w.refusals()
			w.configure(func(g *maps.Generation) { leastConnections(g, 3); clear(g.Weights) })
			w.refusals()
		})
		w.run("no member at all", func(w *world) {
			w.configure(func(g *maps.Generation) { g.Members, g.Schedule = nil, nil })
			w.refusals()
		})
		w.run("the limit counts even then", func(w *world) {
			w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit, g.Schedule = 0, nil })
			w.refused("SYN", seg(packet.SYN, clientISN, 0), "no_member")
		})
	})
}

// refusals: what a closed port would answer, whatever the SYN looks like.
func (w *world) refusals() {
	w.Helper()
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "no_member")
	w.refused("SYN whose answer's number wraps", seg(packet.SYN, 0xffffffff, 0), "no_member")
	w.refused("SYN with data", seg(packet.SYN, 1000, 0).with(500), "no_member")
	w.refused("SYN of an odd length", seg(packet.SYN, 1000, 0).with(501), "no_member")
	w.refused("SYN with options", seg(packet.SYN, 5, 0).options(
		packet.MSS(1460), packet.SACKPermitted(), packet.Timestamps(5, 0), packet.NOP(), packet.WindowScale(7)), "no_member")
	w.refused("SYN with a number to acknowledge", seg(packet.SYN, 5, 77), "no_member")
	w.refused("ECN SYN", seg(packet.SYN|packet.ECE|packet.CWR, 5, 0), "no_member")
	s := seg(packet.SYN, 5, 0)
	s.ip.TTL, s.ip.TOS, s.ip.DF, s.ip.ID = 255, 0xb8, false, 0xffff
	w.refused("SYN of other bits", s, "no_member")
	s.tcp.Sum = packet.SumBad
	w.refused("SYN with a bad sum", s, "no_member")

	s = seg(packet.SYN, 5, 0)
	in := append(s.arrives(w.client(1), w.vip()), 1, 2, 3, 4, 5, 6)
	w.expect("padded SYN", in, answers("no_member", s.resetBy(w.vip(), w.client(1))))
	// It goes back where it came from, whoever that is.
	other := net.HardwareAddr{2, 0, 0, 0, 0, 77}
	in, out := s.frame(ownMAC, other, client(1), w.vip()), s.resetBy(w.vip(), w.client(1))
	copy(out, other)
	w.expect("SYN by another router", in, answers("no_member", out))
	for _, flags := range []packet.Flags{packet.ACK, packet.FIN | packet.ACK} {
		w.refused(flags.String(), seg(flags, 5, 5), "no_entry")
	}
	for _, flags := range []packet.Flags{packet.SYN | packet.ACK, packet.RST} {
		w.expect(flags.String(), seg(flags, 5, 5).arrives(w.client(1), w.vip()), drops("no_entry"))
	}
}

func TestFlowLimit(t *testing.T) {
	rows.Proves(t, 121)
	const room = 64
	onFamilies(t, options{flowLimit: room}, func(w *world) {
		w.run("full of live flows", func(w *world) {
			all := w.fill(room)
			for range 5 {
				w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
			}
			for _, c := range all {
				c.works()
			}
		})
		w.run("at the ACK", fullAtACK)
		w.run("closed flows give way", func(w *world) {
			all := w.fill(room)
			all[5].close()
			all[6].close()
			// Not even a moment after they have closed.
			w.tick(all[5], all[6])
			late := w.quick(client(500))
			late.works()
			c := w.quick(client(501))
			c.works()
			w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
		})
		w.run("idle flows do not", func(w *world) {
			all := w.fill(room)
			for _, c := range all {
				w.age(c, 7000*time.Second)
			}
			w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
		})
		w.run("pressure", pressure)
		w.run("a flood does not buy the search", searchIsBounded)
		w.run("nor do those who close", searchIsPaidFor)
	})
}

// fill opens n connections.
func (w *world) fill(n int) []conn {
	w.Helper()
	var all []conn
	for i := range n {
		all = append(all, w.quick(client(100+i)))
	}
	return all
}

// tick lets the smallest time pass that the tables know.
func (w *world) tick(all ...conn) {
	for _, c := range all {
		w.age(c, 5<<20)
	}
}

// fullAtACK: the table is full when the handshake is complete. The client waits, as
// at the connection limit.
func fullAtACK(w *world) {
	all := w.fill(w.room() - 1)
	a := w.quickSYN(client(1))
	b := w.quickSYN(client(2))
	a.finish()
	b = b.synAck()
	in, _ := b.up(seg(packet.ACK, b.cseq, b.mseq))
	for range 3 {
		w.expect("ACK", in, drops("flows_full"))
	}
	all[0].works()
	all[0].close()
	w.tick(all[0])
	w.expires(all[0].slot, 0) // the rest of a port is a minute
	w.age(all[0], 2*time.Minute)
	w.expires(all[0].slot, 1, removed(all[0].slot))
	b = b.ack()
	b.works()
}

func (w *world) room() int { return int(w.gen.VIP.FlowLimit) }

// pressure: from three quarters on new connections clear closed flows away a little
// earlier; live ones are left alone, and so are those that closed just now.
func pressure(w *world) {
	all := w.fill(w.room() * 3 / 4)
	all[0].close()
	all[1].close()
	all[2].close()
	w.age(all[0], 200*time.Millisecond)
	w.age(all[1], -time.Minute) // closed just now, however long this takes
	w.age(all[2], -time.Minute)
	for range 20 { // each looks at a part
		w.quickSYN(client(w.clients()))
	}
	entries := w.snapshot().flows
	for n, want := range []bool{false, true, true} {
		_, there := entries[maps.FlowKey{Source: all[n].client, Destination: w.vip(), Protocol: maps.TCP}]
		if there != want {
			w.Errorf("closed flow %d is there: %v, want %v", n, there, want)
		}
	}
	for _, c := range all[3:] {
		c.works()
	}
}

// searchIsBounded: looking for room costs far more than a SYN does, so it is done a
// few times a second, however many SYNs come; unless there is something to be found.
func searchIsBounded(w *world) {
	all := w.fill(w.room() - 1)
	w.lookedAgo(-5 * time.Second) // as if just now, however long this takes
	all[0].close()
	w.age(all[0], time.Hour)
	for n := range 10 {
		w.quickSYN(client(1000 + n))
	}
	if used := w.levels()["flows"]; used != int64(len(all)) {
		w.Errorf("nearly full: a look was taken, %d flows are left", used)
	}
	for n := range 5 { // one slot's ports each, and who is next is up to the clock
		w.lookedAgo(time.Second)
		w.quickSYN(client(2000 + n))
	}
	if used := w.levels()["flows"]; used != int64(len(all)-1) {
		w.Errorf("nearly full: no look was taken, there are %d flows", used)
	}

	all = append(all, w.quickSYN(client(3000)).finish(), w.quickSYN(client(3001)).finish())
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
	was := w.lookedAgo(-5 * time.Second)
	for range 10 {
		w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
	}
	if w.poolState().Looked != was {
		w.Error("full of live flows: another look was taken")
	}
	was = w.lookedAgo(time.Second)
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
	if w.poolState().Looked == was {
		w.Error("full of live flows: no look was taken after a second")
	}
	w.lookedAgo(50 * time.Millisecond)
	all[3].close()
	w.tick(all[3])
	w.quick(client(1))
}

// searchIsPaidFor: who closes a flow of a full table, again and again, buys no search with
// each. All of them together take an eighth of a CPU.
func searchIsPaidFor(w *world) {
	all := w.fill(w.room())
	was := w.lookedAgo(20 * time.Millisecond)
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
	if paid := w.poolState().Looked - was; paid < 4 || paid > 200 {
		w.Errorf("a search of all ports costs %d ticks", paid)
	}
	w.lookedAgo(-5 * time.Second) // not paid for yet
	all[0].close()
	w.tick(all[0])
	was = w.poolState().Looked
	for range 5 {
		w.refused("SYN", seg(packet.SYN, clientISN, 0), "flows_full")
	}
	if w.poolState().Looked != was {
		w.Error("a search that was not paid for")
	}
	w.lookedAgo(time.Second)
	w.quick(client(1))
}

// lookedAgo sets the time of the pool's last look under pressure, and returns its tick.
func (w *world) lookedAgo(ago time.Duration) uint32 {
	w.Helper()
	var now unix.Timespec
	w.must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	state := w.poolState()
	state.Looked = uint32((now.Nano() - int64(ago)) >> 20)
	own := w.pool.Maps()
	w.must(own.PoolState.Put(uint32(0), state))
	return state.Looked
}

func (w *world) poolState() (state bpf.Lb4PoolState) {
	w.Helper()
	own := w.pool.Maps()
	w.must(own.PoolState.Lookup(uint32(0), &state))
	return state
}
