package bpf_test

import (
	"net/netip"
	"testing"
	"time"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// A VIP with several source addresses toward its members.
func TestSources(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[ipv6], func(t *testing.T) {
			onHooks(t, options{sources: 4, ipv6: ipv6}, func(w *world) {
				w.run("in turn, for each member", sourcesInTurn)
				w.run("one that closes", closingSource)
				w.run("a free place", freePlace)
				w.run("one that is full", fullSource)
				w.run("all are full", fullSources)
				w.run("the same port of each", samePortOfEach)
				w.run("the end of one", endOfSource)
				w.run("each is looked after", sourcesExpire)
				w.run("packets of no connection", strangersToSources)
			})
		})
	}
}

// by opens a handshake that has to get a port of the source address in the place.
func (w *world) by(from netip.AddrPort, slot, source int, natPort uint16) conn {
	w.Helper()
	c := conn{w: w, client: w.host(from), slot: slot, source: source, port: natPort, cseq: clientISN + 1, mseq: memberISN}
	pressed := delta{}
	if w.portsOf(slot, source).PortsUsed >= maps.NATPorts/2 {
		pressed["events.nat_pressure"] = 1
	}
	in, out := c.up(seg(packet.SYN, clientISN, 0))
	w.expect("SYN", in, forwards(out, opened(slot), toMember(slot, in), pressed))
	return c
}

// oneMember makes slot 0 the only one.
func (w *world) oneMember() {
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
}

func sourcesInTurn(w *world) {
	for n := range 24 {
		c := w.by(client(n), n%3, n/3%4, firstPort+uint16(n/12)).synAck().ack()
		c.works()
	}
}

// closingSource: who has a port of it goes on; nobody else gets one, and the others have
// equal shares.
func closingSource(w *world) {
	w.oneMember()
	first := w.by(client(0), 0, 0, firstPort).synAck().ack()
	old := w.by(client(1), 0, 1, firstPort).synAck().ack()
	w.configure(func(g *maps.Generation) { g.VIP.SNAT[1].Closing = true })
	turn := w.memberState(0).Turn
	for n := range 9 {
		source := []int{0, 2, 3}[(int(turn)+n)%3]
		w.by(client(10+n), 0, source, uint16(w.portsOf(0, source).PortCursor)+firstPort)
	}
	old.works()
	first.works()
	in, out := old.down(seg(packet.FIN|packet.ACK, old.mseq, old.cseq))
	w.expect("member's FIN", in, forwards(out, toClient(0, in)))
	w.configure(func(g *maps.Generation) { g.VIP.SNAT[1].Closing = false })
	w.moveTurn(0, 1)
	w.by(client(30), 0, 1, firstPort+1)
}

// moveTurn makes it a source address's turn.
func (w *world) moveTurn(slot int, turn uint32) {
	state := w.memberState(slot)
	state.Turn = turn
	w.setMemberState(slot, state)
}

// freePlace: between others, as it is when an address has left.
func freePlace(w *world) {
	w.oneMember()
	w.configure(func(g *maps.Generation) { g.VIP.SNAT[2] = maps.Source{} })
	for n := range 9 {
		c := w.by(client(n), 0, []int{0, 1, 3}[n%3], firstPort+uint16(n/3)).synAck().ack()
		c.works()
	}
	// The VIP's own is kept in the place, and is not looked after as another address.
	w.sweeps("free place", maps.Sweep{Slot: 0, Place: 2, End: true}, maps.Swept{})
}

// fillSource takes all ports of a source address toward a member, as nobody's.
func (w *world) fillSource(slot, source int) {
	w.Helper()
	var state bpf.Lb4MemberState
	for word := range state.Ports {
		state.Ports[word] = ^uint64(0)
	}
	state.PortsUsed = maps.NATPorts
	was := w.portsOf(slot, source)
	state.Active, state.Turn = was.Active, was.Turn
	w.setPortsOf(slot, source, state)
	w.addConns(slot, maps.NATPorts-was.PortsUsed)
	w.orphans += maps.NATPorts - int(was.PortsUsed)
}

