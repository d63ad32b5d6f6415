package maps

import (
	"fmt"

	"qlbaas/bpf"
)

// Health is a monitor's verdict as the programs use it.
type Health struct {
	Up bool
	// Serial of the member that the verdict is about, 0 = none yet.
	Serial uint32
}

// SetHealth stores the verdict on the member in the slot. Programs see it with the
// next packet: a slot that is down gets no new connection, whatever the generation
// says.
func (p *Pool) SetHealth(slot uint16, h Health) error {
	if int(slot) >= MaxSlots {
		return fmt.Errorf("set health: %w", invalid("slot %d", slot))
	}
	stored := bpf.Lb4Health{Serial: h.Serial}
	if h.Up {
		stored.Up = 1
	}
	return wrap(p.own.Health.Put(uint32(slot), &stored), "set health of slot %d", slot)
}

// Health reads the verdict on the member in the slot.
func (p *Pool) Health(slot uint16) (Health, error) {
	if int(slot) >= MaxSlots {
		return Health{}, fmt.Errorf("read health: %w", invalid("slot %d", slot))
	}
	var stored bpf.Lb4Health
	if err := p.own.Health.Lookup(uint32(slot), &stored); err != nil {
		return Health{}, wrap(err, "read health of slot %d", slot)
	}
	return fromHealth(stored), nil
}

// Healths reads all verdicts at once, indexed by slot.
func (p *Pool) Healths() ([]Health, error) {
	table := make([]bpf.Lb4Health, MaxSlots)
	if err := readArray(p.own.Health, table); err != nil {
		return nil, wrap(err, "read health")
	}
	all := make([]Health, len(table))
	for slot, stored := range table {
		all[slot] = fromHealth(stored)
	}
	return all, nil
}

func fromHealth(stored bpf.Lb4Health) Health {
	return Health{Up: stored.Up != 0, Serial: stored.Serial}
}

// ZeroWeight takes a slot out of LEAST_CONNECTIONS at once, in place, ahead of the
// generation that will leave it out. A slot without weight is left alone, and so is
// everything before the first Write.
func (p *Pool) ZeroWeight(slot uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.inner[place{weights, p.half}]
	index := uint32(int(slot) / block)
	if p.inner[place{vips, 0}] == nil || m == nil || index >= m.MaxEntries() {
		return nil
	}
	var shares bpf.Lb4WeightBlock
	if err := m.Lookup(index, &shares); err != nil {
		return wrap(err, "read weight of slot %d", slot)
	}
	if shares.Weight[int(slot)%block] == 0 {
		return nil
	}
	shares.Weight[int(slot)%block] = 0
	return wrap(m.Put(index, &shares), "clear weight of slot %d", slot)
}
