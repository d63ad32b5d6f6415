package maps

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TableCost is the kernel memory of one table at its limit.
type TableCost struct {
	Name  string
	Bytes uint64
}

// Limits are what a pool may come to hold.
type Limits struct {
	// Flows is the highest number of connections.
	Flows uint32
	// Slots is the highest number of members, draining ones too.
	Slots int
	// Sources is how many source addresses there are, 0 = the VIP's own.
	Sources int
	// Schedule is the highest number of places of a schedule.
	Schedule int
	// Affinity entries, 0 = no persistence.
	Affinity uint32
}

// FlowEntries is the max_entries of the flow map for that many connections.
func FlowEntries(connections uint32) uint32 { return 2 * connections }

// StateEntries is the max_entries of the outer map of ports for that many source
// addresses.
func StateEntries(sources uint32) uint32 { return sources * MaxSlots }

// Sizes of the kernel's own structs (6.18, 64 bit), which no interface tells.
const (
	arrayHeader  = 320 // struct bpf_array
	hashHeader   = 640 // struct bpf_htab
	hashElement  = 48  // struct htab_elem, without key and value
	hashBucket   = 16  // struct bucket
	freeListNode = 8   // before every element that is allocated on demand
	chargeWord   = 8   // per such element, who it is charged to
)

// PoolCost estimates the kernel memory of a pool's tables at their limits, largest
// first. A table of inner maps includes them, those of both generations. It counts
// what the allocator gives, which is more than a map's own figure says: on 6.18 the
// kernel's memory grew by 17.5 to 18 MB for 1,024 slots (17.4 MB estimated), and by 16.3
// to 17.2 MB for 131,072 flow entries (17.8 MB estimated).
func PoolCost(spec *ebpf.CollectionSpec, l Limits) ([]TableCost, error) {
	slots := uint32(min(max(l.Slots, 0), MaxSlots))
	sources := uint32(min(max(l.Sources, 1), MaxSources))
	size := map[string]uint32{"flows": FlowEntries(l.Flows), memberStates: StateEntries(sources)}
	// Inner maps by outer map: how many, of how many elements.
	inner := map[string]struct{ count, entries uint32 }{
		vips:         {2, 1}, // the old one is there while the new one is made
		members:      {2, powerOfTwo(slots)},
		schedules:    {2, powerOfTwo(uint32(blocks(l.Schedule)))},
		weights:      {2, powerOfTwo(uint32(blocks(int(slots))))},
		memberStates: {slots * sources, 1},
		counters:     {slots, 1},
	}
	if l.Affinity > 0 {
		inner[affinities] = struct{ count, entries uint32 }{1, l.Affinity}
	}
	return costs(PoolMapNames(), spec, func(m *ebpf.MapSpec, cpus uint64) uint64 {
		entries := m.MaxEntries
		if limit, limited := size[m.Name]; limited {
			entries = limit
		}
		bytes := tableBytes(m, uint64(entries), cpus)
		if in := inner[m.Name]; in.count > 0 {
			bytes += uint64(in.count) * tableBytes(m.InnerMap, uint64(in.entries), cpus)
		}
		return bytes
	})
}

// NodeCost estimates the kernel memory of the tables that all pools share, at their
// limits, largest first.
func NodeCost(spec *ebpf.CollectionSpec) ([]TableCost, error) {
	return costs(NodeMapNames(), spec, func(m *ebpf.MapSpec, cpus uint64) uint64 {
		return tableBytes(m, uint64(m.MaxEntries), cpus)
	})
}

func costs(names []string, spec *ebpf.CollectionSpec, cost func(*ebpf.MapSpec, uint64) uint64) ([]TableCost, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("estimate memory: %w", err)
	}
	var tables []TableCost
	for _, name := range names {
		m := spec.Maps[name]
		if m == nil {
			return nil, fmt.Errorf("estimate memory: %w", invalid("spec without map %s", name))
		}
		tables = append(tables, TableCost{name, cost(m, uint64(cpus))})
	}
	slices.SortStableFunc(tables, func(a, b TableCost) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return tables, nil
}

// tableBytes estimates one map that is full.
func tableBytes(m *ebpf.MapSpec, entries, cpus uint64) uint64 {
	value := eights(uint64(m.ValueSize))
	element := hashElement + eights(uint64(m.KeySize)) + value
	buckets := allocation(hashBucket * uint64(powerOfTwo(uint32(entries))))
	switch m.Type {
	case ebpf.Hash:
		if m.Flags&unix.BPF_F_NO_PREALLOC != 0 {
			return hashHeader + buckets + entries*(allocation(element+freeListNode)+chargeWord)
		}
		return hashHeader + buckets + allocation(element*(entries+cpus))
	case ebpf.LRUHash:
		return hashHeader + buckets + allocation(element*entries)
	case ebpf.PerCPUArray:
		return allocation(arrayHeader+8*entries) + entries*cpus*value
	case ebpf.ArrayOfMaps:
		return allocation(arrayHeader + 8*entries)
	default:
		return allocation(arrayHeader + entries*value)
	}
}

// allocation is what the kernel takes for n bytes: a slab object up to two pages
// (there are sizes 96 and 192 between the powers of two), a power of two of pages up
// to eight, whole pages beyond.
func allocation(n uint64) uint64 {
	const page = 4096
	switch {
	case n > 64 && n <= 96:
		return 96
	case n > 128 && n <= 192:
		return 192
	case n <= 8*page:
		return uint64(powerOfTwo(uint32(max(n, 8))))
	default:
		return (n + page - 1) / page * page
	}
}

func eights(n uint64) uint64 { return (n + 7) &^ 7 }

// powerOfTwo is the smallest one that is at least n, and at least 1.
func powerOfTwo(n uint32) uint32 {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len32(n-1)
}
