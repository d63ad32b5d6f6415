package maps

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// slotOuters hold one inner map per slot.
func slotOuters() []string { return []string{memberStates, counters} }

func (p *Pool) hasSlot(slot uint16) bool {
	return p.inner[place{memberStates, uint32(slot)}] != nil &&
		p.inner[place{counters, uint32(slot)}] != nil
}

// AddSlots makes the two inner maps of each slot, all or none, and returns them to be
// pinned. ErrExists if a slot is there already, wholly or in part. Many at once cost
// one grace period together.
func (p *Pool) AddSlots(slots ...uint16) ([]Inner, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	places, err := p.newPlaces(slots)
	if err != nil || len(places) == 0 {
		return nil, err
	}
	made := make(map[place]*ebpf.Map, len(places))
	for _, at := range places {
		if made[at], err = p.create(at, 0); err != nil {
			delete(made, at)
			break
		}
	}
	if err == nil {
		err = waves(slotOuters(), func(outer string) error { return p.putMany(outer, slots, made) })
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add slots: %w", err), p.unmake(made))
	}
	added := make([]Inner, 0, len(places))
	for _, at := range places {
		p.inner[at] = made[at]
		added = append(added, Inner{at.name(), made[at]})
	}
	sortInner(added)
	return added, nil
}

// newPlaces are the places that the slots will fill.
func (p *Pool) newPlaces(slots []uint16) ([]place, error) {
	var places []place
	for i, slot := range slots {
		if int(slot) >= MaxSlots {
			return nil, fmt.Errorf("add slot: %w", invalid("slot %d", slot))
		}
		for _, outer := range slotOuters() {
			at := place{outer, uint32(slot)}
			if p.inner[at] != nil || slices.Contains(slots[:i], slot) {
				return nil, fmt.Errorf("add slot %d: %w", slot, ErrExists)
			}
			places = append(places, at)
		}
	}
	return places, nil
}

// putMany puts the made maps of one outer map into their places, in one call.
func (p *Pool) putMany(outer string, slots []uint16, made map[place]*ebpf.Map) error {
	keys, values := make([]uint32, len(slots)), make([]uint32, len(slots))
	for i, slot := range slots {
		keys[i] = uint32(slot)
		values[i] = uint32(made[place{outer, keys[i]}].FD())
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
		for _, outer := range slotOuters() {
			places = append(places, place{outer, uint32(slot)})
		}
	}
	if err := p.empty(places); err != nil {
		return fmt.Errorf("remove slots: %w", err)
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
			slots = append(slots, uint16(at.index))
		}
	}
	slices.Sort(slots)
	return slices.Compact(slots)
}

// SlotInner names the inner maps of a slot, for unpinning.
func SlotInner(slot uint16) []string {
	var names []string
	for _, outer := range slotOuters() {
		names = append(names, place{outer, uint32(slot)}.name())
	}
	return names
}
