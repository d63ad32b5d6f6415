package bpf_test

import (
	"net/netip"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

func TestAffinity(t *testing.T) {
	onFamilies(t, options{}, func(w *world) {
		persistent := func(name string, test func(w *world)) {
			w.run(name, func(w *world) {
				w.configure(func(g *maps.Generation) { g.VIP.Affinity = true })
				test(w)
			})
		}
		persistent("the method for the first, the same for the rest", sameMember)
		persistent("timeout", affinityTimeout)
		persistent("no timeout", func(w *world) {
			w.configure(func(g *maps.Generation) { g.VIP.AffinityTimeout = 0 })
			w.comes(1, 0)
			w.agePersistence(1, 25*24*time.Hour)
			w.comes(1, 0)
		})
		persistent("clocks of two CPUs", func(w *world) {
			// The other CPU's packet came in a tick later and was done first.
			w.comes(1, 0)
			for _, ahead := range []time.Duration{1 << 20, 4 << 20, 500 << 20} {
				w.agePersistence(1, -ahead)
				w.comes(1, 0)
			}
		})
		persistent("member is down", memberDown)
		persistent("member has weight 0", weightZero)
		persistent("member is gone", memberGone)
		persistent("somebody else has the slot", slotOfAnother)
		persistent("pool is down", func(w *world) {
			w.comes(1, 0)
			w.configure(func(g *maps.Generation) { g.VIP.Refuse = true })
			w.refused("SYN", seg(packet.SYN, clientISN, 0), "no_member")
		})
		persistent("what is refused is remembered", func(w *world) {
			c := w.comes(1, 0)
			in, _ := c.down(seg(packet.RST|packet.ACK, 0, c.cseq))
			w.mustForward("RST", in)
			w.comes(1, 0)
		})
		persistent("a change keeps it", func(w *world) {
			w.comes(1, 0)
			w.configure(func(g *maps.Generation) {
				g.VIP.Idle *= 2
				g.Schedule = []uint16{2, 1}
			})
			w.comes(1, 0)
			w.comes(2, 1) // turn 1 of two
		})
		w.run("every method", everyMethod)
		w.run("switched off", func(w *world) {
			w.configure(func(g *maps.Generation) { g.VIP.Affinity = true })
			w.comes(1, 0)
			w.comes(1, 0)
			w.configure(func(g *maps.Generation) { g.VIP.Affinity = false })
			w.comes(1, 1)
			w.comes(1, 2)
		})
	})
}

// comes is another connection of the n-th client, and the slot that it has to get.
func (w *world) comes(n, slot int) conn {
	w.Helper()
	from := netip.AddrPortFrom(w.client(n).Addr(), uint16(20000+w.serial()))
	c := w.quickSYN(from)
	if c.slot != slot {
		w.Errorf("client %d to slot %d, want %d", n, c.slot, slot)
	}
	return c
}

// agePersistence lets time pass for a client's entry.
func (w *world) agePersistence(n int, by time.Duration) {
	w.Helper()
	table := w.inner("affinities_0")
	const seen = 8 // slot and serial stand before it
	w.edit(table, w.client(n).Addr().AsSlice(), func(entry []byte) { earlier(entry[seen:], by) })
}

func sameMember(w *world) {
	for n := range 9 {
		in := seg(packet.SYN, clientISN, 0).arrives(w.client(n), w.vip())
		c := conn{w: w, client: w.client(n), slot: n % 3, port: firstPort + uint16(2*(n/3))}
		_, out := c.up(seg(packet.SYN, clientISN, 0))
		w.expect("first", in, forwards(out, opened(c.slot), toMember(c.slot, in), delta{"affinities": 1}))
		c.client = netip.AddrPortFrom(c.client.Addr(), 999)
		c.port++
		in, out = c.up(seg(packet.SYN, clientISN, 0))
		w.expect("second", in, forwards(out, opened(c.slot), toMember(c.slot, in)))
	}
	w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = 0 })
	w.expect("SYN over the limit", seg(packet.SYN, 1, 0).arrives(w.client(50), w.vip()), drops("conn_limit"))
}

// affinityTimeout counts from the last new connection.
func affinityTimeout(w *world) {
	w.comes(1, 0)
	for range 3 {
		w.agePersistence(1, 10700*time.Second)
		w.comes(1, 0)
	}
	w.agePersistence(1, 10900*time.Second)
	w.comes(1, 1)
	w.comes(1, 1)
	w.comes(2, 2)
	w.configure(func(g *maps.Generation) { g.VIP.AffinityTimeout = 100 * time.Second })
	w.agePersistence(1, 50*time.Second)
	w.comes(1, 1)
	w.agePersistence(1, 150*time.Second)
	w.comes(1, 0)
}

// memberDown: the client gets another member and stays there, also when the first
// one is back.
func memberDown(w *world) {
	w.comes(1, 0)
	w.setUp(0, false)
	w.comes(1, 1)
	w.comes(1, 1)
	w.setUp(0, true)
	w.comes(1, 1)
	// Nobody is up: refused, but not forgotten.
	for slot := range 3 {
		w.setUp(slot, false)
	}
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "no_member")
	for slot := range 3 {
		w.setUp(slot, true)
	}
	w.comes(1, 1)
}

// weightZero: no new clients, but those that were there before.
func weightZero(w *world) {
	w.comes(1, 0)
	w.comes(2, 1)
	w.comes(3, 2)
	w.configure(func(g *maps.Generation) {
		g.Members[0].Weight = 0
		g.Schedule = []uint16{1, 2}
	})
	w.comes(1, 0)
	for n := 10; n < 14; n++ {
		w.comes(n, 1+(n+1)%2) // turns 3, 4 and so on of two
	}
	w.comes(1, 0)
	w.configure(func(g *maps.Generation) { g.Schedule = nil })
	w.comes(1, 0)
	w.comes(2, 1)
	in := seg(packet.SYN, clientISN, 0).arrives(w.client(20), w.vip())
	w.expect("new client", in, answers("no_member", seg(packet.SYN, clientISN, 0).resetBy(w.vip(), w.client(20))))
	w.setUp(0, false)
	w.refused("SYN of a persistent client", seg(packet.SYN, clientISN, 0), "no_member")
}

// memberGone: admin-down, or only there to drain.
func memberGone(w *world) {
	w.comes(1, 0)
	w.configure(func(g *maps.Generation) {
		g.Members[0].Present = false
		g.Schedule = []uint16{1, 2}
	})
	w.comes(1, 2) // turn 1 of two
	w.comes(1, 2)
	w.configure(func(g *maps.Generation) { g.Members, g.Schedule = g.Members[:2], []uint16{1} })
	w.comes(1, 1)
}

// slotOfAnother: a slot that has got a new owner is not the member of before.
func slotOfAnother(w *world) {
	w.comes(1, 0)
	w.configure(func(g *maps.Generation) { g.Members[0].Serial = 99 })
	w.comes(1, 1)
	w.comes(2, 2)
	w.comes(3, 0)
	w.comes(3, 0)
}

// everyMethod: persistence goes before the method, whichever it is.
func everyMethod(w *world) {
	for n, method := range []func(){
		func() { w.configure(func(g *maps.Generation) { leastConnections(g, 3) }) },
		func() { w.configure(func(g *maps.Generation) { g.Weights = nil }); w.bySource(3) },
	} {
		method()
		w.configure(func(g *maps.Generation) { g.VIP.Affinity = true })
		slot := w.quickSYN(client(n)).slot
		for range 5 {
			w.comes(n, slot)
		}
	}
	w.checkInvariants()
}
