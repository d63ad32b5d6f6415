package maps

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// slotOuters hold one inner map per slot, member_states one per source address.
func slotOuters() []string { return []string{memberStates, counters} }

// portsAt is where the ports of a slot toward one source address are.
func portsAt(slot, source uint16) place {
	return place{memberStates, uint32(source)*MaxSlots + uint32(slot)}
}

// slot is the slot that an inner map of slotOuters belongs to.
func (p place) slot() uint16 { return uint16(p.index % MaxSlots) }

// source is the place of the source address whose ports are in an inner map.
func (p place) source() uint16 { return uint16(p.index / MaxSlots) }

// hasSlot tells whether the slot has counters and the ports of all sources.
func (p *Pool) hasSlot(slot uint16, sources []uint16) bool {
	for _, source := range sources {
		if p.inner[portsAt(slot, source)] == nil {
			return false
		}
	}
	return p.inner[place{counters, uint32(slot)}] != nil
}

// AddSlots makes the inner maps of each slot, all or none, and returns them to be
// pinned: counters, and the ports of the VIP's own address. ErrExists if a slot is there
// already, wholly or in part. Many at once cost one grace period together.
func (p *Pool) AddSlots(slots ...uint16) ([]Inner, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	places, err := p.newPlaces(slots)
	if err != nil {
		return nil, err
	}
	added, err := p.addPlaces(places)
	return added, wrap(err, "add slots")
}

// AddPorts makes the ports of a source address that slots do not have yet, all or none,
// and returns their inner maps to be pinned. ErrFull if the place is beyond Sources.
func (p *Pool) AddPorts(source uint16, slots ...uint16) ([]Inner, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if source >= p.sources() {
		return nil, fmt.Errorf("add ports of source %d: %w", source, ErrFull)
	}
	var places []place
	for _, slot := range slots {
		if int(slot) >= MaxSlots {
			return nil, fmt.Errorf("add ports: %w", invalid("slot %d", slot))
		}
		if at := portsAt(slot, source); p.inner[at] == nil && !slices.Contains(places, at) {
			places = append(places, at)
		}
	}
	added, err := p.addPlaces(places)
	return added, wrap(err, "add ports of source %d", source)
}

// HasPorts tells whether all slots have ports of the source address.
func (p *Pool) HasPorts(source uint16, slots ...uint16) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return !slices.ContainsFunc(slots, func(slot uint16) bool { return p.inner[portsAt(slot, source)] == nil })
}

// Sources is how many source addresses the pool has room for.
func (p *Pool) Sources() uint16 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sources()
}

func (p *Pool) sources() uint16 { return uint16(p.own.MemberStates.MaxEntries() / MaxSlots) }

// addPlaces makes inner maps and puts them into their places.
func (p *Pool) addPlaces(places []place) (_ []Inner, err error) {
	made := make(map[place]*ebpf.Map, len(places))
	for _, at := range places {
		m, err := p.createForSlot(at)
		if err != nil {
			return nil, errors.Join(err, p.unmake(made))
		}
		made[at] = m
	}
	err = waves(slotOuters(), func(outer string) error { return p.putMany(outer, made) })
	if err != nil {
		return nil, errors.Join(err, p.unmake(made))
	}
	added := make([]Inner, 0, len(places))
	for _, at := range places {
		p.inner[at] = made[at]
		added = append(added, Inner{at.name(), made[at]})
	}
	sortInner(added)
	return added, nil
}

// createForSlot makes an inner map that is empty. Ports are taken from anywhere in the
// range on, or a member that was taken away and comes back in a new pool would meet the
// ports of its old connections.
func (p *Pool) createForSlot(at place) (*ebpf.Map, error) {
	m, err := p.create(at, 0)
	if err != nil || at.outer != memberStates {
		return m, err
	}
	first := bpf.Lb4MemberState{PortCursor: rand.Uint32N(NATPorts)}
	if err := m.Put(uint32(0), &first); err != nil {
		return nil, errors.Join(wrap(err, "set port cursor in %s", at.name()), m.Close())
	}
	return m, nil
}

// newPlaces are the places that the slots will fill.
func (p *Pool) newPlaces(slots []uint16) ([]place, error) {
	var places []place
	for i, slot := range slots {
		if int(slot) >= MaxSlots {
			return nil, fmt.Errorf("add slot: %w", invalid("slot %d", slot))
		}
		if len(p.ofSlot(slot)) > 0 || slices.Contains(slots[:i], slot) {
			return nil, fmt.Errorf("add slot %d: %w", slot, ErrExists)
		}
		for _, outer := range slotOuters() {
			places = append(places, place{outer, uint32(slot)})
		}
	}
	return places, nil
}

