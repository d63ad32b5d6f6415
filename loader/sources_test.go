package loader

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"qlbaas/bpf"
	"qlbaas/loader/hook"
	"qlbaas/maps"
)

// Addresses keep their places through any change, and each has one as soon as there is
// room for it.
func TestNextSources(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := &Balancer{}
		b.VIP.Address = netip.MustParsePrefix("172.16.100.11/24")
		var active maps.Sources
		for range 20 {
			b.SNAT = rapid.SliceOfNDistinct(rapid.SampledFrom(sourceAddresses(30)), 0, MaxSNAT,
				func(a netip.Addr) netip.Addr { return a }).Draw(r, "wanted")
			room := max(sourcesRoom(1+len(b.SNAT)), sourcesRoom(active.Places()))
			next := nextSources(active, b, room, false)
			wantSources(r, b, active, next, room)
			left := nextSources(next, b, room, true)
			wantSources(r, b, next, left, room)
			for place, source := range left {
				if source.Closing {
					r.Fatalf("place %d: %v stays", place, source)
				}
			}
			if len(left.Used()) != 1+len(b.SNAT) {
				r.Fatalf("%v of %v have a place", left, b.SNAT)
			}
			active = next
			if rapid.Bool().Draw(r, "closed") {
				active = left
			}
		}
	})
}

func wantSources(r *rapid.T, b *Balancer, before, next maps.Sources, room uint16) {
	if next[0] != (maps.Source{Address: b.VIP.Address.Addr()}) || next.Places() > int(room) {
		r.Fatalf("%v", next)
	}
	seen := map[netip.Addr]bool{}
	for _, place := range next.Used() {
		source := next[place]
		if seen[source.Address] {
			r.Fatalf("%v has two places in %v", source.Address, next)
		}
		seen[source.Address] = true
		if place > 0 && source.Closing == slices.Contains(b.SNAT, source.Address) {
			r.Fatalf("place %d: %+v, wanted %v", place, source, b.SNAT)
		}
		was := slices.IndexFunc(before[:], func(s maps.Source) bool { return s.Address == source.Address })
		if was >= 0 && was != int(place) {
			r.Fatalf("%v moves from %v to %v", source.Address, before, next)
		}
	}
}

// sources counts the connections of a pool by the source address that their member sees.
func (w *world) sources(n *Node, b *Balancer) map[netip.Addr][]netip.AddrPort {
	w.Helper()
	clients := map[netip.Addr][]netip.AddrPort{}
	for flow, err := range n.find(b.PoolID).view.Flows() {
		if err != nil {
			w.Fatal(err)
		}
		if flow.State&(maps.MemberSide|maps.Closed) == 0 {
			clients[flow.Source.Addr()] = append(clients[flow.Source.Addr()], flow.Key.Source)
		}
	}
	return clients
}

func localOf(c *talk) netip.AddrPort {
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func (s *street) dialMany(b *Balancer, count int) (talks []*talk) {
	s.Helper()
	for range count {
		c, err := s.dial(addrPort(b), 5*time.Second)
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { c.Close() })
		talks = append(talks, c)
	}
	return talks
}

// Source addresses take turns, come and go under connections: those of an address that
// leaves end, all others go on.
func TestSourceAddresses(t *testing.T) {
	for _, hook := range []string{HookTCX, HookXDP} {
		t.Run(hook, func(t *testing.T) {
			s, b := newStreet(t, hook)
			at := &failAt{}
			s.opts.fault = func(step string) error { return at.fault(step) }
			n := s.open()
			s.apply(n, b)
			vip, further := b.VIP.Address.Addr(), sourceAddresses(4)
			talks := s.dialMany(&b, 6)
			stop := s.chat(talks)

			b.SNAT = further[:2]
			s.apply(n, b)
			s.wantAsApplied(n, at, &b, b.PoolID)
			talks = append(talks, s.dialMany(&b, 18)...)
			clients := s.sources(n, &b)
			if len(clients) != 3 || len(clients[vip]) != 12 || len(clients[further[0]]) != 6 || len(clients[further[1]]) != 6 {
				t.Errorf("connections by source address: %v", clients)
			}
			s.wantPorts(n, &b, 3*maps.NATPorts, 12)
			ended := clients[further[0]]
			ends := slices.DeleteFunc(slices.Clone(talks), func(c *talk) bool { return !slices.Contains(ended, localOf(c)) })
			stays := slices.DeleteFunc(talks, func(c *talk) bool { return slices.Contains(ended, localOf(c)) })
			stop()
			stop = s.chat(stays)

			b.SNAT = further[1:]
			s.apply(n, b)
			s.wantAsApplied(n, at, &b, b.PoolID)
			for _, c := range ends {
				if err := c.say("still there", 5*time.Second); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
					t.Errorf("a connection by an address that has left: %v", err)
				}
			}
			s.dialMany(&b, 16)
			clients = s.sources(n, &b)
			if len(clients) != 4 || clients[further[0]] != nil || len(clients[further[3]]) != 4 {
				t.Errorf("connections by source address: %v", clients)
			}
			stop()
			s.wantGuarded(&b, further...)

			b.SNAT = nil
			s.apply(n, b)
			s.wantAsApplied(n, at, &b, b.PoolID)
			if clients = s.sources(n, &b); len(clients) != 1 {
				t.Errorf("connections by source address: %v", clients)
			}
			s.wantPorts(n, &b, maps.NATPorts, len(clients[vip])/2)
			for _, in := range n.find(b.PoolID).view.Inner() {
				if path := filepath.Join(s.site(&b).pins, mapPins, in.Name); in.Name == maps.PortsInner(0, 1) {
					t.Errorf("%s is still there", path)
				}
			}
			s.remove(n, b)
		})
	}
}

