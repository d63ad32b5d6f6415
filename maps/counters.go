package maps

import (
	"fmt"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// Counters are sums over all CPUs, monotonic.
type Counters struct {
	// In is client to member, Out is back. Bytes are IP lengths of every segment,
	// packets are segments.
	PacketsIn, BytesIn, PacketsOut, BytesOut uint64
	// Connections counts completed handshakes.
	Connections uint64
}

// Add returns the sum of both.
func (c Counters) Add(o Counters) Counters {
	return Counters{
		PacketsIn:   c.PacketsIn + o.PacketsIn,
		BytesIn:     c.BytesIn + o.BytesIn,
		PacketsOut:  c.PacketsOut + o.PacketsOut,
		BytesOut:    c.BytesOut + o.BytesOut,
		Connections: c.Connections + o.Connections,
	}
}

func fromCounters(c bpf.Lb4MemberCounters) Counters {
	return Counters{c.PacketsIn, c.BytesIn, c.PacketsOut, c.BytesOut, c.Connections}
}

// Retired is what members that are gone have counted.
type Retired struct {
	Counters
	// Serial of the member added last.
	Serial uint32
}

// MemberCounters reads what the member in the slot has counted. ErrNotFound without
// such a slot.
func (p *Pool) MemberCounters(slot uint16) (Counters, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.memberCounters(slot)
}

func (p *Pool) memberCounters(slot uint16) (Counters, error) {
	m, err := p.at(counters, uint32(slot))
	if err != nil {
		return Counters{}, fmt.Errorf("read counters: %w", err)
	}
	var perCPU []bpf.Lb4MemberCounters
	if err := m.Lookup(uint32(0), &perCPU); err != nil {
		return Counters{}, wrap(err, "read counters of slot %d", slot)
	}
	var sum Counters
	for _, c := range perCPU {
		sum = sum.Add(fromCounters(c))
	}
	return sum, nil
}

// Totals sums all slots and the retired members. It counts none twice, also when a
// crash has left a retired member's slot behind.
func (p *Pool) Totals() (Counters, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	gone, err := p.retired()
	if err != nil {
		return Counters{}, err
	}
	sum := gone.Counters
	for at := range p.inner {
		slot := uint16(at.index)
		if at.outer != counters || gone.Serial != 0 && p.serials[slot] == gone.Serial {
			continue
		}
		c, err := p.memberCounters(slot)
		if err != nil {
			return Counters{}, err
		}
		sum = sum.Add(c)
	}
	return sum, nil
}

// Retired reads what members that are gone have counted.
func (p *Pool) Retired() (Retired, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.retired()
}

func (p *Pool) retired() (Retired, error) {
	var stored bpf.Lb4Retired
	if err := p.own.Retired.Lookup(uint32(0), &stored); err != nil {
		return Retired{}, wrap(err, "read retired counters")
	}
	return Retired{fromCounters(stored.Total), stored.Serial}, nil
}

// Retire ends the slot of a member whose flows are gone: its counters go into the
// pool's retired ones, then the slot goes. Readers of Totals see neither dip nor
// double. After a crash or an error it can be called again for the same member, and
// must be before another one is retired. A slot that is not there is fine.
func (p *Pool) Retire(slot uint16, serial uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.retire(slot, serial); err != nil {
		return fmt.Errorf("retire slot %d: %w", slot, err)
	}
	return p.removeSlots([]uint16{slot})
}

// retire adds the slot's counters to the retired ones, unless that was done before.
func (p *Pool) retire(slot uint16, serial uint32) error {
	if serial == 0 {
		return invalid("serial 0")
	}
	if p.inner[place{counters, uint32(slot)}] == nil {
		return nil
	}
	gone, err := p.retired()
	if err != nil || gone.Serial == serial {
		return err
	}
	c, err := p.memberCounters(slot)
	if err != nil {
		return err
	}
	sum := gone.Add(c)
	stored := bpf.Lb4Retired{Serial: serial, Total: bpf.Lb4MemberCounters{
		PacketsIn:   sum.PacketsIn,
		BytesIn:     sum.BytesIn,
		PacketsOut:  sum.PacketsOut,
		BytesOut:    sum.BytesOut,
		Connections: sum.Connections,
	}}
	return wrap(p.own.Retired.Put(uint32(0), &stored), "add counters")
}

// Drops returns packets by drop reason; every reason is there, 0 too.
func (p *Pool) Drops() (map[string]uint64, error) {
	drops, err := readPackets(p.own.Drops, func(i uint32) string { return DropReason(i).String() })
	delete(drops, dropNames[bpf.Lb4DropReasonDROP_NONE])
	return drops, wrap(err, "read drops")
}

// Verdicts returns the packets that did not end in a program, by what became of
// them: forwarded, passed, answered.
func (p *Pool) Verdicts() (map[string]uint64, error) {
	verdicts, err := readPackets(p.own.Verdicts, func(i uint32) string { return Verdict(i).String() })
	return verdicts, wrap(err, "read verdicts")
}

// Events returns how often what happened that did not decide what became of a packet.
func (p *Pool) Events() (map[string]uint64, error) {
	events, err := readPackets(p.own.Events, func(i uint32) string { return Event(i).String() })
	return events, wrap(err, "read events")
}

func readPackets(m *ebpf.Map, name func(uint32) string) (map[string]uint64, error) {
	packets := make(map[string]uint64, m.MaxEntries())
	for i := range m.MaxEntries() {
		var perCPU []uint64
		if err := m.Lookup(i, &perCPU); err != nil {
			return nil, err
		}
		for _, n := range perCPU {
			packets[name(i)] += n
		}
	}
	return packets, nil
}
