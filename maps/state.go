package maps

import (
	"fmt"

	"qlbaas/bpf"
)

// MemberState is what one member holds now.
type MemberState struct {
	// Active counts established flows that are not closed.
	Active uint32
	// PortsUsed source ports are taken toward the member, those of all source addresses;
	// each has NATPorts.
	PortsUsed uint32
	// PortCursor counts the ports of the VIP's own address that were tried; its remainder
	// by NATPorts is the one to try next.
	PortCursor uint32
}

// PoolState is what the pool holds now.
type PoolState struct {
	// Active counts established flows that are not closed, Flows all that are in the
	// table.
	Active, Flows uint32
	// Turns taken by ROUND_ROBIN.
	Turns uint64
}

// MemberState reads what the member in the slot holds. ErrNotFound without such a
// slot.
func (p *Pool) MemberState(slot uint16) (MemberState, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	stored, err := p.memberState(slot, 0)
	if err != nil {
		return MemberState{}, err
	}
	state := MemberState{Active: stored.Active, PortsUsed: stored.PortsUsed, PortCursor: stored.PortCursor}
	for source := uint16(1); source < p.sources(); source++ {
		if p.inner[portsAt(slot, source)] == nil {
			continue
		}
		if stored, err = p.memberState(slot, source); err != nil {
			return MemberState{}, err
		}
		state.PortsUsed += stored.PortsUsed
	}
	return state, nil
}

// memberState reads one inner map. The lock is held.
func (p *Pool) memberState(slot, source uint16) (*bpf.Lb4MemberState, error) {
	if int(slot) >= MaxSlots || source >= p.sources() {
		return nil, fmt.Errorf("read state of slot %d, source %d: %w", slot, source, ErrNotFound)
	}
	at := portsAt(slot, source)
	m, err := p.at(at.outer, at.index)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var stored bpf.Lb4MemberState
	if err := m.Lookup(uint32(0), &stored); err != nil {
		return nil, wrap(err, "read state of slot %d, source %d", slot, source)
	}
	return &stored, nil
}

// Ports are the ports of one source address toward one member, as they were when they
// were read.
type Ports struct {
	// Used is how many are taken.
	Used uint32
	// Cursor counts those that were tried.
	Cursor uint32
	taken  [NATWords]uint64
}

// Ports reads which ports of a source address toward the member in the slot are taken.
// ErrNotFound without such a slot, or if it has no ports of that address.
func (p *Pool) Ports(slot, source uint16) (*Ports, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	stored, err := p.memberState(slot, source)
	if err != nil {
		return nil, err
	}
	return &Ports{Used: stored.PortsUsed, Cursor: stored.PortCursor, taken: stored.Ports}, nil
}

// NextTaken returns the first word at or after the given one in which a port is
// taken; ok is false when there is none up to the end. Words are those of Sweep.
func (p *Ports) NextTaken(word uint32) (next uint32, ok bool) {
	for ; word < NATWords; word++ {
		if p.taken[word] != 0 {
			return word, true
		}
	}
	return 0, false
}

// StartPorts makes a new slot take its first port of a source address at the cursor.
// Only before a generation knows the slot: programs write to the same entry. ErrNotFound
// without such a slot.
func (p *Pool) StartPorts(slot, source uint16, cursor uint32) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	at := portsAt(slot, source)
	m, err := p.at(at.outer, at.index)
	if err != nil {
		return fmt.Errorf("set port cursor: %w", err)
	}
	return wrap(m.Put(uint32(0), &bpf.Lb4MemberState{PortCursor: cursor}), "set port cursor of slot %d", slot)
}

// PoolState reads what the pool holds.
func (p *Pool) PoolState() (PoolState, error) {
	var stored bpf.Lb4PoolState
	if err := p.own.PoolState.Lookup(uint32(0), &stored); err != nil {
		return PoolState{}, wrap(err, "read pool state")
	}
	return PoolState{Active: stored.Active, Flows: stored.Flows, Turns: stored.Turn}, nil
}

// Conns reads the connections (half-open ones too) that LEAST_CONNECTIONS counts,
// indexed by slot.
func (p *Pool) Conns() ([]uint32, error) {
	var stored bpf.Lb4Conns
	if err := p.own.Conns.Lookup(uint32(0), &stored); err != nil {
		return nil, wrap(err, "read connections")
	}
	return stored.Count[:MaxSlots], nil
}