// wantPorts looks at what each of the two members holds.
func (w *world) wantPorts(n *Node, b *Balancer, total, used int) {
	w.Helper()
	stats, err := n.Stats(b.PoolID)
	if err != nil {
		w.Fatal(err)
	}
	for _, m := range stats.Members {
		if m.PortsTotal != uint32(total) || m.PortsUsed < uint32(used) {
			w.Errorf("member %s: %d ports used of %d, want %d of %d", m.ID, m.PortsUsed, m.PortsTotal, used, total)
		}
	}
}

// wantGuarded asks for ports of addresses that the pool has, has had, or never had: the
// stack behind the programs must not answer.
func (s *street) wantGuarded(b *Balancer, addresses ...netip.Addr) {
	s.Helper()
	for _, a := range addresses {
		_, err := s.ask(netip.AddrPortFrom(a, natPortMin+5), silence)
		if !isSilence(err) && !errors.Is(err, unix.EHOSTUNREACH) {
			s.Errorf("a port of %s: %v", a, err)
		}
	}
}

// A member has more connections than one address has ports: the others are asked.
func TestFullAddress(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	b.Members = b.Members[:1]
	b.SNAT = sourceAddresses(2)
	n := s.open()
	s.apply(n, b)
	// The turns of a full one are the next one's.
	for place, want := range [][]int{{0, 4, 2}, {0, 0, 6}} {
		s.edit(filepath.Join(s.site(&b).pins, mapPins, maps.PortsInner(0, uint16(place))), fillPorts)
		before := s.sources(n, &b)
		s.dialMany(&b, 6)
		after := s.sources(n, &b)
		for i, a := range append([]netip.Addr{b.VIP.Address.Addr()}, b.SNAT...) {
			if more := len(after[a]) - len(before[a]); more != want[i] {
				t.Errorf("with %d addresses full, %s got %d more, want %d", place+1, a, more, want[i])
			}
		}
	}
	s.wantPorts(n, &b, 3*maps.NATPorts, 2*maps.NATPorts+8)
	s.edit(filepath.Join(s.site(&b).pins, mapPins, maps.PortsInner(0, 2)), fillPorts)
	if _, err := s.ask(addrPort(&b), 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("with all addresses full: %v", err)
	}
	s.remove(n, b)
}

// fillPorts marks all ports of a struct member_state as taken.
func fillPorts(value []byte) {
	const used, full, ports = 4, 24, 24 + 8*16
	put32(value[used:], maps.NATPorts)
	for i := range 1000 / 8 {
		value[full+i] = 0xff
	}
	for i := range value[ports:] {
		value[ports+i] = 0xff
	}
}

// A member that was removed keeps its slot for as long as it has a connection by any of
// the addresses.
func TestDrainByAllAddresses(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	b.Members = b.Members[:1]
	b.SNAT = sourceAddresses(1)
	n := s.open()
	s.apply(n, b)
	s.dialMany(&b, 2)
	p := n.find(b.PoolID)
	slot := p.membersNow()[0].slot
	b.Members = nil
	s.apply(n, b)
	for _, place := range []uint16{0, 1} {
		s.sweepTwice(n)
		if slots := p.view.Slots(); !slices.Equal(slots, []uint16{slot}) {
			t.Errorf("slots %v while it has connections from place %d on", slots, place)
		}
		s.endAll(n, &b, slot, place)
	}
	s.sweepTwice(n)
	if slots := p.view.Slots(); len(slots) > 0 {
		t.Errorf("slots %v after the drain", slots)
	}
	pins, err := filepath.Glob(filepath.Join(poolPins(s.opts.BPFFS, b.PoolID), mapPins, "member_states_*"))
	if err != nil || len(pins) > 0 {
		t.Errorf("pins %q, %v", pins, err)
	}
	s.remove(n, b)
}

