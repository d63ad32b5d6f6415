package maps

import (
	"iter"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// Sizes that the layout fixes.
const (
	// MaxSlots bounds a slot: 0..MaxSlots-1.
	MaxSlots = 2048
	// MaxSchedule is how many places a schedule can have.
	MaxSchedule = 1024 * 256
	// NATPorts is how many source ports there are toward one member.
	NATPorts = 64000
	// NATWords is NATPorts in words of 64 ports, the unit of a sweep.
	NATWords = NATPorts / 64
	// NoLimit as VIP.ConnectionLimit means there is none.
	NoLimit = 1<<32 - 1
)

// Protocol is the IP protocol number of what the listener forwards.
type Protocol uint8

// The protocols that a listener can have.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// Method says who chooses the member of a new client.
type Method uint32

// The methods, as the programs know them.
const (
	RoundRobin       Method = 0
	LeastConnections Method = 1
	SourceIP         Method = 2
)

// VIP is the listener and the settings of a pool.
type VIP struct {
	// ID is the VIP's UUID.
	ID string
	// Address and port that clients know.
	Address  netip.AddrPort
	Protocol Protocol
	// SNAT is the source address toward members.
	SNAT netip.Addr
	// Refuse answers every new connection with a RST (pool admin-down).
	Refuse bool
	// Affinity is SOURCE_IP persistence; Write wants EnableAffinity before.
	Affinity bool
	Method   Method
	// HashSeed makes the SOURCE_IP hash differ from pool to pool.
	HashSeed uint32
	// ConnectionLimit is the highest number of established flows, or NoLimit.
	ConnectionLimit uint32
	// FlowLimit is how many flows the table holds.
	FlowLimit uint32
	// The time limits are whole seconds, 0..2^32-1 s: an established flow without
	// packets, a handshake, a handshake while the table is under pressure, a closed
	// flow, a closed flow without timestamps, an affinity entry (0 = for ever).
	Idle, HalfOpen, HalfOpenPressure, Closing, Rest, AffinityTimeout time.Duration
}

// Member is a member as one generation knows it.
type Member struct {
	Slot uint16
	// ID is the member's UUID.
	ID string
	// Serial is never used twice within a pool, and never 0.
	Serial  uint32
	Address netip.AddrPort
	// Weight as configured, for readers: 0..256.
	Weight uint16
	// Present: configured and admin-up. A member that only drains is not.
	Present bool
}

// Generation is the configuration of a pool that programs see as one.
type Generation struct {
	// Number counts configurations; it has no meaning to programs.
	Number uint32
	VIP    VIP
	// Members in ascending order of their slots, draining ones too.
	Members []Member
	// Schedule holds slots in order of their turns (RoundRobin) or by hash
	// (SourceIP). Empty = no usable member. Not with LeastConnections.
	Schedule []uint16
	// Weights are effective weights by slot, 0 = not to be chosen; only with
	// LeastConnections. Trailing zeros mean nothing.
	Weights []uint32
}

// Equal reports whether both would have the same effect; numbers may differ.
func (g Generation) Equal(other Generation) bool { panic("unwritten") }

// MaxSerial is the highest serial among the members, 0 without members.
func (g Generation) MaxSerial() uint32 { panic("unwritten") }

// Pool is the view of one pool's maps. Safe for concurrent use.
type Pool struct{}

// NewPool views m through the layout of spec, which must be the spec that m was
// made from (of the same family). It owns m on success. A pool whose maps were
// there before needs Adopt before anything else.
func NewPool(spec *ebpf.CollectionSpec, m PoolMaps) (*Pool, error) { panic("unwritten") }

// Maps returns the outer maps, which stay the pool's.
func (p *Pool) Maps() PoolMaps { panic("unwritten") }

// Close closes every map; pinned ones live on.
func (p *Pool) Close() error { panic("unwritten") }

// Adoption is what Adopt found out about pins.
type Adoption struct {
	// Repin are the inner maps in use whose pin was missing or another map.
	Repin []Inner
	// Stale are names of pins that hold no inner map in use.
	Stale []string
}

// Adopt finds the inner maps that are in use after a restart. pinned are the inner
// maps found under their pins, by name; they are the pool's after the call, those
// not in use are closed. Maps in use without pin are opened by id, which takes
// CAP_SYS_ADMIN. After an error the pool can only be closed.
func (p *Pool) Adopt(pinned map[string]*ebpf.Map) (Adoption, error) { panic("unwritten") }

// Inner returns the inner maps in use, sorted by name.
func (p *Pool) Inner() []Inner { panic("unwritten") }

// Write makes gen the pool's configuration: wholly, or not at all when an error
// returns. It waits until no program uses the former one (an RCU grace period). The
// inner maps that are new come back to be pinned, over those of the same name; on
// error none of them is to be pinned. Members must have their slots. ErrInvalid
// names what is wrong with gen.
func (p *Pool) Write(gen Generation) ([]Inner, error) { panic("unwritten") }

// Generation reads the active configuration. ErrNotFound before the first Write.
func (p *Pool) Generation() (Generation, error) { panic("unwritten") }

// ZeroWeight takes a slot out of LEAST_CONNECTIONS at once, in place, ahead of the
// generation that will leave it out. A slot without weight is left alone.
func (p *Pool) ZeroWeight(slot uint16) error { panic("unwritten") }

// AddSlots makes the two inner maps of each slot, all or none, and returns them to
// be pinned. ErrExists if a slot is there already. Take many at once: each call
// waits for a grace period.
func (p *Pool) AddSlots(slots ...uint16) ([]Inner, error) { panic("unwritten") }

// RemoveSlots takes the slots' inner maps away with what they counted, and clears
// their health. Slots that are not there are fine. See Retire for members.
func (p *Pool) RemoveSlots(slots ...uint16) error { panic("unwritten") }

// Slots returns the slots in use, ascending.
func (p *Pool) Slots() []uint16 { panic("unwritten") }

// SlotInner names the inner maps of a slot, for unpinning.
func SlotInner(slot uint16) []string { panic("unwritten") }

// Health is a monitor's verdict as the programs use it.
type Health struct {
	Up bool
	// Serial of the member that the verdict is about, 0 = none yet.
	Serial uint32
}

// SetHealth stores the verdict on the member in the slot. Programs see it at once.
func (p *Pool) SetHealth(slot uint16, h Health) error { panic("unwritten") }

// Health reads the verdict on the member in the slot.
func (p *Pool) Health(slot uint16) (Health, error) { panic("unwritten") }

// Healths reads all verdicts at once, indexed by slot.
func (p *Pool) Healths() ([]Health, error) { panic("unwritten") }

// Counters are sums over all CPUs, monotonic.
type Counters struct {
	// In is client to member, Out is back. Bytes are IP lengths of every segment,
	// packets are segments.
	PacketsIn, BytesIn, PacketsOut, BytesOut uint64
	// Connections counts completed handshakes.
	Connections uint64
}

// Add returns the sum of both.
func (c Counters) Add(o Counters) Counters { panic("unwritten") }

// MemberCounters reads what the member in the slot has counted.
func (p *Pool) MemberCounters(slot uint16) (Counters, error) { panic("unwritten") }

// Totals sums all slots and the retired members; it never counts one twice.
func (p *Pool) Totals() (Counters, error) { panic("unwritten") }

// Retired is what members that are gone have counted.
type Retired struct {
	Counters
	// Serial of the member added last.
	Serial uint32
}

// Retired reads what members that are gone have counted.
func (p *Pool) Retired() (Retired, error) { panic("unwritten") }

// Retire ends the slot of a member whose flows are gone: its counters go into the
// pool's retired ones, then the slot goes. Readers of Totals see no dip and no
// double. After a crash or an error it can be called again for the same member; do
// not retire another one in between.
func (p *Pool) Retire(slot uint16, serial uint32) error { panic("unwritten") }

// MemberState is what one member holds now.
type MemberState struct {
	// Active counts established flows that are not closed.
	Active uint32
	// PortsUsed of NATPorts source ports are taken toward the member.
	PortsUsed uint32
}

// MemberState reads what the member in the slot holds.
func (p *Pool) MemberState(slot uint16) (MemberState, error) { panic("unwritten") }

// PoolState is what the pool holds now.
type PoolState struct {
	// Active counts established flows that are not closed, Flows all in the table.
	Active, Flows uint32
	// Turns taken by ROUND_ROBIN.
	Turns uint64
}

// PoolState reads what the pool holds.
func (p *Pool) PoolState() (PoolState, error) { panic("unwritten") }

// Conns reads the connections (half-open ones too) that LEAST_CONNECTIONS counts,
// indexed by slot.
func (p *Pool) Conns() ([]uint32, error) { panic("unwritten") }

// Drops returns packets by drop reason; every reason is there, 0 too.
func (p *Pool) Drops() (map[string]uint64, error) { panic("unwritten") }

// Verdicts returns the packets that did not end here, by what became of them.
func (p *Pool) Verdicts() (map[string]uint64, error) { panic("unwritten") }

// FlowKey is a packet's tuple as it arrives.
type FlowKey struct {
	Source, Destination netip.AddrPort
	Protocol            Protocol
}

// FlowState is the set of FLOW_* bits.
type FlowState uint32

// The bits of a FlowState.
const (
	MemberSide FlowState = 1 << 0
	Timestamps FlowState = 1 << 1
	SynAck     FlowState = 1 << 2
	FinClient  FlowState = 1 << 3
	FinMember  FlowState = 1 << 4
	Closed     FlowState = 1 << 5
	Dead       FlowState = 1 << 6
	Reset      FlowState = 1 << 7
)

// Flow is what a packet of a FlowKey becomes.
type Flow struct {
	// Source and Destination after translation.
	Source, Destination netip.AddrPort
	Slot                uint16
	// Serial of the member.
	Serial uint32
	State  FlowState
	// Seen is when the last packet of this direction came, Started the SYN's time.
	Seen, Started Tick
	// Next and Ack are sequence numbers, TSDelta what is added to the client's TSval.
	Next, Ack, TSDelta uint32
}

// FlowEntry is one entry of the flow table: one direction of a connection.
type FlowEntry struct {
	Key FlowKey
	Flow
}

// Tick is a time of the data plane: 2^20 ns of CLOCK_MONOTONIC, wrapping.
type Tick uint32

// Sub returns t-u for times less than 26 days apart.
func (t Tick) Sub(u Tick) time.Duration { panic("unwritten") }

// Flows iterates over both directions of all flows; an error ends it. Entries that
// come or go meanwhile may or may not be seen.
func (p *Pool) Flows() iter.Seq2[FlowEntry, error] { panic("unwritten") }

// FlowsUsed is the number of connections in the flow table.
func (p *Pool) FlowsUsed() (uint32, error) { panic("unwritten") }

// AffinityEntry is the member that a client had last.
type AffinityEntry struct {
	Client netip.Addr
	Slot   uint16
	Serial uint32
	Seen   Tick
}

// EnableAffinity makes the affinity table with that many entries and returns it to
// be pinned. If it is there already, whatever its size, it stays and made is false.
func (p *Pool) EnableAffinity(entries uint32) (table Inner, made bool, err error) {
	panic("unwritten")
}

// DisableAffinity removes the affinity table; without one it does nothing. Write a
// generation without VIP.Affinity first.
func (p *Pool) DisableAffinity() error { panic("unwritten") }

// Affinities iterates over the affinity table, which may be absent.
func (p *Pool) Affinities() iter.Seq2[AffinityEntry, error] { panic("unwritten") }

// Node is the view of the maps that all pools share. Safe for concurrent use.
type Node struct{}

// NewNode views m and owns it on success.
func NewNode(m NodeMaps) (*Node, error) { panic("unwritten") }

// Maps returns the maps, which stay the node's.
func (n *Node) Maps() NodeMaps { panic("unwritten") }

// Close closes every map; pinned ones live on.
func (n *Node) Close() error { panic("unwritten") }

// AddPool makes the pool's account of handshakes; a present one is left as it is.
// ErrFull when the node has no room for another pool.
func (n *Node) AddPool(number uint32) error { panic("unwritten") }

// RemovePool removes the pool's handshakes and its account. Detach its programs
// first. A pool that is not there is fine.
func (n *Node) RemovePool(number uint32) error { panic("unwritten") }

// Pools returns handshakes in flight by pool number.
func (n *Node) Pools() (map[uint32]uint32, error) { panic("unwritten") }

// HalfOpenEntry is one direction of a handshake in flight.
type HalfOpenEntry struct {
	FlowEntry
	Pool uint32
	// Place in the ring.
	Place uint32
}

// HalfOpen iterates over both directions of a pool's handshakes; an error ends it.
func (n *Node) HalfOpen(pool uint32) iter.Seq2[HalfOpenEntry, error] { panic("unwritten") }

// Ring is how full the table of handshakes is.
type Ring struct {
	// Size is how many handshakes the node can hold, Used how many there are.
	Size, Used uint32
	// Evicted counts handshakes that gave way to newer ones, modulo 2^32.
	Evicted uint32
}

// Ring reads the state of the handshakes' ring.
func (n *Node) Ring() (Ring, error) { panic("unwritten") }

// Sweep is one call of the expiry program.
type Sweep struct {
	Slot uint16
	// Words of 64 ports to look at from Word on; Word+Words <= NATWords.
	Word, Words uint32
	// Pressure applies the short time limits; Reset marks live flows to be reset
	// (the member's drain has ended).
	Pressure, Reset bool
}

// Swept is what a Sweep found.
type Swept struct {
	// Looked ports were taken; Expired flows and handshakes were ended; Healed
	// ports were taken by nobody.
	Looked, Expired, Healed uint32
}

// Run runs the program sweep_ports once.
func (s Sweep) Run(program *ebpf.Program) (Swept, error) { panic("unwritten") }

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
	// Schedule is the highest number of places of a schedule.
	Schedule int
	// Affinity entries, 0 = no persistence.
	Affinity uint32
}

// FlowEntries is the max_entries of the flow map for that many connections.
func FlowEntries(connections uint32) uint32 { return 2 * connections }

// PoolCost estimates the kernel memory of a pool's tables at their limits, sorted
// by size, largest first.
func PoolCost(spec *ebpf.CollectionSpec, l Limits) ([]TableCost, error) { panic("unwritten") }

// NodeCost estimates the kernel memory of the tables that all pools share.
func NodeCost(spec *ebpf.CollectionSpec) ([]TableCost, error) { panic("unwritten") }
