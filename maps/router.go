package maps

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// RouterLayout is the version of all structs in a router's pinned maps, as Layout is for
// a pool's.
const RouterLayout = 1

// RouterMaps are the maps of one router, by the names they have in the objects.
// ebpf.CollectionSpec.LoadAndAssign fills it.
type RouterMaps struct {
	Drops          *ebpf.Map `ebpf:"drops"`
	FixedIPs       *ebpf.Map `ebpf:"fixed_ips"`
	FloatingCounts *ebpf.Map `ebpf:"floating_counts"`
	FloatingIPs    *ebpf.Map `ebpf:"floating_ips"`
	Legs           *ebpf.Map `ebpf:"legs"`
	Networks       *ebpf.Map `ebpf:"networks"`
	Verdicts       *ebpf.Map `ebpf:"verdicts"`
}

// Names returns the maps by name, as MapReplacements and pins want them. The maps
// stay the owner's; absent ones are left out.
func (m *RouterMaps) Names() map[string]*ebpf.Map { return byName(m) }

// Set assigns the map of that name; an unknown name is ErrNotFound.
func (m *RouterMaps) Set(name string, to *ebpf.Map) error { return setName(m, name, to) }

// Close closes all maps that are set.
func (m *RouterMaps) Close() error { return closeAll(m) }

// Complete is ErrInvalid if a map is absent.
func (m *RouterMaps) Complete() error { return complete(m) }

// RouterMapNames are the names of a router's maps, sorted.
func RouterMapNames() []string { return tags(&RouterMaps{}) }

// RouterLeg is one device of a router as its programs know it.
type RouterLeg struct {
	// Index is the device's, External that of the external leg: this one's own index if
	// it is the external leg, 0 if the router has none.
	Index, External int
	MTU             int
	Address         netip.Addr
	MAC             net.HardwareAddr
}

// RouterNetwork is a network that a router has a leg in, or behind such a one.
type RouterNetwork struct {
	Prefix netip.Prefix
	// Leg is the index of the device that leads there.
	Leg int
}

// FloatingIP is one floating IP as the programs know it.
type FloatingIP struct {
	ID             string
	Address, Fixed netip.Addr
	// Leg is the index of the device that leads to the fixed address.
	Leg int
}

// FloatingCounters is what one floating IP has counted, over all CPUs.
type FloatingCounters struct {
	PacketsIn, BytesIn, PacketsOut, BytesOut uint64
}

// RouterTables is all that a router's programs are told.
type RouterTables struct {
	Legs     []RouterLeg
	Networks []RouterNetwork
	Floating []FloatingIP
}

// entries are the tables as they stand in the maps.
type entries struct {
	legs     map[uint32]bpf.Fip4Leg
	networks map[bpf.Fip4Network]uint32
	floating map[bpf.Fip4Addr]bpf.Fip4Floating
	fixed    map[bpf.Fip4Addr]bpf.Fip4Fixed
}

func (t *RouterTables) encode() (e entries, err error) {
	e = entries{
		map[uint32]bpf.Fip4Leg{},
		map[bpf.Fip4Network]uint32{},
		map[bpf.Fip4Addr]bpf.Fip4Floating{},
		map[bpf.Fip4Addr]bpf.Fip4Fixed{},
	}
	for _, l := range t.Legs {
		address, err := toRouterAddr(l.Address)
		if err != nil {
			return e, err
		}
		if len(l.MAC) != 6 {
			return e, invalid("MAC %s", l.MAC)
		}
		role := bpf.Fip4LegRoleLEG_INSIDE
		if l.Index == l.External {
			role = bpf.Fip4LegRoleLEG_EXTERNAL
		}
		e.legs[uint32(l.Index)] = bpf.Fip4Leg{
			Role: uint32(role), External: uint32(l.External), Mtu: uint32(l.MTU), Addr: address, Mac: [6]uint8(l.MAC),
		}
	}
	for _, n := range t.Networks {
		address, err := toRouterAddr(n.Prefix.Masked().Addr())
		if err != nil {
			return e, err
		}
		e.networks[bpf.Fip4Network{Bits: uint32(n.Prefix.Bits()), Addr: address}] = uint32(n.Leg)
	}
	for _, f := range t.Floating {
		if err := e.add(f); err != nil {
			return e, err
		}
	}
	return e, nil
}

