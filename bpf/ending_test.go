package bpf_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// What comes last, and what there is no room for.
func TestEndings(t *testing.T) {
	onFamilies(t, options{flowLimit: 64}, func(w *world) {
		w.run("datagrams after a drain", datagramsAfterDrain)
		w.run("a RST is a drained flow's last word", resetAfterDrain)
		w.run("no memory for a datagram's flow", datagramWithoutMemory)
	})
}

// datagramsAfterDrain: a datagram of a client whose member's drain has ended opens a
// flow to another one; its former member is heard no more.
func datagramsAfterDrain(w *world) {
	w.listenUDP()
	a, b := w.datagramFlow(client(1), 0, firstPort), w.datagramFlow(client(2), 1, firstPort)
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{2} })
	for slot := range uint16(2) {
		w.sweeps("mark", maps.Sweep{Slot: slot, Reset: true}, maps.Swept{})
	}
	next := a
	next.slot = 2
	next.port = firstPort
	in, out := next.up(datagram(10))
	w.expect("client's datagram", in, forwards(out, closed(0), removed(0), openedUDP(2), toMember(2, in)))
	in, _ = a.down(datagram(10))
	w.expect("the former member", in, drops("nat_nomap"))
	next.gets("answer", datagram(10))

	in, _ = b.down(datagram(10))
	w.expect("a drained member", in, drops("drained", closed(1)).late())
	w.expect("a drained member again", in, drops("drained").late())
	w.age(b, 2*time.Minute)
	w.expires(1, 1, removed(1))
}

// resetAfterDrain: the other end hears it, whoever gives up.
func resetAfterDrain(w *world) {
	a, b := w.open(client(1), 0, firstPort), w.open(client(2), 1, firstPort)
	for slot := range uint16(2) {
		w.sweeps("mark", maps.Sweep{Slot: slot, Reset: true}, maps.Swept{})
	}
	a.sends("RST", seg(packet.RST, a.cseq, 0), closed(0))
	b.gets("RST", seg(packet.RST|packet.ACK, b.mseq, b.cseq), closed(1))
}

// datagramWithoutMemory: the table takes no more entries than the kernel has memory
// for, whatever its limit says. Who is refused leaves no ports behind.
func datagramWithoutMemory(w *world) {
	w.listenUDP()
	c := w.datagramFlow(client(1), 0, firstPort)
	own := w.pool.Maps()
	from := netip.MustParseAddrPort("192.0.2.77:1")
	var strangers [][]byte
	for n := range 200 {
		key := storedKey(maps.FlowKey{Source: w.host(from), Destination: w.vip(), Protocol: maps.UDP})
		binary.BigEndian.PutUint16(key[len(key)-8:], uint16(n+1))
		if own.Flows.Put(key, make([]byte, own.Flows.ValueSize())) != nil {
			break
		}
		strangers = append(strangers, key)
	}
	in := datagram(10).arrives(w.client(2), w.vip())
	before := w.levels()
	got := w.send(in)
	if d := w.levels().since(before); got.action != dropped || !d.equal(delta{"drops.flows_full": 1}) {
		w.Errorf("datagram was %s, changed %s", got.action, d)
	}
	for _, key := range strangers {
		w.must(own.Flows.Delete(key))
	}
	c.gets("answer", datagram(10))
	w.checkInvariants()
}