// endAll ends a member's connections by one address.
func (w *world) endAll(n *Node, b *Balancer, slot, place uint16) {
	w.Helper()
	p := n.find(b.PoolID)
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	job := maps.Sweep{Slot: slot, Place: place, End: true}
	err := endPorts(ctx, p.view, job, func(job maps.Sweep) error {
		_, err := job.Run(p.programs.sweep)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
}

// A connection that nothing ends is reported, and the address stays until it has ended.
func TestPortsThatDoNotEnd(t *testing.T) {
	w := newWorld(t)
	w.opts.compiled = lightObjects
	n := w.open()
	b := w.balancer()
	b.SNAT = sourceAddresses(1)
	w.apply(n, b)
	path := filepath.Join(poolPins(w.opts.BPFFS, b.PoolID), mapPins, maps.PortsInner(0, 1))
	w.edit(path, fillPorts)
	b.SNAT = nil
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := n.Apply(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Apply = %v", err)
	}
	if closing := n.find(b.PoolID).closingSources(); !slices.Equal(closing, []uint16{1}) {
		t.Errorf("closing are %v", closing)
	}
	w.edit(path, func(value []byte) { clear(value) })
	w.apply(n, b)
	if closing := n.find(b.PoolID).closingSources(); closing != nil {
		t.Errorf("closing are %v", closing)
	}
	w.remove(n, b)
}

// silentSoon are the programs with a daemon that counts as gone after a second.
func silentSoon() ([families]objects, error) {
	all, err := readObjects()
	for f := range all {
		if err == nil {
			err = all[f].tc.Variables[bpf.Lb4VarSilentSec].Set(uint32(1))
		}
	}
	return all, err
}

// programsOf are the ids of a pool's programs.
func (w *world) programsOf(n *Node, b *Balancer) (ids []ebpf.ProgramID) {
	w.Helper()
	for _, program := range n.find(b.PoolID).programs.named() {
		if *program == nil {
			continue
		}
		id, err := hook.ProgramID(*program)
		if err != nil {
			w.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// wantGone waits until the kernel has freed the programs, which it does some time after
// nobody holds them any more.
func (w *world) wantGone(ids []ebpf.ProgramID) {
	w.Helper()
	w.until("programs are freed", func() bool {
		return !slices.ContainsFunc(ids, func(id ebpf.ProgramID) bool {
			program, err := ebpf.NewProgramFromID(id)
			if err == nil {
				program.Close()
			}
			return !errors.Is(err, syscall.ENOENT)
		})
	})
}

func (w *world) until(what string, true func() bool) {
	w.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !true(); <-tick.C {
		if time.Now().After(end) {
			w.Fatalf("not within 30 s: %s", what)
		}
	}
}

// While there is no daemon, connections still end in time, and only they: by the
// programs that were attached last, whatever was changed before.
func TestExpiryWithoutDaemon(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	s.opts.compiled = silentSoon
	b.VIP.IdleTimeout = 3 * time.Second
	n := s.open()
	s.apply(n, b)
	former := s.programsOf(n, &b)
	b.SNAT = sourceAddresses(1) // other programs
	s.apply(n, b)
	former = append(former, s.programsOf(n, &b)...)
	b.VIP.FlowLimit = 1000 // and others again
	s.apply(n, b)
	s.wantGone(former)
	last := s.programsOf(n, &b)
	idle, live := s.dialMany(&b, 8), s.dialMany(&b, 8)
	s.close(n)
	stop := s.chat(live)
	s.until("idle connections end", func() bool { return s.flowsPinned(&b) <= len(live) })
	for range 2 { // the live ones are looked at again and again
		passed := time.NewTimer(time.Second)
		<-passed.C
	}
	if flows := s.flowsPinned(&b); flows != len(live) {
		t.Errorf("%d connections are in the table, want %d", flows, len(live))
	}
	stop()
	n = s.open()
	s.apply(n, b)
	s.wantActive(n, &b, uint64(len(live)))
	for i, c := range idle {
		if err := c.say("late", 5*time.Second); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("idle connection %d: %v", i, err)
		}
	}
	s.remove(n, b)
	s.wantGone(append(last, former...)) // no timer is left that would hold them
}

// flowsPinned counts the connections that programs know.
func (w *world) flowsPinned(b *Balancer) (connections int) {
	w.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(poolPins(w.opts.BPFFS, b.PoolID), mapPins, "flows"), nil)
	if err != nil {
		w.Fatal(err)
	}
	defer m.Close()
	var cursor ebpf.MapBatchCursor
	keys, values := make([]bpf.Lb4FlowKey, 2000), make([]bpf.Lb4FlowEntry, 2000)
	entries, err := m.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		w.Fatal(fmt.Errorf("read flows: %w", err))
	}
	return entries / 2
}
