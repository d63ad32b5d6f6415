package maps

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"qlbaas/bpf"
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
	RoundRobin       = Method(bpf.Lb4MethodMETHOD_ROUND_ROBIN)
	LeastConnections = Method(bpf.Lb4MethodMETHOD_LEAST_CONNECTIONS)
	SourceIP         = Method(bpf.Lb4MethodMETHOD_SOURCE_IP)
)

// VIP is the listener and the settings of a pool.
type VIP struct {
	// ID is the VIP's UUID, read back in lower case.
	ID string
	// Address and port that clients know.
	Address  netip.AddrPort
	Protocol Protocol
	// Broadcast is the address of all hosts of the VIP's subnet, which no host has as
	// its own; the zero Addr if there is none.
	Broadcast netip.Addr
	// SNAT are the source addresses toward members, the VIP's own first.
	SNAT Sources
	// Refuse answers every new connection with a RST (pool admin-down).
	Refuse bool
	// Listens leaves new connections to a socket of the namespace. Sockets says that
	// such a socket may have connections, at the listener's port and at NAT ports: they
	// are left to it, and no port that it has is taken.
	Listens, Sockets bool
	// Affinity is SOURCE_IP persistence; Write wants EnableAffinity before.
	Affinity bool
	Method   Method
	// HashSeed makes the SOURCE_IP hash differ from pool to pool.
	HashSeed uint32
	// ConnectionLimit is the highest number of established flows, or NoLimit.
	ConnectionLimit uint32
	// FlowLimit is how many flows the table holds, in connections.
	FlowLimit uint32
	// The time limits are whole seconds below 2^32: an established flow without
	// packets, a handshake, a handshake while the table is under pressure, a closed
	// flow, a closed flow without timestamps, an affinity entry (0 = for ever).
	Idle, HalfOpen, HalfOpenPressure, Closing, Rest, AffinityTimeout time.Duration
}

// Source is a place for a source address toward members. A flow knows its address by
// the place, so an address keeps it for as long as it has flows.
type Source struct {
	// Address, the zero Addr in a place that is free.
	Address netip.Addr
	// Closing: no new connection gets a port of it.
	Closing bool
}

// Sources are all places; the first is the VIP's own.
type Sources [MaxSources]Source

// SourcesOf gives the addresses the first places, in order.
func SourcesOf(addresses ...netip.Addr) Sources {
	var s Sources
	for place, address := range addresses[:min(len(addresses), MaxSources)] {
		s[place].Address = address
	}
	return s
}

// Places is how many places are in use, free ones between them included.
func (s *Sources) Places() int {
	places := 0
	for place, source := range s {
		if source.Address.IsValid() {
			places = place + 1
		}
	}
	return places
}

// Used returns the places that have an address, ascending.
func (s *Sources) Used() []uint16 {
	var used []uint16
	for place, source := range s {
		if source.Address.IsValid() {
			used = append(used, uint16(place))
		}
	}
	return used
}

// check: the first place is the VIP's, and no address has two.
func (s *Sources) check(vip netip.Addr) error {
	if s[0] != (Source{Address: vip}) {
		return invalid("source address %s of the first place is not the VIP's", s[0].Address)
	}
	known := make(map[netip.Addr]bool)
	for place, source := range s {
		switch {
		case known[source.Address]:
			return invalid("source address %s has two places", source.Address)
		case source.Address.IsValid():
			known[source.Address] = true
		case source.Closing:
			return invalid("place %d of source addresses is free and closing", place)
		}
	}
	return nil
}

// Member is a member as one generation knows it.
type Member struct {
	// Slot is the member's index in every table, 0..MaxSlots-1.
	Slot uint16
	// ID is the member's UUID, read back in lower case.
	ID string
	// Serial is never used twice within a pool, and never 0.
	Serial  uint32
	Address netip.AddrPort
	// Weight as configured, 0..MaxWeight, for readers: what counts is the schedule
	// or the effective weights.
	Weight uint16
	// Present: configured and admin-up, so that persistent clients may use it. A
	// member that only drains is not.
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

	// stale: read back, and the number of usable members that programs go by is not
	// that of Weights any more (after ZeroWeight).
	stale bool
}

