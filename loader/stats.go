package loader

import (
	"fmt"

	"qlbaas/maps"
)

// Stats reads what the data plane has counted for the pool and how full its tables
// are. ErrNotDeployed for a pool that is not on this node.
func (n *Node) Stats(poolID string) (Stats, error) {
	var s Stats
	err := n.read(poolID, func(p *pool) (err error) {
		s, err = n.readStats(p)
		return err
	})
	if err != nil {
		return Stats{}, fmt.Errorf("read statistics of pool %s: %w", poolID, err)
	}
	return s, nil
}

// read runs a function on a pool that is deployed, with its data held.
func (n *Node) read(poolID string, fn func(*pool) error) error {
	p := n.find(poolID)
	if p == nil {
		return ErrNotDeployed
	}
	p.data.RLock()
	defer p.data.RUnlock()
	if p.view == nil {
		return ErrNotDeployed
	}
	return fn(p)
}

func (n *Node) readStats(p *pool) (s Stats, err error) {
	totals, err := p.view.Totals()
	if err != nil {
		return s, err
	}
	state, err := p.view.PoolState()
	if err != nil {
		return s, err
	}
	s.Counters = toCounters(totals, state.Active)
	up, err := p.view.Healths()
	if err != nil {
		return s, err
	}
	ports := uint32(len(p.active.VIP.SNAT.Used()) * maps.NATPorts)
	for _, m := range p.members {
		if !m.configured {
			continue // what drains is the pool's already
		}
		counted, err := p.view.MemberCounters(m.slot)
		if err != nil {
			return s, err
		}
		holds, err := p.view.MemberState(m.slot)
		if err != nil {
			return s, err
		}
		s.Members = append(s.Members, MemberStats{
			Counters: toCounters(counted, holds.Active), ID: m.id, Up: up[m.slot].Up,
			PortsUsed: holds.PortsUsed, PortsTotal: ports,
		})
	}
	if s.Drops, err = p.view.Drops(); err != nil {
		return s, err
	}
	if s.Verdicts, err = p.view.Verdicts(); err != nil {
		return s, err
	}
	if s.Events, err = p.view.Events(); err != nil {
		return s, err
	}
	s.Tables, err = n.tables(p)
	return s, err
}

func toCounters(c maps.Counters, active uint32) Counters {
	return Counters{
		BytesIn: c.BytesIn, BytesOut: c.BytesOut, PacketsIn: c.PacketsIn, PacketsOut: c.PacketsOut,
		TotalConnections: c.Connections, ActiveConnections: uint64(active),
	}
}

// tables are those that can fill up: the pool's flows, members and clients that it
// remembers, and the node's handshakes.
func (n *Node) tables(p *pool) ([]TableUse, error) {
	used, err := p.view.FlowsUsed()
	if err != nil {
		return nil, err
	}
	var ring maps.Ring
	if shared := n.handshakes(p.family); shared != nil {
		if ring, err = shared.Ring(); err != nil {
			return nil, err
		}
	}
	tables := []TableUse{
		{Name: "flows", Used: uint64(used), Size: uint64(p.active.VIP.FlowLimit)},
		{Name: "members", Used: uint64(len(p.members)), Size: maps.MaxSlots},
		{Name: "half_open", Used: uint64(ring.Used), Size: uint64(ring.Size)},
	}
	if !p.active.VIP.Affinity {
		return tables, nil
	}
	clients := TableUse{Name: "affinities", Size: affinityEntries}
	for _, err := range p.view.Affinities() {
		if err != nil {
			return nil, err
		}
		clients.Used++
	}
	return append(tables, clients), nil
}

// Status says what an operator wants to know of the pool. ErrNotDeployed for a pool
// that is not on this node.
func (n *Node) Status(poolID string) (PoolStatus, error) {
	var s PoolStatus
	err := n.read(poolID, func(p *pool) error {
		used, err := p.view.FlowsUsed()
		if err != nil {
			return err
		}
		up, err := p.view.Healths()
		if err != nil {
			return err
		}
		s = PoolStatus{
			PoolID: poolID, Namespace: namespaceName(poolID), Device: p.facts.device,
			Generation: uint64(p.active.Number), Tag: p.facts.tag, Hook: p.facts.hook,
			FlowsUsed: uint64(used), FlowsLimit: uint64(p.active.VIP.FlowLimit),
			MemoryBytes: n.budget.of(poolID), LastError: p.facts.failure,
		}
		if s.LastError == "" {
			s.LastError = p.facts.alarm
		}
		for _, m := range p.members {
			if !m.configured {
				continue
			}
			s.MembersTotal++
			if m.present && up[m.slot].Up {
				s.MembersUp++
			}
		}
		return nil
	})
	if err != nil {
		return PoolStatus{}, fmt.Errorf("read status of pool %s: %w", poolID, err)
	}
	return s, nil
}
