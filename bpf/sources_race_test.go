package bpf_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// TestRacesOfSources: clients by several source addresses, with and without cookies, on
// two CPUs, while two expiries at once (the daemon's and the timer's) look after them and
// one address ends again and again. In the end nothing is left and nothing is lost.
func TestRacesOfSources(t *testing.T) {
	onFamilies(t, options{sources: 4, calm: 6}, func(w *world) {
		w.run("everything at once", everythingAtOnce)
		w.run("one cookie on both", oneCookieOnBoth)
	})
}

func everythingAtOnce(w *world) {
	w.configure(func(g *maps.Generation) {
		g.VIP.HalfOpenPressure, g.VIP.Closing, g.VIP.Rest = time.Second, 0, 0
	})
	seed := rand.Uint64()
	w.Logf("random seed %#x", seed)
	done := make(chan struct{})
	var sweepers sync.WaitGroup
	for n := range uint16(2) {
		sweepers.Go(func() {
			for i := n; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				s := maps.Sweep{Slot: i % 3, Place: i / 3 % 4, Words: maps.NATWords, Pressure: i%1024 < 12}
				s.End = s.Place == 1 && i%256 < 12
				if _, err := s.Run(w.sweep); err != nil {
					w.Error(err)
					return
				}
			}
		})
	}
	const rounds = 2_000
	sides := [2]*party{newParty(w, seed, 0), newParty(w, seed, 1)}
	w.together(rounds, func(cpu, _ int) error { return sides[cpu].one() })
	close(done)
	sweepers.Wait()
	w.checkInvariants()
	w.nothingLeft()
}

// nothingLeft: when everybody has been silent for long.
func (w *world) nothingLeft() {
	w.Helper()
	state := w.snapshot()
	w.Logf("at the end: %s", state.counts)
	for key := range state.flows {
		w.ageEntry(key, 3*time.Hour)
	}
	for key := range state.handshakes {
		w.ageHalf(key, time.Hour)
	}
	for slot := range 3 {
		for place := range uint16(w.sources) {
			w.sweepAll(slot, maps.Sweep{Place: place})
		}
	}
	levels := w.levels()
	for _, name := range []string{"flows", "active", "handshakes", "m0.ports", "m1.ports", "m2.ports", "m0.conns", "m1.conns", "m2.conns"} {
		if levels[name] != 0 {
			w.Errorf("%s is %d in the end", name, levels[name])
		}
	}
}

// party is clients and members, as one CPU meets them: what they say next depends on what
// they heard.
type party struct {
	*world
	*rand.Rand
	numbers map[int]uint32 // that clients were answered, + 1
	heard   [][]byte       // what members got
}

func newParty(w *world, seed, n uint64) *party {
	return &party{world: w, Rand: rand.New(rand.NewPCG(seed, n)), numbers: map[int]uint32{}}
}

func (p *party) one() error {
	n := p.IntN(40)
	in := p.client1(n)
	if len(p.heard) > 0 && p.IntN(2) == 0 {
		in = p.member1(p.heard[p.IntN(len(p.heard))])
	}
	_, out, _, err := p.through(in)
	if err != nil || len(out) < transportOf(in)+14 {
		return err
	}
	to, from := addressesOf(out)
	tcp := out[transportOf(out):]
	switch {
	case from == p.vip().Addr() && to == p.client(n).Addr() && packet.Flags(tcp[13]) == packet.SYN|packet.ACK:
		p.numbers[n] = binary.BigEndian.Uint32(tcp[4:]) + 1
	case packet.Flags(tcp[13]) == packet.SYN:
		p.heard = append(p.heard, out)
		p.heard = p.heard[max(0, len(p.heard)-12):]
	}
	return nil
}

// client1 is a packet that the n-th client might send.
func (p *party) client1(n int) []byte {
	seq, ack := uint32(clientISN+1), uint32(memberISN+1)
	if number := p.numbers[n]; number != 0 && p.IntN(2) == 0 {
		ack = number
	}
	s := seg(packet.SYN, clientISN, 0)
	switch p.IntN(8) {
	case 2, 3, 4, 5:
		s = seg(packet.ACK, seq, ack).with(p.IntN(3))
	case 6:
		s = seg(packet.FIN|packet.ACK, seq, ack)
	case 7:
		s = seg(packet.RST, seq, 0)
	}
	return s.arrives(p.client(n), p.vip())
}

// member1 is what a member might say to a SYN that it got.
func (p *party) member1(syn []byte) []byte {
	to, from := addressesOf(syn)
	ports := syn[transportOf(syn):]
	s := seg(packet.SYN|packet.ACK, memberISN, clientISN+1)
	switch p.IntN(6) {
	case 0:
		s = seg(packet.FIN|packet.ACK, memberISN+1, clientISN+1)
	case 1:
		s = seg(packet.RST, memberISN+1, clientISN+1)
	}
	return s.arrives(netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:])), netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports)))
}

// oneCookieOnBoth: an ACK and the data behind it, on two CPUs, ask one member by one port.
func oneCookieOnBoth(w *world) {
	const count = 400
	for n := range 6 {
		w.quickSYN(client(5000 + n))
	}
	var all [count]conn
	for n := range all {
		in, _ := conn{w: w, client: w.client(n)}.up(cookieSYN())
		got := w.send(in)
		if got.action != answered {
			w.Fatalf("SYN %d was %s", n, got.action)
		}
		all[n] = conn{w: w, client: w.client(n), cseq: clientISN + 1, mseq: binary.BigEndian.Uint32(got.frame[transportOf(got.frame)+4:]) + 1}
	}
	var asked [2][count][]byte
	w.together(count, func(cpu, n int) error {
		in, _ := all[n].up(seg(packet.ACK, all[n].cseq, all[n].mseq).with(10 * cpu))
		code, out, _, err := w.through(in)
		if code == tcRedirect {
			asked[cpu][n] = out
		}
		return err
	})
	for n := range all {
		a, b := asked[0][n], asked[1][n]
		if a == nil || b == nil {
			w.Errorf("client %d: asked %v and %v", n, a != nil, b != nil)
			continue
		}
		if d := packet.Diff(a, b); d != "" {
			w.Errorf("client %d asks twice:\n%s", n, d)
		}
	}
	if got := w.levels(); got["handshakes"] != count+6 {
		w.Errorf("%d clients: %s", count, got)
	}
	w.checkInvariants()
}
