package loader

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"qlbaas/loader/change"
	"qlbaas/maps"
)

// ensureTables makes the pool's maps if there are none and lets them say what the
// balancer says.
func (n *Node) ensureTables(ctx context.Context, p *pool, b *Balancer) error {
	if p.deployed() == nil {
		if err := n.makeTables(ctx, p, b); err != nil {
			return err
		}
	}
	return n.ensureGeneration(ctx, p, b)
}

// makeTables makes and pins empty maps. What is pinned already was half made.
func (n *Node) makeTables(ctx context.Context, p *pool, b *Balancer) error {
	if err := n.step(ctx, "make maps"); err != nil {
		return err
	}
	if err := p.pins.DropAll(); err != nil {
		return err
	}
	own, err := n.newMaps(ctx, p, b)
	if err != nil {
		return err
	}
	for name, m := range own.Names() {
		if err := n.pin(ctx, p, filepath.Join(mapPins, name), m); err != nil {
			own.Close()
			return err
		}
	}
	view, err := maps.NewPool(n.objects[p.family].tc, own)
	if err != nil {
		own.Close()
		return err
	}
	if _, err := view.Adopt(nil); err != nil {
		view.Close()
		return err
	}
	p.data.Lock()
	defer p.data.Unlock()
	p.view = view
	return nil
}

// pin is a step of its own, since any of them can fail.
func (n *Node) pin(ctx context.Context, p *pool, name string, object any) error {
	if err := n.step(ctx, "pin "+name); err != nil {
		return err
	}
	return p.pins.Put(name, object)
}

// ensureGeneration brings slots, liveness and configuration up to date: the new
// members get their slots first, where no program sees them, then one write makes
// all of it valid at once.
func (n *Node) ensureGeneration(ctx context.Context, p *pool, b *Balancer) error {
	p.build.Lock()
	defer p.build.Unlock()
	return n.nextGeneration(ctx, p, b)
}

// nextGeneration is ensureGeneration with the build lock held.
func (n *Node) nextGeneration(ctx context.Context, p *pool, b *Balancer) error {
	if err := n.ensurePlaces(ctx, p); err != nil {
		return err
	}
	if err := n.finishRetirement(ctx, p); err != nil {
		return err
	}
	now := time.Now()
	last, err := nextSerialAfter(p.view, p.members, now)
	if err != nil {
		return err
	}
	plan, err := planMembers(p.members, b.Members, last, now)
	if err != nil {
		return err
	}
	stored, err := storedGeneration(p.view)
	if err != nil {
		return err
	}
	if err := n.addSlots(ctx, p, plan.added); err != nil {
		return err
	}
	written := false
	err = n.addPorts(ctx, p, p.nextSources(b), plan.all)
	if err == nil {
		err = n.enableAffinity(ctx, p, b)
	}
	if err == nil {
		err = n.restoreHealth(ctx, p, plan.all)
	}
	if err == nil {
		written, err = n.writeGeneration(ctx, p, p.view, b, plan.all, stored)
	}
	if err != nil && !written {
		err = errors.Join(err, n.dropSlots(p, slotsOf(plan.added)))
	}
	if err == nil {
		err = n.withholdHealth(ctx, p, plan.all)
	}
	if err != nil {
		return err
	}
	if !change.IsDryRun(ctx) {
		p.aside.keep(plan.all)
		p.wanted = b
	}
	return n.disableAffinity(ctx, p, b)
}

// restoreHealth tells the programs again what monitors say of members that come back
// from being admin-down; the generation that is about to be written counts on it. Of
// members that go it remembers what they say now.
func (n *Node) restoreHealth(ctx context.Context, p *pool, members []*member) error {
	before := map[uint32]bool{}
	for _, m := range p.members {
		before[m.serial] = m.present
	}
	for _, m := range members {
		was, known := before[m.serial]
		if was && !m.present {
			stored, err := p.view.Health(m.slot)
			if err != nil {
				return err
			}
			p.aside.set(m.serial, !stored.Up)
		}
		if !m.present || was || !known || p.aside.get(m.serial) {
			continue
		}
		if err := n.step(ctx, "set health of members"); err != nil {
			return err
		}
		if err := p.view.SetHealth(m.slot, maps.Health{Up: true, Serial: m.serial}); err != nil {
			return err
		}
	}
	return nil
}

// withholdHealth makes members that are not present down to programs, once these have
// seen the generation without them; only then is there another member for their UDP
// flows. A verdict that came while a member was coming back is told now.
func (n *Node) withholdHealth(ctx context.Context, p *pool, members []*member) error {
	for _, m := range members {
		stored, err := p.view.Health(m.slot)
		if err != nil {
			return err
		}
		down := p.aside.get(m.serial)
		if !stored.Up || m.present && !down {
			if m.present {
				p.aside.set(m.serial, false)
			}
			continue
		}
		if err := n.step(ctx, "set health of members"); err != nil {
			return err
		}
		if err := p.view.SetHealth(m.slot, maps.Health{Serial: m.serial}); err != nil {
			return err
		}
		if m.present {
			p.aside.set(m.serial, false)
			n.rebuildSoon(p)
		}
	}
	return nil
}

// ensurePlaces puts inner maps back that somebody has taken from where programs look
// for them.
func (n *Node) ensurePlaces(ctx context.Context, p *pool) error {
	displaced, err := p.view.Displaced()
	if err != nil || len(displaced) == 0 {
		return err
	}
	if err := n.step(ctx, "put inner maps back"); err != nil {
		return err
	}
	p.log.Warn("inner maps were displaced", "maps", displaced)
	return p.view.PutBack()
}