func (e *entries) add(f FloatingIP) error {
	id, err := toID(f.ID)
	if err != nil {
		return err
	}
	address, err := toRouterAddr(f.Address)
	if err != nil {
		return err
	}
	fixed, err := toRouterAddr(f.Fixed)
	if err != nil {
		return err
	}
	if _, there := e.floating[address]; there {
		return invalid("floating address %s twice", f.Address)
	}
	if _, there := e.fixed[fixed]; there {
		return invalid("fixed address %s twice", f.Fixed)
	}
	e.floating[address] = bpf.Fip4Floating{Fixed: fixed, Leg: uint32(f.Leg), Id: id}
	e.fixed[fixed] = bpf.Fip4Fixed{Floating: address, Leg: uint32(f.Leg)}
	return nil
}

// Holds tells whether the maps say exactly what t says.
func (m *RouterMaps) Holds(t RouterTables) (bool, error) {
	wanted, err := t.encode()
	if err != nil {
		return false, err
	}
	for _, same := range []func() (bool, error){
		func() (bool, error) { return sameEntries(m.Legs, wanted.legs) },
		func() (bool, error) { return sameEntries(m.Networks, wanted.networks) },
		func() (bool, error) { return sameEntries(m.FloatingIPs, wanted.floating) },
		func() (bool, error) { return sameEntries(m.FixedIPs, wanted.fixed) },
		func() (bool, error) { return m.counted(wanted) },
	} {
		if ok, err := same(); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// Write makes the maps say what t says. A floating IP that comes, or that another id has
// now, starts to count at nothing; one that moves to another host goes on. Of one that
// moves programs see the new host or the old one, never none.
func (m *RouterMaps) Write(t RouterTables) error {
	wanted, err := t.encode()
	if err != nil {
		return err
	}
	if err := m.writeCounts(wanted); err != nil {
		return err
	}
	// Whom a packet from inside belongs to before those from outside are let in, and what
	// goes, last.
	for _, write := range []func() error{
		func() error { return putEntries(m.Networks, wanted.networks) },
		func() error { return putEntries(m.FixedIPs, wanted.fixed) },
		func() error { return putEntries(m.FloatingIPs, wanted.floating) },
		func() error { return putEntries(m.Legs, wanted.legs) },
		func() error { return dropEntries(m.FloatingIPs, wanted.floating) },
		func() error { return dropEntries(m.FixedIPs, wanted.fixed) },
		func() error { return dropEntries(m.Networks, wanted.networks) },
		func() error { return dropEntries(m.Legs, wanted.legs) },
		func() error { return dropCounts(m.FloatingCounts, wanted.floating) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// writeCounts makes room to count for each floating IP, and clears the counters of one
// that has another id now.
func (m *RouterMaps) writeCounts(wanted entries) error {
	for address, f := range wanted.floating {
		var found bpf.Fip4Floating
		err := m.FloatingIPs.Lookup(address, &found)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return wrap(err, "look for floating IP")
		}
		var counts []bpf.Fip4FloatingCounters
		missing := m.FloatingCounts.Lookup(address, &counts)
		if err == nil && found.Id == f.Id && missing == nil {
			continue
		}
		zero := make([]bpf.Fip4FloatingCounters, ebpf.MustPossibleCPU())
		if err := m.FloatingCounts.Put(address, zero); err != nil {
			return wrap(err, "make counters of floating IP")
		}
	}
	return nil
}

// counted tells whether every floating IP, and nobody else, has counters.
func (m *RouterMaps) counted(wanted entries) (bool, error) {
	var address bpf.Fip4Addr
	var counts []bpf.Fip4FloatingCounters
	n := 0
	all := m.FloatingCounts.Iterate()
	for all.Next(&address, &counts) {
		if _, ok := wanted.floating[address]; !ok {
			return false, nil
		}
		n++
	}
	return n == len(wanted.floating), wrap(all.Err(), "read counters of floating IPs")
}

// Floating returns the floating IPs that programs translate and what they have counted,
// in no order.
func (m *RouterMaps) Floating() (map[string]FloatingCounters, error) {
	sums := map[string]FloatingCounters{}
	var address bpf.Fip4Addr
	var f bpf.Fip4Floating
	all := m.FloatingIPs.Iterate()
	for all.Next(&address, &f) {
		var perCPU []bpf.Fip4FloatingCounters
		if err := m.FloatingCounts.Lookup(address, &perCPU); err != nil {
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				continue // on its way
			}
			return nil, wrap(err, "read counters of floating IP")
		}
		var sum FloatingCounters
		for _, c := range perCPU {
			sum.PacketsIn += c.PacketsIn
			sum.BytesIn += c.BytesIn
			sum.PacketsOut += c.PacketsOut
			sum.BytesOut += c.BytesOut
		}
		sums[fromID(f.Id)] = sum
	}
	return sums, wrap(all.Err(), "read floating IPs")
}

// ReadDrops returns packets by drop reason; every reason is there, 0 too.
func (m *RouterMaps) ReadDrops() (map[string]uint64, error) {
	drops, err := readPackets(m.Drops, func(i uint32) string { return DropReason(i).String() })
	delete(drops, dropNames[bpf.Lb4DropReasonDROP_NONE])
	return drops, wrap(err, "read drops")
}

// ReadVerdicts returns the packets that did not end in a program, by what became of them.
func (m *RouterMaps) ReadVerdicts() (map[string]uint64, error) {
	verdicts, err := readPackets(m.Verdicts, func(i uint32) string { return Verdict(i).String() })
	return verdicts, wrap(err, "read verdicts")
}

func sameEntries[K, V comparable](m *ebpf.Map, wanted map[K]V) (bool, error) {
	found, err := readEntries[K, V](m)
	if err != nil || len(found) != len(wanted) {
		return false, err
	}
	for key, value := range wanted {
		if other, ok := found[key]; !ok || other != value {
			return false, nil
		}
	}
	return true, nil
}

func readEntries[K, V comparable](m *ebpf.Map) (map[K]V, error) {
	found := map[K]V{}
	var key K
	var value V
	all := m.Iterate()
	for all.Next(&key, &value) {
		found[key] = value
	}
	return found, wrap(all.Err(), "read %s", m)
}

func putEntries[K, V comparable](m *ebpf.Map, wanted map[K]V) error {
	for key, value := range wanted {
		if err := m.Put(key, value); err != nil {
			return wrap(err, "write %s", m)
		}
	}
	return nil
}

// dropEntries deletes what is not wanted.
func dropEntries[K, V comparable](m *ebpf.Map, wanted map[K]V) error {
	found, err := readEntries[K, V](m)
	if err != nil {
		return err
	}
	for key := range found {
		if _, ok := wanted[key]; ok {
			continue
		}
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return wrap(err, "clean %s", m)
		}
	}
	return nil
}

func dropCounts(m *ebpf.Map, wanted map[bpf.Fip4Addr]bpf.Fip4Floating) error {
	var address bpf.Fip4Addr
	var counts []bpf.Fip4FloatingCounters
	var extra []bpf.Fip4Addr
	all := m.Iterate()
	for all.Next(&address, &counts) {
		if _, ok := wanted[address]; !ok {
			extra = append(extra, address)
		}
	}
	if err := all.Err(); err != nil {
		return wrap(err, "read counters of floating IPs")
	}
	for _, address := range extra {
		if err := m.Delete(address); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return wrap(err, "remove counters of floating IP")
		}
	}
	return nil
}

// toRouterAddr stores an address in network order, as toAddr does.
func toRouterAddr(a netip.Addr) (bpf.Fip4Addr, error) {
	if !a.Is4() {
		return bpf.Fip4Addr{}, invalid("address %s is not IPv4", a)
	}
	b := a.As4()
	return bpf.Fip4Addr{Word: [1]uint32{binary.NativeEndian.Uint32(b[:])}}, nil
}