// ofSlot are the places of a slot that have an inner map.
func (p *Pool) ofSlot(slot uint16) (places []place) {
	if at := (place{counters, uint32(slot)}); p.inner[at] != nil {
		places = append(places, at)
	}
	for source := range p.sources() {
		if at := portsAt(slot, source); p.inner[at] != nil {
			places = append(places, at)
		}
	}
	return places
}

// putMany puts the made maps of one outer map into their places, in one call.
func (p *Pool) putMany(outer string, made map[place]*ebpf.Map) error {
	var keys, values []uint32
	for at, m := range made {
		if at.outer == outer {
			keys, values = append(keys, at.index), append(values, uint32(m.FD()))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	_, err := p.outers[outer].BatchUpdate(keys, values, nil)
	return wrap(err, "put %s", outer)
}

// unmake takes maps out of their places, if they are there, and closes them.
func (p *Pool) unmake(made map[place]*ebpf.Map) error {
	places := make([]place, 0, len(made))
	for at := range made {
		places = append(places, at)
	}
	err := p.empty(places)
	for _, m := range made {
		err = errors.Join(err, m.Close())
	}
	return err
}

// empty makes places empty. Waits until no program uses what was there.
func (p *Pool) empty(places []place) error {
	return waves(places, func(at place) error {
		return wrap(remove(p.outers[at.outer], at.index), "remove %s", at.name())
	})
}

// RemoveSlots takes the slots' inner maps away with what they counted, and clears
// their health. Slots that are not there are fine. Members go by Retire; this is for
// slots that no generation ever knew. After an error it can be called again.
func (p *Pool) RemoveSlots(slots ...uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removeSlots(slots)
}

func (p *Pool) removeSlots(slots []uint16) error {
	var places []place
	for _, slot := range slots {
		if int(slot) >= MaxSlots {
			return fmt.Errorf("remove slot: %w", invalid("slot %d", slot))
		}
		if err := p.own.Health.Put(uint32(slot), &bpf.Lb4Health{}); err != nil {
			return wrap(err, "clear health of slot %d", slot)
		}
		places = append(places, p.ofSlot(slot)...)
	}
	return wrap(p.removePlaces(places), "remove slots")
}

// RemovePorts takes the ports of a source address away from all slots, and returns the
// inner maps' names for unpinning. No generation may know the address any more, nor may
// it be the VIP's own. After an error it can be called again.
func (p *Pool) RemovePorts(source uint16) (names []string, _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if source == 0 {
		return nil, fmt.Errorf("remove ports: %w", invalid("source 0"))
	}
	var places []place
	for at := range p.inner {
		if at.outer == memberStates && at.source() == source {
			places, names = append(places, at), append(names, at.name())
		}
	}
	return names, wrap(p.removePlaces(places), "remove ports of source %d", source)
}

// SourcesWithPorts returns the places of source addresses of which a slot has ports,
// ascending.
func (p *Pool) SourcesWithPorts() (sources []uint16) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for at := range p.inner {
		if at.outer == memberStates {
			sources = append(sources, at.source())
		}
	}
	slices.Sort(sources)
	return slices.Compact(sources)
}

func (p *Pool) removePlaces(places []place) error {
	if err := p.empty(places); err != nil {
		return err
	}
	for _, at := range places {
		p.drop(at)
	}
	return nil
}

// Slots returns the slots that have an inner map, ascending.
func (p *Pool) Slots() []uint16 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.slots()
}

func (p *Pool) slots() []uint16 {
	var slots []uint16
	for at := range p.inner {
		if slices.Contains(slotOuters(), at.outer) {
			slots = append(slots, at.slot())
		}
	}
	slices.Sort(slots)
	return slices.Compact(slots)
}

// PortsInner names the inner map of a slot's ports of a source address.
func PortsInner(slot, source uint16) string { return portsAt(slot, source).name() }

// SlotInner names the inner maps that a slot can have, for unpinning.
func SlotInner(slot uint16) []string {
	names := []string{place{counters, uint32(slot)}.name()}
	for source := range uint16(MaxSources) {
		names = append(names, portsAt(slot, source).name())
	}
	return names
}
