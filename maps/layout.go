package maps

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// Layout is the version of all structs that live in pinned maps. It is part of the
// pins' path: a program of another layout never meets these maps.
const Layout = 3

// Sizes that the layout fixes.
const (
	// MaxSlots bounds a slot: 0..MaxSlots-1.
	MaxSlots = 1984
	// MaxSources is how many source addresses toward members a VIP can have, its own
	// included.
	MaxSources = 16
	// MaxWeight is the highest weight of a member.
	MaxWeight = 256
	// MaxSchedule is how many places a schedule can have: 1,024 members of the
	// highest weight.
	MaxSchedule = 1024 * MaxWeight
	// NATPorts is how many source ports there are toward one member.
	NATPorts = 64000
	// NATWords is NATPorts in words of 64, the unit of a sweep.
	NATWords = NATPorts / 64
	// NoLimit as VIP.ConnectionLimit means there is none.
	NoLimit = 1<<32 - 1

	// slotRange is MaxSlots as what programs can mask an index by.
	slotRange = 2048
	// block is the number of slots in a block of weights or schedule.
	block = 32
)

// These do not compile once the generated structs say otherwise.
var (
	_ [slotRange]uint32       = bpf.Lb4Conns{}.Count
	_ [MaxSources]bpf.Lb4Addr = bpf.Lb4Vip{}.Snat
	_ [MaxSources]bpf.Lb6Addr = bpf.Lb6Vip{}.Snat
	_ [NATWords]uint64        = bpf.Lb4MemberState{}.Ports
	_ [block]uint16           = bpf.Lb4ScheduleBlock{}.Slot
	_ [block]uint32           = bpf.Lb4WeightBlock{}.Weight
)

// PoolMaps are the maps of one pool, by the names they have in the objects.
// ebpf.CollectionSpec.LoadAndAssign fills it.
type PoolMaps struct {
	Affinities   *ebpf.Map `ebpf:"affinities"`
	Conns        *ebpf.Map `ebpf:"conns"`
	Counters     *ebpf.Map `ebpf:"counters"`
	Drops        *ebpf.Map `ebpf:"drops"`
	Events       *ebpf.Map `ebpf:"events"`
	Expiry       *ebpf.Map `ebpf:"expiry"`
	Flows        *ebpf.Map `ebpf:"flows"`
	Health       *ebpf.Map `ebpf:"health"`
	MemberStates *ebpf.Map `ebpf:"member_states"`
	Members      *ebpf.Map `ebpf:"members"`
	PoolState    *ebpf.Map `ebpf:"pool_state"`
	Retired      *ebpf.Map `ebpf:"retired"`
	Schedules    *ebpf.Map `ebpf:"schedules"`
	Verdicts     *ebpf.Map `ebpf:"verdicts"`
	Vips         *ebpf.Map `ebpf:"vips"`
	Weights      *ebpf.Map `ebpf:"weights"`
}

// NodeMaps are the maps that all pools of a node share.
// ebpf.CollectionSpec.LoadAndAssign fills it.
type NodeMaps struct {
	HalfOpen     *ebpf.Map `ebpf:"half_open"`
	HalfOpenNode *ebpf.Map `ebpf:"half_open_node"`
	HalfOpenRing *ebpf.Map `ebpf:"half_open_ring"`
	HalfOpenUse  *ebpf.Map `ebpf:"half_open_use"`
}

// Names returns the maps by name, as MapReplacements and pins want them. The maps
// stay the owner's; absent ones are left out.
func (m *PoolMaps) Names() map[string]*ebpf.Map { return byName(m) }

// Names returns the maps by name, as MapReplacements and pins want them. The maps
// stay the owner's; absent ones are left out.
func (m *NodeMaps) Names() map[string]*ebpf.Map { return byName(m) }

// Set assigns the map of that name; an unknown name is ErrNotFound.
func (m *PoolMaps) Set(name string, to *ebpf.Map) error { return setName(m, name, to) }

// Set assigns the map of that name; an unknown name is ErrNotFound.
func (m *NodeMaps) Set(name string, to *ebpf.Map) error { return setName(m, name, to) }

// Close closes all maps that are set.
func (m *PoolMaps) Close() error { return closeAll(m) }

// Close closes all maps that are set.
func (m *NodeMaps) Close() error { return closeAll(m) }

// PoolMapNames are the names of a pool's maps, sorted.
func PoolMapNames() []string { return tags(&PoolMaps{}) }

// NodeMapNames are the names of the node's maps, sorted.
func NodeMapNames() []string { return tags(&NodeMaps{}) }

// eachField calls f with the tag and the field of every map of *m.
func eachField(m any, f func(name string, field **ebpf.Map)) {
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		f(v.Type().Field(i).Tag.Get("ebpf"), v.Field(i).Addr().Interface().(**ebpf.Map))
	}
}

func byName(m any) map[string]*ebpf.Map {
	names := make(map[string]*ebpf.Map)
	eachField(m, func(name string, field **ebpf.Map) {
		if *field != nil {
			names[name] = *field
		}
	})
	return names
}

func setName(m any, name string, to *ebpf.Map) error {
	err := fmt.Errorf("set map %s: %w", name, ErrNotFound)
	eachField(m, func(tag string, field **ebpf.Map) {
		if tag == name {
			*field, err = to, nil
		}
	})
	return err
}

func closeAll(m any) error {
	var errs []error
	eachField(m, func(_ string, field **ebpf.Map) {
		errs = append(errs, (*field).Close()) // closing a nil map is fine
	})
	return errors.Join(errs...)
}

func tags(m any) []string {
	var names []string
	eachField(m, func(name string, _ **ebpf.Map) { names = append(names, name) })
	slices.Sort(names)
	return names
}

// complete is ErrInvalid if a map of *m is absent.
func complete(m any) error {
	var errs []error
	eachField(m, func(name string, field **ebpf.Map) {
		if *field == nil {
			errs = append(errs, fmt.Errorf("map %s is absent: %w", name, ErrInvalid))
		}
	})
	return errors.Join(errs...)
}
