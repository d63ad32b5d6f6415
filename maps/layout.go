package maps

import "github.com/cilium/ebpf"

// Layout is the version of all structs that live in pinned maps. It is part of the
// pins' path: a program of another layout never meets these maps.
const Layout = 1

// PoolMaps are the maps of one pool, by the names they have in the objects.
// ebpf.CollectionSpec.LoadAndAssign fills it.
type PoolMaps struct {
	Affinities   *ebpf.Map `ebpf:"affinities"`
	Conns        *ebpf.Map `ebpf:"conns"`
	Counters     *ebpf.Map `ebpf:"counters"`
	Drops        *ebpf.Map `ebpf:"drops"`
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

// Names returns the maps by name, as MapReplacements and pins want them.
func (m *PoolMaps) Names() map[string]*ebpf.Map { return byName(m) }

// Names returns the maps by name, as MapReplacements and pins want them.
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
func PoolMapNames() []string { panic("unwritten") }

// NodeMapNames are the names of the node's maps, sorted.
func NodeMapNames() []string { panic("unwritten") }

func byName(m any) map[string]*ebpf.Map              { panic("unwritten") }
func setName(m any, name string, to *ebpf.Map) error { panic("unwritten") }
func closeAll(m any) error                           { panic("unwritten") }

// Inner is one inner map and the name under which it is pinned. The Pool owns the
// map: pin it, never close it.
type Inner struct {
	Name string
	Map  *ebpf.Map
}
