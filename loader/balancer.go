package loader

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"qlbaas/loader/hook"
	"qlbaas/maps"
)

// Protocol is the transport that a balancer forwards. HTTP and HTTPS pools are
// TCP here: the kernel balances connections and reads no payload.
type Protocol uint8

// The transports that a balancer can forward.
const (
	TCP Protocol = iota
	UDP
)

// Method chooses the member of a new client.
type Method uint8

// The balancing methods; see package bpf for how each one chooses.
const (
	RoundRobin Method = iota
	LeastConnections
	SourceIP
)

// Persistence decides for the following connections of a client that the
// method has already given a member.
type Persistence uint8

// The kinds of persistence that the kernel keeps.
const (
	NoPersistence Persistence = iota
	SourceIPPersistence
)

// Sidecar says what a process of the pool's namespace does with its connections.
type Sidecar uint8

// What a sidecar can be doing.
const (
	// NoSidecar: the kernel balances.
	NoSidecar Sidecar = iota
	// SidecarServes: new connections to the listener are for a socket of the namespace,
	// and answers to the namespace's own connections reach them. Connections that the
	// kernel has balanced before go on.
	SidecarServes
	// SidecarLeaves: the kernel balances again. Connections that sockets of the namespace
	// still have go on, and their ports are not taken.
	SidecarLeaves
)

func (s Sidecar) String() string {
	switch s {
	case NoSidecar:
		return "none"
	case SidecarServes:
		return "serves"
	case SidecarLeaves:
		return "leaves"
	}
	return fmt.Sprintf("sidecar %d", uint8(s))
}

// Balancer is what one pool shall look like on this node, whole. Apply makes it
// so; fields that are absent from one call are absent from the balancer, never
// remembered from an earlier call.
type Balancer struct {
	// PoolID is the pool's UUID. It names the namespace and the pins.
	PoolID string
	// AdminUp false answers every new connection with a RST and drains the
	// established ones; the VIP stays on the wire.
	AdminUp  bool
	Protocol Protocol
	Method   Method
	// Sidecar is not for UDP.
	Sidecar Sidecar
	VIP     VIP
	// SNAT are further source addresses toward members, at most MaxSNAT, beside the
	// VIP's own: each is worth another 64,000 connections with every member. They are
	// of the VIP's subnet, and nobody else has them.
	SNAT []netip.Addr
	// Members holds at most MaxMembers entries, in the order in which ROUND_ROBIN
	// visits them. Two members may not share an address and port.
	Members []Member
	// DrainTimeout bounds how long established flows of a removed or admin-down
	// member live; 0 means no bound.
	DrainTimeout time.Duration
}

// MaxMembers is how many members one pool can have.
const MaxMembers = 1024

// MaxSNAT is how many source addresses toward members one pool can have beside the VIP.
const MaxSNAT = maps.MaxSources - 1

// VIP is the address and port that clients know, and how it is put on the wire.
type VIP struct {
	// ID is the VIP's UUID, for logs and the written configuration.
	ID string
	// PortID is the UUID of the network port; its first 11 characters name the
	// devices ns-… (inside) and tap… (outside).
	PortID string
	// MAC is the inside device's hardware address.
	MAC net.HardwareAddr
	// AdminUp false silences the VIP: no ARP, no answer. State is kept.
	AdminUp bool
	// Address with the subnet's prefix length, as the inside device carries it.
	Address netip.Prefix
	// Gateway is the next hop for everything off the subnet; the zero Addr means none.
	Gateway netip.Addr
	// Port is the listener port, 1..65535, host order.
	Port uint16
	// Bridge is what the outside device joins, in the network namespace of the daemon:
	// a bridge or, for the interface driver macvlan, the LAN device.
	Bridge string
	// VLAN of the bridge, 1..4094; 0 means untagged.
	VLAN uint16
	// ConnectionLimit is the highest number of established flows; negative means
	// no limit, 0 accepts nothing.
	ConnectionLimit int64
	Persistence     Persistence
	// PersistenceTimeout ends an affinity entry that long after its last use;
	// 0 means never.
	PersistenceTimeout time.Duration
	// IdleTimeout ends an established flow that long after its last packet.
	// Zero means DefaultIdleTimeout (or DefaultUDPTimeout).
	IdleTimeout time.Duration
	// FlowLimit is how many flows the pool's table holds. Zero means
	// DefaultFlowLimit.
	FlowLimit uint32
}

