package maps

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// Adoption is what Adopt found out about pins.
type Adoption struct {
	// Repin are the inner maps in use whose pin is missing or holds another map.
	Repin []Inner
	// Stale are names of pins that hold no inner map in use; a name may be in both.
	Stale []string
}

// Adopt finds the inner maps that are in use after a restart; the outer maps say
// which ones. pinned are the maps found under pins that are not in PoolMapNames, by
// name. They are the pool's after the call, and those not in use are closed. Maps in
// use without a pin (the daemon died between making and pinning) are opened by id,
// which takes CAP_SYS_ADMIN. After an error the pool can only be closed.
func (p *Pool) Adopt(pinned map[string]*ebpf.Map) (Adoption, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found Adoption
	for name, m := range pinned {
		at, known := placeOf(name)
		used, err := p.adoptPinned(at, known, m)
		if err != nil {
			return found, fmt.Errorf("adopt %s: %w", name, err)
		}
		if !used {
			found.Stale = append(found.Stale, name)
			_ = m.Close()
		}
	}
	for _, outer := range outerNames() {
		for there, err := range batches[uint32, uint32](p.outers[outer]) {
			if err != nil {
				return found, wrap(err, "adopt %s", outer)
			}
			at := place{outer, there.key}
			if err := p.adoptByID(at, ebpf.MapID(there.value)); err != nil {
				return found, fmt.Errorf("adopt %s: %w", at.name(), err)
			}
		}
	}
	found.Repin = p.takeFresh()
	return found, p.adoptGeneration()
}

// idAt reads the id of the inner map at a place, 0 if it is empty.
func (p *Pool) idAt(at place) (ebpf.MapID, error) {
	var id uint32
	err := p.outers[at.outer].Lookup(at.index, &id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	return ebpf.MapID(id), err
}

// adoptPinned takes m if it is the one in use at its place.
func (p *Pool) adoptPinned(at place, known bool, m *ebpf.Map) (bool, error) {
	if !known {
		return false, nil
	}
	want, err := p.idAt(at)
	if err != nil {
		return false, err
	}
	if want == 0 {
		return p.restore(at, m)
	}
	info, err := m.Info()
	if err != nil {
		return false, err
	}
	if id, known := info.ID(); !known || id != want {
		return false, nil
	}
	p.inner[at] = m
	return true, nil
}

// restore puts a pinned map back into an empty place, if the place is one that is
// never emptied on purpose: then somebody else has done it.
func (p *Pool) restore(at place, m *ebpf.Map) (bool, error) {
	if !slices.Contains([]string{vips, members, schedules, weights}, at.outer) {
		return false, nil
	}
	if err := p.put(at, m); err != nil {
		return false, err
	}
	p.inner[at] = m
	return true, nil
}

// adoptByID opens what is in use at a place and was not under its pin.
func (p *Pool) adoptByID(at place, id ebpf.MapID) error {
	if p.inner[at] != nil {
		return nil
	}
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return err
	}
	p.hold(at, m)
	return nil
}

// adoptGeneration learns which half is active and whose the slots are.
func (p *Pool) adoptGeneration() error {
	gen, half, err := p.read()
	if errors.Is(err, ErrNotFound) {
		return nil // nothing was ever written
	}
	if err != nil {
		return fmt.Errorf("adopt generation: %w", err)
	}
	p.activate(&gen, half)
	return nil
}
