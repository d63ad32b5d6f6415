package maps

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// The sizes in which a router's maps are pinned: another size is another RouterLayout.
func TestRouterLayout(t *testing.T) {
	for name, size := range map[string][2]uintptr{
		"leg":      {unsafe.Sizeof(bpf.Fip4Leg{}), 24},
		"floating": {unsafe.Sizeof(bpf.Fip4Floating{}), 24},
		"fixed":    {unsafe.Sizeof(bpf.Fip4Fixed{}), 8},
		"network":  {unsafe.Sizeof(bpf.Fip4Network{}), 8},
		"counters": {unsafe.Sizeof(bpf.Fip4FloatingCounters{}), 32},
	} {
		if size[0] != size[1] {
			t.Errorf("%s is %d bytes, was %d", name, size[0], size[1])
		}
	}
}

func newRouterMaps(t *testing.T) *RouterMaps {
	t.Helper()
	spec, err := bpf.LoadFip4()
	if err != nil {
		t.Fatal(err)
	}
	m := &RouterMaps{}
	if err := spec.LoadAndAssign(m, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

const (
	firstFloating  = "44444444-4444-4444-4444-444444444444"
	secondFloating = "55555555-5555-5555-5555-555555555555"
)

func routerTables() RouterTables {
	return RouterTables{
		Legs: []RouterLeg{
			{Index: 2, External: 2, MTU: 1500, Address: netip.MustParseAddr("10.10.10.1"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}},
			{Index: 3, External: 2, MTU: 1400, Address: netip.MustParseAddr("172.16.50.1"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}},
		},
		Networks: []RouterNetwork{{Prefix: netip.MustParsePrefix("172.16.50.1/24"), Leg: 3}},
		Floating: []FloatingIP{{
			ID: firstFloating, Address: netip.MustParseAddr("10.10.10.7"), Fixed: netip.MustParseAddr("172.16.50.11"), Leg: 3,
		}},
	}
}

// writeTables wants the maps to differ from what is written, and then to hold just that.
func writeTables(t *testing.T, m *RouterMaps, tables RouterTables) {
	t.Helper()
	if holds, err := m.Holds(tables); err != nil || holds {
		t.Errorf("before: Holds = %t, %v", holds, err)
	}
	if err := m.Write(tables); err != nil {
		t.Fatal(err)
	}
	if holds, err := m.Holds(tables); err != nil || !holds {
		t.Errorf("after: Holds = %t, %v", holds, err)
	}
}

func TestRouterTables(t *testing.T) {
	m := newRouterMaps(t)
	tables := routerTables()
	writeTables(t, m, tables)

	address, err := toRouterAddr(tables.Floating[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	counted := make([]bpf.Fip4FloatingCounters, ebpf.MustPossibleCPU())
	for i := range counted {
		counted[i] = bpf.Fip4FloatingCounters{PacketsIn: 1, BytesIn: 2, PacketsOut: 3, BytesOut: 4}
	}
	if err := m.FloatingCounts.Put(address, counted); err != nil {
		t.Fatal(err)
	}
	cpus := uint64(len(counted))
	wantCounted := func(id string, want FloatingCounters) {
		t.Helper()
		found, err := m.Floating()
		if got, ok := found[id]; err != nil || !ok || len(found) != len(tables.Floating) || got != want {
			t.Errorf("%s has counted %+v of %v, want %+v (%v)", id, got, found, want, err)
		}
	}
	wantCounted(firstFloating, FloatingCounters{cpus, 2 * cpus, 3 * cpus, 4 * cpus})

	tables.Floating[0].Fixed = netip.MustParseAddr("172.16.50.12")
	writeTables(t, m, tables)
	wantCounted(firstFloating, FloatingCounters{cpus, 2 * cpus, 3 * cpus, 4 * cpus})

	tables.Floating[0].ID = secondFloating
	writeTables(t, m, tables)
	wantCounted(secondFloating, FloatingCounters{})

	tables.Floating = append(tables.Floating, FloatingIP{
		ID: firstFloating, Address: netip.MustParseAddr("10.10.10.8"), Fixed: netip.MustParseAddr("172.16.50.11"), Leg: 3,
	})
	writeTables(t, m, tables)
	wantCounted(firstFloating, FloatingCounters{})

	if err := m.FloatingCounts.Delete(address); err != nil {
		t.Fatal(err)
	}
	writeTables(t, m, tables)
	writeTables(t, m, RouterTables{})
}

func TestRouterTablesInvalid(t *testing.T) {
	m := newRouterMaps(t)
	six := netip.MustParseAddr("2001:db8::1")
	for name, spoil := range map[string]func(*RouterTables){
		"leg's address":    func(r *RouterTables) { r.Legs[0].Address = six },
		"leg's MAC":        func(r *RouterTables) { r.Legs[0].MAC = nil },
		"network":          func(r *RouterTables) { r.Networks[0].Prefix = netip.PrefixFrom(six, 64) },
		"floating address": func(r *RouterTables) { r.Floating[0].Address = six },
		"fixed address":    func(r *RouterTables) { r.Floating[0].Fixed = six },
		"id":               func(r *RouterTables) { r.Floating[0].ID = "x" },
		"floating twice": func(r *RouterTables) {
			r.Floating = append(r.Floating, r.Floating[0])
		},
		"fixed twice": func(r *RouterTables) {
			other := r.Floating[0]
			other.Address = netip.MustParseAddr("10.10.10.8")
			r.Floating = append(r.Floating, other)
		},
	} {
		tables := routerTables()
		spoil(&tables)
		if err := m.Write(tables); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if holds, err := m.Holds(RouterTables{}); err != nil || !holds {
		t.Errorf("something was written: %t, %v", holds, err)
	}
}