// Defaults of the fields that may be left zero, and of the fixed time limits.
const (
	DefaultIdleTimeout = 7440 * time.Second
	DefaultUDPTimeout  = 120 * time.Second
	DefaultFlowLimit   = 16384
)

// Member is one endpoint behind the VIP.
type Member struct {
	// ID is the member's UUID; counters and liveness follow it, whatever its place
	// in the list.
	ID      string
	Address netip.AddrPort
	// Weight is 0..256; 0 gives the member no new clients, persistent ones still reach it.
	Weight uint16
	// AdminUp false takes the member out as if it were removed: no new connections,
	// established flows drain.
	AdminUp bool
}

// Counters are monotonic over reload, restart and upgrade, but for
// ActiveConnections, which is a level.
type Counters struct {
	// BytesIn and PacketsIn go from client to member, BytesOut and PacketsOut
	// back; bytes are IP lengths of every segment, packets are segments.
	BytesIn, BytesOut, PacketsIn, PacketsOut uint64
	// TotalConnections counts completed handshakes (UDP: new flows).
	TotalConnections uint64
	// ActiveConnections counts established flows that are not yet closed.
	ActiveConnections uint64
}

// MemberStats is one member's share of a pool's counters.
type MemberStats struct {
	Counters
	ID string
	// Up is the liveness that the data plane uses now.
	Up bool
	// PortsUsed is the number of NAT source ports taken toward this member, of PortsTotal;
	// those of all source addresses.
	PortsUsed, PortsTotal uint32
}

// Stats is what the data plane counted for one pool.
type Stats struct {
	// Counters holds the pool's totals; they keep the share of removed members.
	Counters
	Members []MemberStats
	// Drops maps a drop reason's name, as in package maps, to packets.
	Drops map[string]uint64
	// Verdicts counts the packets that did not end here, by kind: forwarded,
	// passed, answered.
	Verdicts map[string]uint64
	// Events counts what is worth a count but decides nothing, by name, as in package maps.
	Events map[string]uint64
	// Tables holds the use of every table that can fill up.
	Tables []TableUse
}

// TableUse says how full one map is.
type TableUse struct {
	Name       string
	Used, Size uint64
}

// PoolStatus is what an operator wants to know of one deployed pool.
type PoolStatus struct {
	PoolID string
	// Namespace and Device as `ip netns` and `ip link` show them.
	Namespace, Device string
	// Generation counts applied configurations; it grows by one per change.
	Generation uint64
	// Tag is the kernel's program tag (hex), Hook the attached hook: tcx, clsact or xdp.
	Tag, Hook string
	// FlowsUsed of FlowsLimit entries of the flow table, in connections.
	FlowsUsed, FlowsLimit   uint64
	MembersUp, MembersTotal int
	// MemoryBytes is what the pool's maps take of the node's budget.
	MemoryBytes uint64
	// LastError is empty when the pool is as wanted.
	LastError string
}

// BudgetStatus is the node's memory budget for maps, in bytes.
type BudgetStatus struct {
	Used, Limit uint64
}

// Errors that callers can tell apart with errors.Is.
var (
	// ErrNotDeployed: the pool has nothing on this node.
	ErrNotDeployed = errors.New("not deployed")
	// ErrOverBudget: the pool's tables exceed what is left of the memory budget;
	// nothing was made. The error's text names the tables and their sizes.
	ErrOverBudget = errors.New("over the memory budget")
	// ErrInvalid: the wanted balancer contradicts itself; the text names the field.
	ErrInvalid = errors.New("invalid balancer")
	// ErrLocked: another daemon holds the run directory or the bpffs.
	ErrLocked = errors.New("locked by another daemon")
	// ErrUnsupported: the kernel lacks what is needed; the text names it and the
	// minimum version.
	ErrUnsupported = hook.ErrUnsupported
	// ErrLayout: there are pins of another version, whose maps this one cannot read.
	ErrLayout = errors.New("pins of another layout")
)