// Equal reports whether both have the same effect on programs and readers; numbers
// may differ. A generation that was read after ZeroWeight equals no other.
func (g Generation) Equal(o Generation) bool {
	return !g.stale && !o.stale &&
		g.VIP == o.VIP &&
		slices.Equal(g.Members, o.Members) &&
		slices.Equal(g.Schedule, o.Schedule) &&
		slices.Equal(trim(g.Weights), trim(o.Weights))
}

// MaxSerial is the highest serial among the members, 0 without members.
func (g Generation) MaxSerial() uint32 {
	var highest uint32
	for _, m := range g.Members {
		highest = max(highest, m.Serial)
	}
	return highest
}

// Member finds the member in the slot.
func (g Generation) Member(slot uint16) (Member, bool) {
	at, found := slices.BinarySearchFunc(g.Members, slot, func(m Member, slot uint16) int {
		return cmp.Compare(m.Slot, slot)
	})
	if !found {
		return Member{}, false
	}
	return g.Members[at], true
}

// scheduleLen is what programs compare with 0 to know whether anybody is usable.
func (g *Generation) scheduleLen() uint32 {
	if g.VIP.Method != LeastConnections {
		return uint32(len(g.Schedule))
	}
	var usable uint32
	for _, weight := range g.Weights {
		if weight > 0 {
			usable++
		}
	}
	return usable
}

// trim drops trailing zeros.
func trim(weights []uint32) []uint32 {
	for len(weights) > 0 && weights[len(weights)-1] == 0 {
		weights = weights[:len(weights)-1]
	}
	return weights
}

// check finds what programs would stumble over. What depends on the family is found
// when the structs are made.
func (g *Generation) check() error {
	switch {
	case g.VIP.Method > SourceIP:
		return invalid("method %s", g.VIP.Method)
	case g.VIP.Method == LeastConnections && len(g.Schedule) > 0:
		return invalid("%s with a schedule", g.VIP.Method)
	case g.VIP.Method != LeastConnections && len(g.Weights) > 0:
		return invalid("%s with effective weights", g.VIP.Method)
	case len(g.Schedule) > MaxSchedule:
		return invalid("schedule of %d places", len(g.Schedule))
	case g.VIP.Address.Port() == 0:
		return invalid("listener port 0")
	case g.VIP.Protocol != TCP && g.VIP.Protocol != UDP:
		return invalid("protocol %s", g.VIP.Protocol)
	}
	if err := g.VIP.SNAT.check(g.VIP.Address.Addr()); err != nil {
		return err
	}
	if err := g.checkMembers(); err != nil {
		return err
	}
	for _, slot := range g.Schedule {
		if m, found := g.Member(slot); !found || !m.Present {
			return invalid("slot %d in the schedule is no present member", slot)
		}
	}
	for slot, weight := range trim(g.Weights) {
		if slot >= MaxSlots {
			return invalid("weight of slot %d", slot)
		}
		if m, found := g.Member(uint16(slot)); weight > 0 && (!found || !m.Present) {
			return invalid("slot %d has weight but is no present member", slot)
		}
	}
	return nil
}

func (g *Generation) checkMembers() error {
	for i, m := range g.Members {
		switch {
		case int(m.Slot) >= MaxSlots:
			return invalid("slot %d of member %s", m.Slot, m.ID)
		case i > 0 && m.Slot <= g.Members[i-1].Slot:
			return invalid("slot %d of member %s is not in ascending order", m.Slot, m.ID)
		case m.Serial == 0:
			return invalid("serial 0 of member %s", m.ID)
		case m.Weight > MaxWeight:
			return invalid("weight %d of member %s", m.Weight, m.ID)
		case m.Address.Port() == 0:
			return invalid("port 0 of member %s", m.ID)
		}
	}
	return nil
}
