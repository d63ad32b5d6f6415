package maps

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is what a pool must look like after a row of random calls and restarts.
type model struct {
	p        *Pool
	t        *testing.T
	slots    []uint16
	gen      Generation // Number 0: never written
	affinity bool
	health   map[uint16]Health
	counted  uint64
	serial   uint32
	owner    map[uint16]uint32 // serials by slot
}

func (m *model) add(t *rapid.T) {
	slots := rapid.SliceOfNDistinct(rapid.Uint16Range(0, 70), 1, 5, rapid.ID).Draw(t, "slots")
	slots = slices.DeleteFunc(slots, func(slot uint16) bool { return slices.Contains(m.slots, slot) })
	if _, err := m.p.AddSlots(slots...); err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		m.serial++
		m.owner[slot] = m.serial
	}
	m.slots = append(m.slots, slots...)
	slices.Sort(m.slots)
}

// some is one of the slots that there are; where there are none it makes some first.
func (m *model) some(t *rapid.T) uint16 {
	if len(m.slots) == 0 {
		m.add(t)
	}
	return rapid.SampledFrom(m.slots).Draw(t, "slot")
}

// retire ends a slot as the loader does: the slot first, then the generation.
func (m *model) retire(t *rapid.T) {
	slot := m.some(t)
	if err := m.p.Retire(slot, m.owner[slot]); err != nil {
		t.Fatal(err)
	}
	m.slots = slices.DeleteFunc(m.slots, func(s uint16) bool { return s == slot })
	delete(m.health, slot)
	if m.gen.Number > 0 {
		m.write(t)
	}
}

func (m *model) count(t *rapid.T) {
	n := rapid.Uint64Range(1, 1000).Draw(t, "packets")
	count(m.t, m.p, m.some(t), Counters{PacketsIn: n})
	m.counted += n
}

func (m *model) setHealth(t *rapid.T) {
	slot := m.some(t)
	h := Health{Up: rapid.Bool().Draw(t, "up"), Serial: m.owner[slot]}
	if err := m.p.SetHealth(slot, h); err != nil {
		t.Fatal(err)
	}
	m.health[slot] = h
}

func (m *model) toggleAffinity(t *rapid.T) {
	if m.affinity && m.gen.VIP.Affinity {
		m.affinity = false
		m.write(t)
	}
	if !m.affinity && rapid.Bool().Draw(t, "on") {
		if _, _, err := m.p.EnableAffinity(16); err != nil {
			t.Fatal(err)
		}
		m.affinity = true
		return
	}
	if err := m.p.DisableAffinity(); err != nil {
		t.Fatal(err)
	}
	m.affinity = false
}

func (m *model) write(t *rapid.T) {
	g := Generation{Number: m.gen.Number + 1, VIP: exampleVIP()}
	g.VIP.Method = Method(rapid.Uint32Range(0, 2).Draw(t, "method"))
	g.VIP.Affinity = m.affinity
	for _, slot := range m.slots {
		member := exampleMember(slot)
		member.Serial = m.owner[slot]
		member.Present = rapid.Bool().Draw(t, "present")
		g.Members = append(g.Members, member)
		turns := rapid.IntRange(0, 20).Draw(t, "turns")
		if !member.Present || turns == 0 {
			continue
		}
		if g.VIP.Method == LeastConnections {
			g.Weights = append(g.Weights, make([]uint32, int(slot)+1-len(g.Weights))...)
			g.Weights[slot] = uint32(turns)
			continue
		}
		g.Schedule = append(g.Schedule, slices.Repeat([]uint16{slot}, turns)...)
	}
	if _, err := m.p.Write(g); err != nil {
		t.Fatal(err)
	}
	m.gen = g
}

func (m *model) zeroWeight(t *rapid.T) {
	slot := m.some(t)
	if err := m.p.ZeroWeight(slot); err != nil {
		t.Fatal(err)
	}
	if m.gen.VIP.Method == LeastConnections && int(slot) < len(m.gen.Weights) {
		m.gen.Weights = slices.Clone(m.gen.Weights)
		m.gen.Weights[slot] = 0
	}
}

func (m *model) restart(*rapid.T) { m.p, _ = restart(m.t, m.p, nil) }

func (m *model) check(t *rapid.T) {
	consistent(m.t, m.p)
	if got := m.p.Slots(); !slices.Equal(got, m.slots) {
		t.Fatalf("slots %v, want %v", got, m.slots)
	}
	sum, err := m.p.Totals()
	if err != nil || sum.PacketsIn != m.counted {
		t.Fatalf("%d packets in all, %v, want %d", sum.PacketsIn, err, m.counted)
	}
	all, err := m.p.Healths()
	if err != nil {
		t.Fatal(err)
	}
	for slot, h := range all {
		if h != m.health[uint16(slot)] {
			t.Fatalf("health of slot %d: %v, want %v", slot, h, m.health[uint16(slot)])
		}
	}
	if m.gen.Number == 0 {
		return
	}
	got, err := m.p.Generation()
	want := m.gen
	want.Weights = trim(want.Weights)
	if d := diff(want, got); err != nil || d != "" {
		t.Fatalf("generation (-want +got): %v\n%s", err, d)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{p: newPool(t), t: t, health: make(map[uint16]Health), owner: make(map[uint16]uint32)}
		rt.Repeat(map[string]func(*rapid.T){
			"":             m.check,
			"add slots":    m.add,
			"retire":       m.retire,
			"count":        m.count,
			"health":       m.setHealth,
			"affinity":     m.toggleAffinity,
			"write":        m.write,
			"zero weight":  m.zeroWeight,
			"daemon again": m.restart,
		})
		if m.p.Close(); t.Failed() {
			rt.Fatal(fmt.Errorf("inner maps differ"))
		}
	})
}
