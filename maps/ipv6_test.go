package maps

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

func loadSpec6(t testing.TB) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.LoadLb6()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func newPool6(t testing.TB) *Pool {
	t.Helper()
	spec := loadSpec6(t)
	var m PoolMaps
	assign(t, spec, &m)
	p, err := NewPool(spec, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// example6 is example with the addresses of the other family.
func example6(number uint32, slots ...uint16) Generation {
	g := example(number, slots...)
	g.VIP.Address = netip.MustParseAddrPort("[2001:db8:64::11]:80")
	g.VIP.SNAT = SourcesOf(g.VIP.Address.Addr())
	for i := range g.Members {
		b := netip.MustParseAddr("2001:db8:64::").As16()
		binary.BigEndian.PutUint16(b[14:], g.Members[i].Slot+0x100)
		g.Members[i].Address = netip.AddrPortFrom(netip.AddrFrom16(b), 80)
	}
	return g
}

func addr6(t testing.TB, s string) bpf.Lb6Addr {
	t.Helper()
	a, err := toAddr[bpf.Lb6Addr](netip.MustParseAddr(s))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What has no address is read and written by its IPv4 name.
func TestSharedLayout(t *testing.T) {
	for _, pair := range [][2]any{
		{bpf.Lb4Affinity{}, bpf.Lb6Affinity{}},
		{bpf.Lb4Conns{}, bpf.Lb6Conns{}},
		{bpf.Lb4HalfOpenNode{}, bpf.Lb6HalfOpenNode{}},
		{bpf.Lb4HalfOpenUse{}, bpf.Lb6HalfOpenUse{}},
		{bpf.Lb4Expiry{}, bpf.Lb6Expiry{}},
		{bpf.Lb4Health{}, bpf.Lb6Health{}},
		{bpf.Lb4MemberCounters{}, bpf.Lb6MemberCounters{}},
		{bpf.Lb4MemberState{}, bpf.Lb6MemberState{}},
		{bpf.Lb4PoolState{}, bpf.Lb6PoolState{}},
		{bpf.Lb4Retired{}, bpf.Lb6Retired{}},
		{bpf.Lb4ScheduleBlock{}, bpf.Lb6ScheduleBlock{}},
		{bpf.Lb4Sweep{}, bpf.Lb6Sweep{}},
		{bpf.Lb4WeightBlock{}, bpf.Lb6WeightBlock{}},
	} {
		a, b := reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1])
		sameLayout(t, b.Name(), a, b)
	}
}

// Both objects have the same maps, and those of the other family differ in size only.
func TestFamiliesHaveTheSameMaps(t *testing.T) {
	four, six := loadSpec(t), loadSpec6(t)
	for _, name := range append(PoolMapNames(), NodeMapNames()...) {
		a, b := four.Maps[name], six.Maps[name]
		if b == nil || a.Type != b.Type || a.Flags != b.Flags || a.MaxEntries != b.MaxEntries {
			t.Errorf("%s: %v, for IPv6 %v", name, a, b)
		}
	}
	if got, want := six.Maps["flows"].KeySize, uint32(40); got != want {
		t.Errorf("flow keys of %d bytes, want %d", got, want)
	}
}

func TestFamiliesAreToldApart(t *testing.T) {
	for _, a := range []string{"10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0"} {
		if _, err := toAddr[bpf.Lb6Addr](netip.MustParseAddr(a)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s as IPv6: %v, want ErrInvalid", a, err)
		}
	}
	if _, err := toAddr[bpf.Lb6Addr](netip.Addr{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no address as IPv6: %v, want ErrInvalid", err)
	}
	var m PoolMaps
	assign(t, loadSpec6(t), &m)
	defer m.Close()
	if _, err := NewPool(loadSpec(t), m); !errors.Is(err, ErrInvalid) {
		t.Errorf("IPv6 maps viewed through the IPv4 object: %v, want ErrInvalid", err)
	}
	p := newPool6(t)
	addSlots(t, p, 0)
	if _, err := p.Write(example(1, 0)); !errors.Is(err, ErrInvalid) {
		t.Errorf("IPv4 generation in IPv6 maps: %v, want ErrInvalid", err)
	}
	g := example6(1, 0)
	g.Members[0].Address = netip.MustParseAddrPort("10.0.0.1:80")
	if _, err := p.Write(g); !errors.Is(err, ErrInvalid) {
		t.Errorf("IPv4 member of an IPv6 pool: %v, want ErrInvalid", err)
	}
}

func TestGeneration6(t *testing.T) {
	p := newPool6(t)
	addSlots(t, p, 0, 1, 40)
	want := example6(7, 0, 1, 40)
	want.VIP.Protocol = UDP
	write(t, p, want)
	if got := generation(t, p); !got.Equal(want) || got.Number != 7 {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	again, _ := restart6(t, p)
	if got := generation(t, again); !got.Equal(want) {
		t.Errorf("after a restart %+v\nwant %+v", got, want)
	}
}

// restart6 is restart for an IPv6 pool without pins.
func restart6(t testing.TB, p *Pool) (*Pool, Adoption) {
	t.Helper()
	var clones PoolMaps
	for name, m := range p.own.Names() {
		clone, err := m.Clone()
		if err == nil {
			err = clones.Set(name, clone)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again, err := NewPool(loadSpec6(t), clones)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	found, err := again.Adopt(nil)
	if err != nil {
		t.Fatal(err)
	}
	return again, found
}

func TestFlows6(t *testing.T) {
	p := newPool6(t)
	key := bpf.Lb6FlowKey{
		Saddr: addr6(t, "2001:db8:10::4"), Daddr: addr6(t, "2001:db8:64::11"),
		Sport: toPort(40000), Dport: toPort(53), Proto: 17,
	}
	value := bpf.Lb6Flow{
		Saddr: addr6(t, "2001:db8:64::11"), Daddr: addr6(t, "2001:db8:64::9"),
		Sport: toPort(1024), Dport: toPort(5353), Slot: 3, Seen: 7, Started: 11, Serial: 12,
	}
	if err := p.own.Flows.Put(&key, &bpf.Lb6FlowEntry{Flow: value}); err != nil {
		t.Fatal(err)
	}
	want := FlowEntry{
		Key: FlowKey{
			netip.MustParseAddrPort("[2001:db8:10::4]:40000"), netip.MustParseAddrPort("[2001:db8:64::11]:53"), UDP,
		},
		Flow: Flow{
			Source:      netip.MustParseAddrPort("[2001:db8:64::11]:1024"),
			Destination: netip.MustParseAddrPort("[2001:db8:64::9]:5353"),
			Slot:        3, Serial: 12, Seen: 7, Started: 11,
		},
	}
	n := 0
	for got, err := range p.Flows() {
		if n++; err != nil || got != want {
			t.Errorf("%+v, %v\nwant %+v", got, err, want)
		}
	}
	if n != 1 {
		t.Errorf("%d flows, want 1", n)
	}
}

func TestAffinity6(t *testing.T) {
	p := newPool6(t)
	table, _, err := p.EnableAffinity(100)
	if err != nil {
		t.Fatal(err)
	}
	client := addr6(t, "2001:db8:10::4")
	if err := table.Map.Put(&client, &bpf.Lb6Affinity{Slot: 3, Serial: 4, Seen: 5}); err != nil {
		t.Fatal(err)
	}
	want := []AffinityEntry{{Client: netip.MustParseAddr("2001:db8:10::4"), Slot: 3, Serial: 4, Seen: 5}}
	var got []AffinityEntry
	for entry, err := range p.Affinities() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestNode6(t *testing.T) {
	var m NodeMaps
	assign(t, loadSpec6(t), &m)
	n, err := NewNode(m)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.AddPool(5); err != nil {
		t.Fatal(err)
	}
	key := bpf.Lb6HalfOpenKey{Pool: 5, Tuple: bpf.Lb6FlowKey{
		Saddr: addr6(t, "2001:db8:10::4"), Daddr: addr6(t, "2001:db8:64::11"), Dport: toPort(80), Proto: 6,
	}}
	value := bpf.Lb6HalfOpen{Ring: 9, Flow: bpf.Lb6Flow{Daddr: addr6(t, "2001:db8:64::9")}}
	if err := n.own.HalfOpen.Put(&key, &value); err != nil {
		t.Fatal(err)
	}
	for got, err := range n.HalfOpen(5) {
		if err != nil || got.Place != 9 || got.Key.Destination.String() != "[2001:db8:64::11]:80" ||
			got.Destination.Addr().String() != "2001:db8:64::9" {
			t.Errorf("handshake %+v, %v", got, err)
		}
	}
	if got := handshakes(t, n, 5); got != 1 {
		t.Errorf("%d handshakes, want 1", got)
	}
	if err := n.RemovePool(5); err != nil {
		t.Fatal(err)
	}
	if got := handshakes(t, n, 5); got != 0 {
		t.Errorf("%d handshakes after the pool is gone", got)
	}
}

// What the estimates say of IPv6 tables, compared with the kernel's own figures.
func TestCost6(t *testing.T) {
	spec := loadSpec6(t)
	p := newPool6(t)
	empty, entries := memlock(t, p.own.Flows), p.own.Flows.MaxEntries()
	keys, values := make([]bpf.Lb6FlowKey, entries), make([]bpf.Lb6FlowEntry, entries)
	for i := range keys {
		keys[i].Saddr.Word[3], keys[i].Proto = uint32(i), 6
	}
	if _, err := p.own.Flows.BatchUpdate(keys, values, nil); err != nil {
		t.Fatal(err)
	}
	costs, err := PoolCost(spec, Limits{Flows: 16384, Slots: 2, Schedule: 2})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(costs, func(c TableCost) bool { return c.Name == "flows" })
	compare(t, costs[at:at+1], map[string]uint64{"flows": grown(t, p.own.Flows, empty, entries)})

	var m NodeMaps
	assign(t, spec, &m)
	defer m.Close()
	costs, err = NodeCost(spec)
	if err != nil {
		t.Fatal(err)
	}
	costs = slices.DeleteFunc(costs, func(c TableCost) bool { return c.Name == "half_open_use" }) // on demand
	compare(t, costs, map[string]uint64{
		"half_open": taken(t, m.HalfOpen), "half_open_ring": taken(t, m.HalfOpenRing), "half_open_node": taken(t, m.HalfOpenNode),
	})
}

func FuzzAddressRoundTrip6(f *testing.F) {
	f.Add([]byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), uint16(80))
	f.Fuzz(func(t *testing.T, raw []byte, port uint16) {
		var b [16]byte
		copy(b[:], raw)
		want := netip.AddrPortFrom(netip.AddrFrom16(b), port)
		addr, err := toAddr[bpf.Lb6Addr](want.Addr())
		if mapped := want.Addr().Is4In6(); (err != nil) != mapped {
			t.Fatalf("%s: %v", want, err)
		} else if mapped {
			return
		}
		if wire, err := binary.Append(nil, binary.NativeEndian, &addr); err != nil || !slices.Equal(wire, b[:]) {
			t.Errorf("%s is % x in the map, %v", want, wire, err)
		}
		if got := fromAddrPort(addr, toPort(port)); got != want {
			t.Errorf("%s comes back as %s", want, got)
		}
	})
}
