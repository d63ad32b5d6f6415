package maps

import (
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// memlock is what the kernel says a map takes now.
func memlock(t *testing.T, m *ebpf.Map) uint64 {
	t.Helper()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	bytes, ok := info.Memlock()
	if !ok {
		t.Fatal("the kernel does not tell a map's memory")
	}
	return bytes
}

// taken rounds that to what the allocator gives, which the kernel's figure for
// arrays leaves out.
func taken(t *testing.T, m *ebpf.Map) uint64 {
	t.Helper()
	bytes := memlock(t, m)
	switch m.Type() {
	case ebpf.Array, ebpf.ArrayOfMaps:
		return allocation(bytes)
	case ebpf.PerCPUArray:
		perCPU := uint64(m.MaxEntries()) * uint64(ebpf.MustPossibleCPU()) * eights(uint64(m.ValueSize()))
		return allocation(bytes-perCPU) + perCPU
	}
	return bytes
}

// grown rounds what a table that grows by entries has grown by since it was empty.
func grown(t *testing.T, m *ebpf.Map, empty uint64, entries uint32) uint64 {
	t.Helper()
	return empty + uint64(entries)*allocation((memlock(t, m)-empty)/uint64(entries))
}

func compare(t *testing.T, costs []TableCost, measured map[string]uint64) {
	t.Helper()
	if len(costs) != len(measured) {
		t.Errorf("%d tables, %d measured", len(costs), len(measured))
	}
	for _, c := range costs {
		is := measured[c.Name]
		t.Logf("%-15s estimated %9d, is %9d", c.Name, c.Bytes, is)
		// Two kilobytes are what a few small objects are rounded up by.
		if c.Bytes+c.Bytes/5+2048 < is || is+is/5+2048 < c.Bytes {
			t.Errorf("%s: estimated %d bytes, is %d", c.Name, c.Bytes, is)
		}
	}
}

func TestCostOfAPool(t *testing.T) {
	limits := Limits{Flows: 5000, Slots: 64, Schedule: 9000, Affinity: 3000}
	spec := loadSpec(t)
	spec.Maps["flows"].MaxEntries = FlowEntries(limits.Flows)
	var own PoolMaps
	assign(t, spec, &own)
	p, err := NewPool(spec, own)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var slots []uint16
	for slot := range uint16(limits.Slots) {
		slots = append(slots, slot)
	}
	addSlots(t, p, slots...)
	table, _, err := p.EnableAffinity(limits.Affinity)
	if err != nil {
		t.Fatal(err)
	}
	keys, values := make([]bpf.Lb4Addr, limits.Affinity), make([]bpf.Lb4Affinity, limits.Affinity)
	for i := range keys {
		keys[i].Word[0] = uint32(i)
	}
	if _, err := table.Map.BatchUpdate(keys, values, nil); err != nil {
		t.Fatal(err)
	}
	empty := memlock(t, own.Flows)
	fillFlows(t, own.Flows, FlowEntries(limits.Flows))
	g := example(1, slots...)
	g.Schedule = slices.Repeat([]uint16{3}, limits.Schedule)
	write(t, p, g)
	write(t, p, g)
	least := example(2, slots...)
	least.VIP.Method, least.Schedule = LeastConnections, nil
	least.Weights = slices.Repeat([]uint32{1}, limits.Slots)
	write(t, p, least)
	write(t, p, least)

	measured := make(map[string]uint64)
	for name, m := range own.Names() {
		measured[name] = taken(t, m)
	}
	for at, m := range p.inner {
		measured[at.outer] += taken(t, m)
	}
	measured["flows"] = grown(t, own.Flows, empty, FlowEntries(limits.Flows))
	costs, err := PoolCost(spec, limits)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, costs, measured)
	if !slices.IsSortedFunc(costs, func(a, b TableCost) int { return int(b.Bytes) - int(a.Bytes) }) {
		t.Error("not the largest first")
	}
}

// The kernel's own figure for a whole pool of the usual size, flow table full.
func TestCostOfTheUsualPool(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 1)
	write(t, p, example(1, 0, 1))
	write(t, p, example(2, 0, 1))
	fillFlows(t, p.own.Flows, p.own.Flows.MaxEntries())
	var is, estimated uint64
	for _, m := range p.own.Names() {
		is += memlock(t, m)
	}
	for _, m := range p.inner {
		is += memlock(t, m)
	}
	costs, err := PoolCost(loadSpec(t), Limits{Flows: 16384, Slots: 2, Schedule: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range costs {
		estimated += c.Bytes
	}
	t.Logf("estimated %d, is %d", estimated, is)
	if estimated+estimated/5 < is || is+is/5 < estimated {
		t.Errorf("estimated %d bytes, is %d", estimated, is)
	}
}

func TestCostOfTheNode(t *testing.T) {
	n := newNode(t)
	empty, entries := memlock(t, n.own.HalfOpenUse), n.own.HalfOpenUse.MaxEntries()
	for pool := range entries {
		if err := n.AddPool(pool); err != nil {
			t.Fatal(err)
		}
	}
	measured := make(map[string]uint64)
	for name, m := range n.own.Names() {
		measured[name] = taken(t, m)
	}
	measured["half_open_use"] = grown(t, n.own.HalfOpenUse, empty, entries)
	costs, err := NodeCost(loadSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, costs, measured)
}

func TestCostOfAnotherObject(t *testing.T) {
	spec := loadSpec(t)
	delete(spec.Maps, "flows")
	if _, err := PoolCost(spec, Limits{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("spec without flows: %v", err)
	}
}

func TestAllocation(t *testing.T) {
	for _, c := range [][2]uint64{
		{1, 8},
		{8, 8},
		{64, 64},
		{65, 96},
		{97, 128},
		{120, 128},
		{129, 192},
		{193, 256},
		{512, 512},
		{8192, 8192},
		{8328, 16384},
		{16385, 32768},
		{32769, 36864},
		{524288, 524288},
	} {
		if got := allocation(c[0]); got != c[1] {
			t.Errorf("%d bytes take %d, want %d", c[0], got, c[1])
		}
	}
}
