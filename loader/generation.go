package loader

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"net/netip"
	"strings"
	"time"

	"qlbaas/maps"
	"qlbaas/maps/maglev"
	"qlbaas/maps/schedule"
)

// Time limits that nobody can set.
const (
	halfOpenLimit         = 60 * time.Second
	halfOpenPressureLimit = 5 * time.Second
	closingLimit          = 10 * time.Second
	restLimit             = 60 * time.Second
)

// affinityEntries is how many clients a pool with persistence remembers.
const affinityEntries = 10240

// makeGeneration turns a balancer, its source addresses' places, its members' slots and
// the monitors' verdicts by slot into what programs read.
func makeGeneration(
	b *Balancer, sources maps.Sources, members []*member, up []maps.Health, number uint32,
) maps.Generation {
	gen := maps.Generation{Number: number, VIP: makeVIP(b)}
	gen.VIP.SNAT = sources
	slots := map[string]*member{}
	for _, m := range members {
		gen.Members = append(gen.Members, maps.Member{
			Slot: m.slot, ID: m.id, Serial: m.serial, Address: m.address, Weight: m.weight, Present: m.present,
		})
		if m.configured {
			slots[m.id] = m
		}
	}
	var candidates []candidate
	for _, w := range b.Members {
		if m := slots[w.ID]; m != nil {
			usable := m.present && m.weight > 0 && up[m.slot].Up
			candidates = append(candidates, candidate{member: m, usable: usable})
		}
	}
	switch b.Method {
	case LeastConnections:
		gen.Weights = leastConnections(candidates)
	case SourceIP:
		gen.Schedule = sourceIP(candidates)
	default:
		gen.Schedule = roundRobin(candidates)
	}
	return gen
}

// candidate is a configured member; the balancer's list is their order.
type candidate struct {
	*member
	usable bool
}

func (c candidate) share() uint16 {
	if !c.usable {
		return 0
	}
	return c.weight
}

func roundRobin(candidates []candidate) []uint16 {
	weights := make([]uint16, len(candidates))
	for i, c := range candidates {
		weights[i] = c.share()
	}
	return toSlots(schedule.Interleave(weights), candidates)
}

func sourceIP(candidates []candidate) []uint16 {
	entries := make([]maglev.Member, len(candidates))
	for i, c := range candidates {
		entries[i] = maglev.Member{ID: uuidBytes(c.id), Weight: c.weight, Usable: c.usable}
	}
	return toSlots(maglev.Build(entries), candidates)
}

func leastConnections(candidates []candidate) []uint32 {
	var weights []uint32
	for _, c := range candidates {
		for len(weights) <= int(c.slot) {
			weights = append(weights, 0)
		}
		weights[c.slot] = uint32(c.share())
	}
	return weights
}

func toSlots(indexes []uint16, candidates []candidate) []uint16 {
	slots := make([]uint16, len(indexes))
	for i, index := range indexes {
		slots[i] = candidates[index].slot
	}
	return slots
}

func makeVIP(b *Balancer) maps.VIP {
	vip := maps.VIP{
		ID:               b.VIP.ID,
		Address:          addrPort(b),
		Protocol:         kernelProtocol(b.Protocol),
		Broadcast:        broadcastOf(b.VIP.Address),
		Refuse:           !b.AdminUp,
		Listens:          b.Sidecar == SidecarServes,
		Sockets:          b.Sidecar != NoSidecar,
		Affinity:         b.VIP.Persistence == SourceIPPersistence,
		Method:           kernelMethod(b.Method),
		HashSeed:         hashSeed(b.PoolID),
		ConnectionLimit:  maps.NoLimit,
		FlowLimit:        b.flowLimit(),
		Idle:             b.idleTimeout(),
		HalfOpen:         halfOpenLimit,
		HalfOpenPressure: halfOpenPressureLimit,
		Closing:          closingLimit,
		Rest:             restLimit,
	}
	if vip.Affinity {
		vip.AffinityTimeout = b.VIP.PersistenceTimeout
	}
	if b.VIP.ConnectionLimit >= 0 {
		vip.ConnectionLimit = uint32(min(b.VIP.ConnectionLimit, maps.NoLimit-1))
	}
	return vip
}

// broadcastOf is the address of all hosts of a subnet; IPv6 has none, nor have subnets of
// two addresses (RFC 3021).
func broadcastOf(subnet netip.Prefix) netip.Addr {
	if !subnet.Addr().Is4() || subnet.Bits() > 30 {
		return netip.Addr{}
	}
	last := subnet.Masked().Addr().As4()
	binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(last[:])|1<<(32-subnet.Bits())-1)
	return netip.AddrFrom4(last)
}

func kernelProtocol(p Protocol) maps.Protocol {
	if p == UDP {
		return maps.UDP
	}
	return maps.TCP
}

func kernelMethod(m Method) maps.Method {
	switch m {
	case LeastConnections:
		return maps.LeastConnections
	case SourceIP:
		return maps.SourceIP
	default:
		return maps.RoundRobin
	}
}

// hashSeed is the pool's own, and the same after the pool was taken away and made
// again, so that clients come back to their members.
func hashSeed(poolID string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(poolID))
	return h.Sum32()
}

// uuidBytes converts a checked UUID.
func uuidBytes(id string) (b [16]byte) {
	_, err := hex.Decode(b[:], []byte(strings.ReplaceAll(id, "-", "")))
	if err != nil {
		panic("uuidBytes: " + id) // callers have checked it
	}
	return b
}