// fullSource: its turns are the next one's, and nobody is refused.
func fullSource(w *world) {
	w.oneMember()
	w.fillSource(0, 0)
	w.fillSource(0, 1)
	for n, want := range []int{2, 2, 2, 3, 2, 2, 2, 3} {
		w.by(client(n), 0, want, uint16(w.portsOf(0, want).PortCursor)+firstPort)
	}
}

func fullSources(w *world) {
	w.oneMember()
	for source := range 4 {
		w.fillSource(0, source)
	}
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "nat_full")
	state := w.portsOf(0, 3)
	state.Ports[2] &^= 1
	state.PortsUsed--
	w.setPortsOf(0, 3, state)
	w.addConns(0, ^uint32(0))
	w.orphans--
	c := w.by(client(1), 0, 3, firstPort+128).synAck().ack()
	c.works()
}

// samePortOfEach: four connections of one member with the same port are told apart.
func samePortOfEach(w *world) {
	w.oneMember()
	var all []conn
	for source := range 4 {
		all = append(all, w.by(client(source), 0, source, firstPort).synAck().ack())
	}
	for _, c := range all {
		c.works()
	}
	all[2].bothFIN()
	all[1].works()
	all[3].works()
}

// endOfSource: connections and handshakes by it end, all others go on.
func endOfSource(w *world) {
	w.oneMember()
	var all []conn
	for n := range 8 {
		all = append(all, w.by(client(n), 0, n%4, firstPort+uint16(n/4)))
		if n < 4 {
			all[n] = all[n].synAck().ack()
		}
	}
	w.configure(func(g *maps.Generation) { g.VIP.SNAT[3].Closing = true })
	w.age(all[3], time.Second) // of this moment they may have a packet on the way
	w.ageHandshake(all[7], time.Second)
	w.sweeps("the end", maps.Sweep{Slot: 0, Place: 3, End: true}, maps.Swept{Expired: 2},
		closed(0), removed(0), forgotten(0))
	if used := w.portsOf(0, 3).PortsUsed; used != 0 {
		w.Errorf("%d ports are left", used)
	}
	all[3].strays("client's packet", seg(packet.ACK, all[3].cseq, all[3].mseq))
	w.configure(func(g *maps.Generation) { g.VIP.SNAT[3] = maps.Source{} })
	for _, c := range []conn{all[0], all[1], all[2], all[4].synAck().ack(), all[6].synAck().ack()} {
		c.works()
	}
}

func sourcesExpire(w *world) {
	w.oneMember()
	for source := range 4 {
		c := w.by(client(source), 0, source, firstPort).synAck().ack()
		if source > 1 {
			w.age(c, 7450*time.Second)
		}
	}
	for source := range 4 {
		want := maps.Swept{}
		var changes []delta
		if source > 1 {
			want.Expired, changes = 1, []delta{closed(0), removed(0)}
		}
		w.sweeps("address", maps.Sweep{Slot: 0, Place: uint16(source)}, want, changes...)
	}
}

// strangersToSources: a source address is ours, but no listener.
func strangersToSources(w *world) {
	own := netip.AddrPortFrom(w.source(2), firstPort+7)
	from := w.host(memberAddress(0))
	w.expect("no connection", seg(packet.ACK, 1, 1).arrives(from, own), drops("nat_nomap"))
	w.expect("listener's port", seg(packet.SYN, 1, 0).arrives(w.host(client(1)), netip.AddrPortFrom(w.source(2), 80)), passes())
	w.expect("own port of the namespace", seg(packet.ACK, 1, 1).arrives(from, netip.AddrPortFrom(w.source(2), lastPort+1)), passes())
	w.expect("spoofed", seg(packet.SYN, 1, 0).arrives(netip.AddrPortFrom(w.source(1), 4000), w.gen.VIP.Address), drops("spoof_self"))
	w.expect("not ours", seg(packet.SYN, 1, 0).arrives(from, netip.AddrPortFrom(w.source(5), firstPort)), passes())
}
