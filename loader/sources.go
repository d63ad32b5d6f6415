package loader

import (
	"context"
	"fmt"
	"math/bits"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"qlbaas/maps"
)

// A VIP has 64,000 ports toward each member per source address. Further addresses are
// on the inside device like the VIP's, and each has its place in the generation, by
// which flows know it.
//
// An address that is wanted no more closes: a generation gives none of its ports to new
// connections, the expiry ends those that it has, the device loses the address, and the
// next generation leaves it out. Whatever of that a daemon does not live to do is done
// by the next one's Apply, for the generation in the kernel says which address closes.

// closeLimit bounds how long connections of an address may take to end; half a flow
// that a dead CPU has left stands for five seconds.
const closeLimit = 10 * time.Second

// sourcesRoom is how many source addresses the tables have room for where so many are
// wanted: few sizes, because another one means other programs.
func sourcesRoom(wanted int) uint16 { return 1 << bits.Len(uint(max(wanted, 1)-1)) }

// nextSources gives every wanted source address a place, as far as there is room. An
// address keeps its place; one that is wanted no more is closing there, or leaves it.
func nextSources(active maps.Sources, b *Balancer, room uint16, leave bool) maps.Sources {
	next := maps.SourcesOf(b.VIP.Address.Addr())
	wanted := slices.Clone(b.SNAT)
	for place := 1; place < len(active); place++ {
		address := active[place].Address
		if !address.IsValid() || address == next[0].Address {
			continue
		}
		if at := slices.Index(wanted, address); at >= 0 {
			next[place].Address = address
			wanted = slices.Delete(wanted, at, at+1)
		} else if !leave {
			next[place] = maps.Source{Address: address, Closing: true}
		}
	}
	place := 1
	for _, address := range wanted {
		for place < int(room) && next[place].Address.IsValid() {
			place++
		}
		if place >= int(room) {
			break // it gets its place when there is room, or another one has left
		}
		next[place].Address = address
	}
	return next
}

// nextSources are those of the pool's next generation. The build lock is held.
func (p *pool) nextSources(b *Balancer) maps.Sources {
	return nextSources(p.active.VIP.SNAT, b, p.deployed().Sources(), p.leaving)
}

// sourcePrefixes are the further source addresses as the inside device has them. They
// bring no route with them, and none of them goes when another one does.
func sourcePrefixes(b *Balancer) []netip.Prefix {
	prefixes := make([]netip.Prefix, 0, len(b.SNAT))
	for _, address := range b.SNAT {
		prefixes = append(prefixes, netip.PrefixFrom(address, address.BitLen()))
	}
	return prefixes
}

// ownAddresses are those that packets for the balancer may be sent to: the VIP, the
// wanted source addresses and those that have not left yet. Sorted.
func ownAddresses(p *pool, b *Balancer) []netip.Addr {
	all := append([]netip.Addr{b.VIP.Address.Addr()}, b.SNAT...)
	p.data.RLock()
	active := p.active.VIP.SNAT
	p.data.RUnlock()
	for _, place := range active.Used() {
		if a := active[place].Address; place > 0 && familyOf(a) == b.family() {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// ensureSources lets the pool take ports of all wanted source addresses, and ends the
// connections of those that are wanted no more. The programs are attached.
func (n *Node) ensureSources(ctx context.Context, p *pool, b *Balancer, w wiring) error {
	if room := sourcesRoom(1 + len(b.SNAT)); room > p.view.Sources() {
		if err := n.step(ctx, "make room for source addresses"); err != nil {
			return err
		}
		if err := n.growSources(ctx, p, w, room); err != nil {
			return err
		}
		if err := n.ensureGeneration(ctx, p, b); err != nil {
			return err
		}
	}
	if closing := p.closingSources(); len(closing) > 0 {
		if err := n.step(ctx, "end connections of source addresses"); err != nil {
			return err
		}
		return n.endSources(ctx, p, closing)
	}
	return nil
}

// closingSources are the places of addresses that have to leave.
func (p *pool) closingSources() (places []uint16) {
	p.data.RLock()
	defer p.data.RUnlock()
	for place, source := range p.active.VIP.SNAT {
		if source.Closing {
			places = append(places, uint16(place))
		}
	}
	return places
}

// endSources ends all connections that have a port of the addresses in these places.
func (n *Node) endSources(ctx context.Context, p *pool, places []uint16) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	sweep := p.loaded().sweep
	for _, place := range places {
		for _, slot := range p.view.Slots() {
			job := maps.Sweep{Slot: slot, Place: place, End: true}
			if err := endPorts(ctx, p.view, job, func(job maps.Sweep) error {
				_, err := job.Run(sweep)
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// endPause is how long a connection that has had a packet just now is left alone.
const endPause = 5 * time.Millisecond

// endPorts sweeps the ports of one source address toward one member until none is taken.
func endPorts(ctx context.Context, view *maps.Pool, job maps.Sweep, sweep func(maps.Sweep) error) error {
	pause := time.NewTicker(endPause)
	defer pause.Stop()
	for {
		ports, err := view.Ports(job.Slot, job.Place)
		if err != nil || ports.Used == 0 {
			return err
		}
		for word, more := ports.NextTaken(0); more; word, more = ports.NextTaken(word) {
			job.Word, job.Words = word, min(sweepWords, maps.NATWords-word)
			if err := sweep(job); err != nil {
				return err
			}
			word += job.Words
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end connections of source address %d: %d are left: %w", job.Place, ports.Used, ctx.Err())
		case <-pause.C:
		}
	}
}

// leaveSources makes a generation without the addresses that have closed, which the
// device has lost, and takes away what is left of them.
func (n *Node) leaveSources(ctx context.Context, p *pool, b *Balancer) error {
	closing := p.closingSources()
	if len(closing) > 0 {
		p.build.Lock()
		p.leaving = true
		err := n.nextGeneration(ctx, p, b)
		p.leaving = false
		p.build.Unlock()
		if err != nil {
			return err
		}
	}
	if err := n.dropPorts(ctx, p); err != nil {
		return err
	}
	if len(closing) == 0 {
		return nil
	}
	return n.ensureGuard(ctx, p, b)
}

// dropPorts takes away the ports of addresses that no generation knows.
func (n *Node) dropPorts(ctx context.Context, p *pool) error {
	p.build.Lock()
	defer p.build.Unlock()
	used := p.active.VIP.SNAT.Used()
	for _, place := range p.view.SourcesWithPorts() {
		if slices.Contains(used, place) {
			continue
		}
		if err := n.step(ctx, "remove ports of source address"); err != nil {
			return err
		}
		names, err := p.view.RemovePorts(place)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := p.pins.Drop(filepath.Join(mapPins, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addPorts makes the ports of all source addresses of the next generation. The build
// lock is held.
func (n *Node) addPorts(ctx context.Context, p *pool, sources maps.Sources, members []*member) error {
	slots := slotsOf(members)
	for _, place := range sources.Used() {
		if p.view.HasPorts(place, slots...) {
			continue
		}
		if err := n.step(ctx, "add ports of source address"); err != nil {
			return err
		}
		made, err := p.view.AddPorts(place, slots...)
		if err != nil {
			return err
		}
		if err := p.pinInner(made); err != nil {
			return err
		}
		for _, m := range members {
			if err := p.startPorts(m, place, made); err != nil {
				return err
			}
		}
	}
	return nil
}
