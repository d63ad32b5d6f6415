package maps

import (
	"fmt"

	"qlbaas/bpf"
)

// MemberState is what one member holds now.
type MemberState struct {
	// Active counts established flows that are not closed.
	Active uint32
	// PortsUsed of NATPorts source ports are taken toward the member.
	PortsUsed uint32
	// PortCursor counts the ports that were tried; its remainder by NATPorts is the
	// one to try next.
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
	stored, err := p.memberState(slot)
	if err != nil {
		return MemberState{}, err
	}
	return MemberState{Active: stored.Active, PortsUsed: stored.PortsUsed, PortCursor: stored.PortCursor}, nil
}

func (p *Pool) memberState(slot uint16) (*bpf.Lb4MemberState, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	m, err := p.at(memberStates, uint32(slot))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var stored bpf.Lb4MemberState
	if err := m.Lookup(uint32(0), &stored); err != nil {
		return nil, wrap(err, "read state of slot %d", slot)
	}
	return &stored, nil
}

// Ports are the source ports toward one member, as they were when they were read.
type Ports struct {
	// Used is how many are taken.
	Used  uint32
	taken [NATWords]uint64
}

// Ports reads which source ports toward the member in the slot are taken.
// ErrNotFound without such a slot.
func (p *Pool) Ports(slot uint16) (*Ports, error) {
	stored, err := p.memberState(slot)
	if err != nil {
		return nil, err
	}
	return &Ports{Used: stored.PortsUsed, taken: stored.Ports}, nil
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

// StartPorts makes a new slot take its first port at the cursor. Only before a
// generation knows the slot: programs write to the same entry. ErrNotFound without
// such a slot.
func (p *Pool) StartPorts(slot uint16, cursor uint32) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	m, err := p.at(memberStates, uint32(slot))
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
	return stored.Count[:], nil
}