// finishRetirement ends what a crash or an error has interrupted: a member whose
// counters are the pool's already, but whose slot is there still, must not be taken
// back, or what it counts from now on would be nobody's.
func (n *Node) finishRetirement(ctx context.Context, p *pool) error {
	last, err := p.view.Retired()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(p.members, func(m *member) bool { return m.serial == last.Serial })
	if at < 0 {
		return nil
	}
	if err := n.step(ctx, "finish to retire member"); err != nil {
		return err
	}
	m := p.members[at]
	if err := p.view.Retire(m.slot, m.serial); err != nil {
		return err
	}
	p.publish(slices.Concat(p.members[:at], p.members[at+1:]), p.active)
	return p.unpinSlots([]uint16{m.slot})
}

// addSlots makes the maps of new members, who are up until a monitor says otherwise.
func (n *Node) addSlots(ctx context.Context, p *pool, added []*member) error {
	if len(added) == 0 {
		return nil
	}
	if err := n.step(ctx, "add members"); err != nil {
		return err
	}
	made, err := p.view.AddSlots(slotsOf(added)...)
	if err != nil {
		return err
	}
	err = p.pinInner(made)
	if err == nil {
		err = n.step(ctx, "set health of new members")
	}
	for _, m := range added {
		if err == nil {
			err = p.startPorts(m, 0, made)
		}
		if err == nil {
			err = p.view.SetHealth(m.slot, maps.Health{Up: true, Serial: m.serial})
		}
	}
	if err != nil {
		return errors.Join(err, n.dropSlots(p, slotsOf(added)))
	}
	return nil
}

// portLead is how many ports a former owner of the address may still take before
// the next generation: more than a node opens in a grace period.
const portLead = 4096

// startPorts makes a new member begin after the ports of a former one with the same
// address and port, whose connections are still in the flow table. Both would have
// the same tuples: a member that was removed and came back at once would be out of
// reach until the old connections are gone.
//
// made are the inner maps that are new; members whose ports of the source address are not
// among them stay as they are.
func (p *pool) startPorts(added *member, source uint16, made []maps.Inner) error {
	isNew := func(in maps.Inner) bool { return in.Name == maps.PortsInner(added.slot, source) }
	if !slices.ContainsFunc(made, isNew) {
		return nil
	}
	var former *member
	for _, m := range p.members {
		if m.address == added.address && m.serial != added.serial && (former == nil || m.serial > former.serial) {
			former = m
		}
	}
	if former == nil {
		return nil
	}
	ports, err := p.view.Ports(former.slot, source)
	if errors.Is(err, maps.ErrNotFound) {
		return nil // the address is new to both
	}
	if err != nil {
		return err
	}
	return p.view.StartPorts(added.slot, source, ports.Cursor+portLead)
}

// dropSlots takes slots away that no generation knows.
func (n *Node) dropSlots(p *pool, slots []uint16) error {
	return n.undo(func() error {
		if err := p.view.RemoveSlots(slots...); err != nil {
			return err
		}
		return p.unpinSlots(slots)
	})
}

func (p *pool) unpinSlots(slots []uint16) error {
	for _, slot := range slots {
		for _, name := range maps.SlotInner(slot) {
			if err := p.pins.Drop(filepath.Join(mapPins, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeGeneration writes what the balancer, its members and the monitors' verdicts
// come to, unless that is what the maps hold already (stored). It tells whether
// programs see it, which they may in spite of an error. The build lock is held.
func (n *Node) writeGeneration(
	ctx context.Context, p *pool, view *maps.Pool, b *Balancer, members []*member, stored maps.Generation,
) (written bool, _ error) {
	up, err := view.Healths()
	if err != nil {
		return false, err
	}
	next := makeGeneration(b, p.nextSources(b), members, up, max(stored.Number, p.active.Number)+1)
	if stored.Number > 0 && stored.Equal(next) {
		if !change.IsDryRun(ctx) {
			p.publish(members, stored)
		}
		return true, nil
	}
	if err := n.step(ctx, "write generation"); err != nil {
		return false, err
	}
	made, err := view.Write(next)
	if err != nil {
		return false, err
	}
	p.publish(members, next)
	return true, p.pinInner(made)
}

// storedGeneration reads what the maps hold, the zero Generation before the first.
func storedGeneration(view *maps.Pool) (maps.Generation, error) {
	stored, err := view.Generation()
	if errors.Is(err, maps.ErrNotFound) {
		return maps.Generation{}, nil
	}
	return stored, err
}

// affinityTable is the inner map that is there only while persistence is on.
const affinityTable = "affinities_0"

func hasInner(view *maps.Pool, name string) bool {
	return slices.ContainsFunc(view.Inner(), func(in maps.Inner) bool { return in.Name == name })
}

func (n *Node) enableAffinity(ctx context.Context, p *pool, b *Balancer) error {
	if b.VIP.Persistence != SourceIPPersistence || hasInner(p.view, affinityTable) {
		return nil
	}
	if err := n.step(ctx, "make affinity table"); err != nil {
		return err
	}
	table, _, err := p.view.EnableAffinity(affinityEntries)
	if err != nil {
		return err
	}
	return p.pinInner([]maps.Inner{table})
}

// disableAffinity forgets which client had which member, once no program asks.
func (n *Node) disableAffinity(ctx context.Context, p *pool, b *Balancer) error {
	if b.VIP.Persistence == SourceIPPersistence || !hasInner(p.view, affinityTable) {
		return nil
	}
	if err := n.step(ctx, "remove affinity table"); err != nil {
		return err
	}
	if err := p.view.DisableAffinity(); err != nil {
		return err
	}
	return p.pins.Drop(filepath.Join(mapPins, affinityTable))
}
