package maps

import (
	"fmt"
	"iter"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// family does what depends on the address length, in words that do not.
type family interface {
	// vip and members make what the inner maps take; errors are ErrInvalid.
	vip(g *Generation, half, weightBlocks uint32) (value any, err error)
	members(g *Generation, entries uint32) (values any, err error)

	readVIP(m *ebpf.Map) (storedVIP, error)
	readMembers(m *ebpf.Map) ([]Member, error)

	flows(m *ebpf.Map) iter.Seq2[FlowEntry, error]
	copyFlows(from, to *ebpf.Map) error
	settleFlows(from, to *ebpf.Map) error
	affinities(m *ebpf.Map) iter.Seq2[AffinityEntry, error]
	halfOpen(m *ebpf.Map) iter.Seq2[HalfOpenEntry, error]
	// purge deletes all handshakes of a pool.
	purge(m *ebpf.Map, pool uint32) error
}

// storedVIP is struct vip in Go words.
type storedVIP struct {
	VIP
	number, half, scheduleLen, weightBlocks uint32
}

// words is the family whose address is A.
type words[A address] struct{}

// familyOf knows the family by the flow table's key.
func familyOf(flows *ebpf.Map) (family, error) {
	switch flows.KeySize() {
	case uint32(unsafe.Sizeof(flowKey[bpf.Lb4Addr]{})):
		return words[bpf.Lb4Addr]{}, nil
	case uint32(unsafe.Sizeof(flowKey[bpf.Lb6Addr]{})):
		return words[bpf.Lb6Addr]{}, nil
	}
	return nil, invalid("flow keys of %d bytes", flows.KeySize())
}

// nodeFamilyOf knows the family by the key of the handshakes' table.
func nodeFamilyOf(handshakes *ebpf.Map) (family, error) {
	switch handshakes.KeySize() {
	case uint32(unsafe.Sizeof(halfOpenKey[bpf.Lb4Addr]{})):
		return words[bpf.Lb4Addr]{}, nil
	case uint32(unsafe.Sizeof(halfOpenKey[bpf.Lb6Addr]{})):
		return words[bpf.Lb6Addr]{}, nil
	}
	return nil, invalid("handshake keys of %d bytes", handshakes.KeySize())
}

func (words[A]) vip(g *Generation, half, weightBlocks uint32) (any, error) {
	v := vip[A]{
		Port:            toPort(g.VIP.Address.Port()),
		Proto:           uint32(g.VIP.Protocol),
		Method:          uint32(g.VIP.Method),
		Half:            half,
		ScheduleLen:     g.scheduleLen(),
		WeightBlocks:    weightBlocks,
		HashSeed:        g.VIP.HashSeed,
		ConnectionLimit: g.VIP.ConnectionLimit,
		FlowLimit:       g.VIP.FlowLimit,
		Generation:      g.Number,
	}
	if g.VIP.Refuse {
		v.Flags |= uint32(bpf.Lb4VipFlagsVIP_REFUSE)
	}
	if g.VIP.Affinity {
		v.Flags |= uint32(bpf.Lb4VipFlagsVIP_AFFINITY)
	}
	if g.VIP.Listens {
		v.Flags |= uint32(bpf.Lb4VipFlagsVIP_LISTENS)
	}
	if g.VIP.Sockets {
		v.Flags |= uint32(bpf.Lb4VipFlagsVIP_SOCKETS)
	}
	var err error
	if v.Addr, err = toAddr[A](g.VIP.Address.Addr()); err != nil {
		return nil, fmt.Errorf("vip: %w", err)
	}
	if g.VIP.Broadcast.IsValid() {
		if v.Broadcast, err = toAddr[A](g.VIP.Broadcast); err != nil {
			return nil, fmt.Errorf("broadcast address: %w", err)
		}
	}
	if err = v.setSources(&g.VIP.SNAT); err != nil {
		return nil, fmt.Errorf("source address toward members: %w", err)
	}
	if v.Id, err = toID(g.VIP.ID); err != nil {
		return nil, fmt.Errorf("vip: %w", err)
	}
	for _, limit := range v.limits(&g.VIP) {
		if *limit.sec, err = toSec(*limit.duration); err != nil {
			return nil, fmt.Errorf("%s: %w", limit.name, err)
		}
	}
	return &v, nil
}

// setSources stores the source addresses. A free place has the VIP's own, for any other
// address would be taken for one of ours; it is not open.
func (v *vip[A]) setSources(from *Sources) (err error) {
	v.Snats = uint32(from.Places())
	for place := range v.Snats {
		source := from[place]
		if v.Snat[place] = v.Addr; !source.Address.IsValid() {
			continue
		}
		if v.Snat[place], err = toAddr[A](source.Address); err != nil {
			return err
		}
		if !source.Closing {
			v.SnatOpen |= 1 << place
		}
	}
	return nil
}

func (v *vip[A]) sources() (s Sources) {
	for place := range min(v.Snats, MaxSources) {
		if place > 0 && v.Snat[place] == v.Addr {
			continue
		}
		s[place] = Source{Address: fromAddr(v.Snat[place]), Closing: v.SnatOpen>>place&1 == 0}
	}
	return s
}

// limit pairs a stored time limit with its Go side.
type limit struct {
	name     string
	sec      *uint32
	duration *time.Duration
}

func (v *vip[A]) limits(to *VIP) []limit {
	return []limit{
		{"idle timeout", &v.IdleSec, &to.Idle},
		{"half-open timeout", &v.HalfOpenSec, &to.HalfOpen},
		{"half-open timeout under pressure", &v.HalfOpenPressureSec, &to.HalfOpenPressure},
		{"closing timeout", &v.ClosingSec, &to.Closing},
		{"rest of a port", &v.RestSec, &to.Rest},
		{"affinity timeout", &v.AffinitySec, &to.AffinityTimeout},
	}
}

func (words[A]) readVIP(m *ebpf.Map) (storedVIP, error) {
	var v vip[A]
	if err := m.Lookup(uint32(0), &v); err != nil {
		return storedVIP{}, wrap(err, "read vip")
	}
	return v.stored(), nil
}

func (v *vip[A]) stored() storedVIP {
	stored := storedVIP{
		VIP: VIP{
			ID:              fromID(v.Id),
			Address:         fromAddrPort(v.Addr, v.Port),
			Protocol:        Protocol(v.Proto),
			Broadcast:       v.broadcast(),
			SNAT:            v.sources(),
			Refuse:          v.Flags&uint32(bpf.Lb4VipFlagsVIP_REFUSE) != 0,
			Affinity:        v.Flags&uint32(bpf.Lb4VipFlagsVIP_AFFINITY) != 0,
			Listens:         v.Flags&uint32(bpf.Lb4VipFlagsVIP_LISTENS) != 0,
			Sockets:         v.Flags&uint32(bpf.Lb4VipFlagsVIP_SOCKETS) != 0,
			Method:          Method(v.Method),
			HashSeed:        v.HashSeed,
			ConnectionLimit: v.ConnectionLimit,
			FlowLimit:       v.FlowLimit,
		},
		number:       v.Generation,
		half:         v.Half,
		scheduleLen:  v.ScheduleLen,
		weightBlocks: v.WeightBlocks,
	}
	for _, limit := range v.limits(&stored.VIP) {
		*limit.duration = fromSec(*limit.sec)
	}
	return stored
}

// broadcast is 0 where there is none.
func (v *vip[A]) broadcast() netip.Addr {
	if a := fromAddr(v.Broadcast); !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

func (words[A]) members(g *Generation, entries uint32) (any, error) {
	table := make([]member[A], entries)
	for i := range g.Members {
		from := &g.Members[i]
		to := &table[from.Slot]
		to.Port = toPort(from.Address.Port())
		to.Weight = from.Weight
		to.Serial = from.Serial
		if from.Present {
			to.Flags |= uint32(bpf.Lb4MemberFlagsMEMBER_PRESENT)
		}
		var err error
		if to.Addr, err = toAddr[A](from.Address.Addr()); err != nil {
			return nil, fmt.Errorf("member %s: %w", from.ID, err)
		}
		if to.Id, err = toID(from.ID); err != nil {
			return nil, fmt.Errorf("member: %w", err)
		}
	}
	return table, nil
}

func (words[A]) readMembers(m *ebpf.Map) ([]Member, error) {
	table := make([]member[A], m.MaxEntries())
	if err := readArray(m, table); err != nil {
		return nil, wrap(err, "read members")
	}
	var members []Member
	for slot, from := range table {
		if from.Serial == 0 {
			continue // nobody's slot
		}
		members = append(members, Member{
			Slot:    uint16(slot),
			ID:      fromID(from.Id),
			Serial:  from.Serial,
			Address: fromAddrPort(from.Addr, from.Port),
			Weight:  from.Weight,
			Present: from.Flags&uint32(bpf.Lb4MemberFlagsMEMBER_PRESENT) != 0,
		})
	}
	return members, nil
}

func (words[A]) flows(m *ebpf.Map) iter.Seq2[FlowEntry, error] {
	return func(yield func(FlowEntry, error) bool) {
		for entry, err := range batches[flowKey[A], flowEntry[A]](m) {
			if err != nil {
				yield(FlowEntry{}, wrap(err, "read flows"))
				return
			}
			if !yield(FlowEntry{fromFlowKey(&entry.key), fromFlow(&entry.value.Flow)}, nil) {
				return
			}
		}
	}
}

func (words[A]) halfOpen(m *ebpf.Map) iter.Seq2[HalfOpenEntry, error] {
	return func(yield func(HalfOpenEntry, error) bool) {
		for entry, err := range batches[halfOpenKey[A], halfOpen[A]](m) {
			if err != nil {
				yield(HalfOpenEntry{}, wrap(err, "read handshakes"))
				return
			}
			found := HalfOpenEntry{
				FlowEntry: FlowEntry{fromFlowKey(&entry.key.Tuple), fromFlow(&entry.value.Flow)},
				Pool:      entry.key.Pool,
				Place:     entry.value.Ring,
			}
			if !yield(found, nil) {
				return
			}
		}
	}
}

func (words[A]) purge(m *ebpf.Map, pool uint32) error {
	for entry, err := range batches[halfOpenKey[A], halfOpen[A]](m) {
		if err != nil {
			return wrap(err, "read handshakes")
		}
		if entry.key.Pool != pool {
			continue
		}
		if err := remove(m, &entry.key); err != nil {
			return wrap(err, "delete handshake")
		}
	}
	return nil
}

func (words[A]) affinities(m *ebpf.Map) iter.Seq2[AffinityEntry, error] {
	return func(yield func(AffinityEntry, error) bool) {
		for entry, err := range batches[A, bpf.Lb4Affinity](m) {
			if err != nil {
				yield(AffinityEntry{}, wrap(err, "read affinities"))
				return
			}
			found := AffinityEntry{
				Client: fromAddr(entry.key),
				Slot:   uint16(entry.value.Slot),
				Serial: entry.value.Serial,
				Seen:   Tick(entry.value.Seen),
			}
			if !yield(found, nil) {
				return
			}
		}
	}
}
