package bpf_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
	"qlbaas/maps"
)

// hook is how a balancer is attached: tc alone, or with a fast lane in front of it, XDP or
// the short cut at the outside device.
type hook string

const (
	tcHook  hook = "tc"
	xdpHook hook = "xdp"
	tapHook hook = "tap"
)

// world is one pool: its maps, its programs, and the test that uses it now.
type world struct {
	testing.TB
	hook            hook
	tc, fast, sweep *ebpf.Program // fast is the fast lane
	pool            *maps.Pool
	node            *maps.Node
	number          uint32
	gen             maps.Generation // as written last
	orphans         int             // ports that the test has made nobody's
	calm            uint32
	sources         int
	ipv6            bool
}

// options of a world; the zero value is a pool of three members, alone on its node.
type options struct {
	flowLimit uint32     // 0 = 16384
	slots     int        // members that there is room for; 0 = 3
	node      *maps.Node // shared with another world
	number    uint32     // the pool's number on the node
	ipv6      bool       // all addresses are what six makes of them
	wholeRing bool       // room for as many handshakes as the ring has; else a quarter
	sources   int        // source addresses toward members; 0 = 1, the VIP's own
	calm      uint32     // handshakes in flight without cookies; 0 = as many as there may be
}

// onHooks runs the test once on each hook, in a world of its own.
func onHooks(t *testing.T, o options, test func(w *world)) {
	for _, h := range []hook{tcHook, xdpHook, tapHook} {
		t.Run(string(h), func(t *testing.T) { test(newWorld(t, h, o)) })
	}
}

// onFamilies is onHooks, and IPv6 beside it: on XDP, which has tc behind it.
func onFamilies(t *testing.T, o options, test func(w *world)) {
	onHooks(t, o, test)
	o.ipv6 = true
	t.Run("IPv6", func(t *testing.T) { test(newWorld(t, xdpHook, o)) })
}

// run is a subtest on a pool without any flows or counts, and with its first
// configuration.
func (w *world) run(name string, test func(w *world)) {
	t, ok := w.TB.(*testing.T)
	if !ok {
		w.Fatal("a subtest outside of a test")
	}
	t.Run(name, func(t *testing.T) {
		own := *w
		own.TB = t
		own.reset()
		own.configure(func(g *maps.Generation) { *g = own.first(3, own.gen.VIP.FlowLimit) })
		test(&own)
		own.checkInvariants()
	})
}

type tcObjects struct {
	maps.PoolMaps
	TC    *ebpf.Program `ebpf:"tc_lb"`
	Sweep *ebpf.Program `ebpf:"sweep_ports"`
}

func newWorld(t testing.TB, h hook, o options) *world {
	t.Helper()
	if o.flowLimit == 0 {
		o.flowLimit = 16384
	}
	if o.slots == 0 {
		o.slots = 3
	}
	o.sources = max(o.sources, 1)
	if o.calm == 0 {
		o.calm = math.MaxUint32
	}
	w := &world{TB: t, hook: h, number: o.number, node: o.node, ipv6: o.ipv6, calm: o.calm, sources: o.sources}
	load := bpf.LoadLb4
	if o.ipv6 {
		load = bpf.LoadLb6
	}
	spec, err := load()
	w.must(err)
	w.setVariables(spec)
	spec.Maps["flows"].MaxEntries = maps.FlowEntries(o.flowLimit)
	spec.Maps["member_states"].MaxEntries = maps.StateEntries(uint32(o.sources))
	if w.node == nil {
		if !o.wholeRing { // which is a quarter of the time to read it
			spec.Maps["half_open"].MaxEntries /= 4
		}
		w.node = newNode(t, spec)
	}
	spec.Maps["half_open"].MaxEntries = w.node.Maps().HalfOpen.MaxEntries()
	nodeMaps := w.node.Maps()
	var objects tcObjects
	w.must(spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{MapReplacements: nodeMaps.Names()}))
	w.tc, w.sweep = objects.TC, objects.Sweep
	t.Cleanup(func() { w.tc.Close(); w.sweep.Close() })

	w.pool, err = maps.NewPool(spec, objects.PoolMaps)
	w.must(err)
	t.Cleanup(func() { w.pool.Close() })
	w.must(w.node.AddPool(o.number))
	w.addSlots(o.slots)
	if h != tcHook {
		w.loadFast()
	}
	w.configure(func(g *maps.Generation) { *g = w.first(min(o.slots, 3), o.flowLimit) })
	return w
}

func newNode(t testing.TB, spec *ebpf.CollectionSpec) *maps.Node {
	t.Helper()
	var shared maps.NodeMaps
	// The names of the pool's maps are taken away, so that only the node's are made.
	only := spec.Copy()
	for name := range only.Maps {
		if !slices.Contains(maps.NodeMapNames(), name) {
			delete(only.Maps, name)
		}
	}
	if err := only.LoadAndAssign(&shared, nil); err != nil {
		t.Fatal(err)
	}
	node, err := maps.NewNode(shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return node
}

// compiled are the objects of fast lanes, by hook, and whether they are IPv6's.
var compiled = map[hook]map[bool]func() (*ebpf.CollectionSpec, error){
	xdpHook: {false: bpf.LoadXdpLb4, true: bpf.LoadXdpLb6},
	tapHook: {false: bpf.LoadTapLb4, true: bpf.LoadTapLb6},
}

func (w *world) loadFast() {
	spec, err := compiled[w.hook][w.ipv6]()
	w.must(err)
	w.setVariables(spec)
	w.must(spec.Variables["device_mac"].Set([6]byte(ownMAC)))
	poolMaps, nodeMaps := w.pool.Maps(), w.node.Maps()
	shared := poolMaps.Names()
	for name, m := range nodeMaps.Names() {
		shared[name] = m
	}
	for name := range shared {
		if spec.Maps[name] == nil {
			delete(shared, name)
			continue
		}
		spec.Maps[name].MaxEntries = shared[name].MaxEntries()
	}
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	w.must(err)
	w.fast = loaded.DetachProgram(string(w.hook) + "_lb")
	loaded.Close()
	w.Cleanup(func() { w.fast.Close() })
}

func (w *world) setVariables(spec *ebpf.CollectionSpec) {
	w.must(spec.Variables[bpf.Lb4VarPoolNumber].Set(w.number))
	w.must(spec.Variables[bpf.Lb4VarCalmHandshakes].Set(w.calm))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) addSlots(n int) {
	slots := make([]uint16, n)
	for i := range slots {
		slots[i] = uint16(i)
	}
	_, err := w.pool.AddSlots(slots...)
	w.must(err)
	for source := 1; source < w.sources; source++ {
		_, err := w.pool.AddPorts(uint16(source), slots...)
		w.must(err)
	}
	for i, slot := range slots {
		for source := range w.sources { // ports from the first one on
			w.must(w.pool.StartPorts(slot, uint16(source), 0))
		}
		w.must(w.pool.SetHealth(slot, maps.Health{Up: true, Serial: uint32(i + 1)}))
	}
}

// firstGeneration is ROUND_ROBIN over the first members, all of weight 1.
func firstGeneration(members int, flowLimit uint32) maps.Generation {
	g := maps.Generation{
		Number: 1,
		VIP: maps.VIP{
			ID:               "11111111-1111-1111-1111-111111111111",
			Address:          vip,
			Protocol:         maps.TCP,
			Broadcast:        netip.MustParseAddr("172.16.100.255"),
			SNAT:             maps.SourcesOf(vip.Addr()),
			ConnectionLimit:  maps.NoLimit,
			FlowLimit:        flowLimit,
			HashSeed:         0x5eed,
			Idle:             7440 * time.Second,
			HalfOpen:         60 * time.Second,
			HalfOpenPressure: 5 * time.Second,
			Closing:          10 * time.Second,
			Rest:             60 * time.Second,
			AffinityTimeout:  10800 * time.Second,
		},
	}
	for slot := range members {
		g.Members = append(g.Members, member(slot))
		g.Schedule = append(g.Schedule, uint16(slot))
	}
	return g
}

// first is firstGeneration in the world's family.
func (w *world) first(members int, flowLimit uint32) maps.Generation {
	g := firstGeneration(members, flowLimit)
	g.VIP.Address = w.host(g.VIP.Address)
	if w.ipv6 {
		g.VIP.Broadcast = netip.Addr{}
	}
	for source := range w.sources {
		g.VIP.SNAT[source].Address = w.source(source)
	}
	for i := range g.Members {
		g.Members[i].Address = w.host(g.Members[i].Address)
	}
	return g
}

// source is the n-th source address toward members; the VIP's own is the first.
func (w *world) source(n int) netip.Addr {
	b := vip.Addr().As4()
	if n > 0 {
		b[3] = 20 + byte(n)
	}
	return w.host(netip.AddrPortFrom(netip.AddrFrom4(b), 0)).Addr()
}

// host is a host's address in the world's family.
func (w *world) host(a netip.AddrPort) netip.AddrPort {
	if w.ipv6 {
		return six80(a)
	}
	return a
}

// vip, client and memberAt are the listener, the n-th client and a member's address in
// the world's family.
func (w *world) vip() netip.AddrPort { return w.gen.VIP.Address }

func (w *world) client(n int) netip.AddrPort { return w.host(client(n)) }

func (w *world) memberAt(slot int) netip.AddrPort { return w.host(memberAddress(slot)) }

func member(slot int) maps.Member {
	return maps.Member{
		Slot:    uint16(slot),
		ID:      fmt.Sprintf("22222222-2222-2222-2222-%012x", slot),
		Serial:  uint32(slot + 1),
		Address: memberAddress(slot),
		Weight:  1,
		Present: true,
	}
}

// configure writes a changed generation.
func (w *world) configure(change func(g *maps.Generation)) {
	w.Helper()
	g := w.gen
	g.Members = slices.Clone(g.Members)
	g.Schedule = slices.Clone(g.Schedule)
	g.Weights = slices.Clone(g.Weights)
	change(&g)
	g.VIP.SNAT[0].Address = g.VIP.Address.Addr()
	g.Number++
	g.VIP.Address = w.host(g.VIP.Address)
	for i := range g.Members {
		g.Members[i].Address = w.host(g.Members[i].Address)
	}
	if g.VIP.Affinity {
		_, _, err := w.pool.EnableAffinity(10240)
		w.must(err)
	}
	_, err := w.pool.Write(g)
	w.must(err)
	if !g.VIP.Affinity {
		w.must(w.pool.DisableAffinity())
	}
	w.gen = g
}

func (w *world) setUp(slot int, up bool) {
	w.Helper()
	w.must(w.pool.SetHealth(uint16(slot), maps.Health{Up: up, Serial: uint32(slot + 1)}))
}

// inner finds an inner map by its pin's name.
func (w *world) inner(format string, args ...any) *ebpf.Map {
	w.Helper()
	name := fmt.Sprintf(format, args...)
	for _, in := range w.pool.Inner() {
		if in.Name == name {
			return in.Map
		}
	}
	w.Fatalf("there is no inner map %s", name)
	return nil
}

// reset makes the pool as if it had never seen a packet, and every member up.
func (w *world) reset() {
	w.Helper()
	own, shared := w.pool.Maps(), w.node.Maps()
	for key := range w.snapshot().flows {
		w.must(own.Flows.Delete(storedKey(key)))
	}
	w.must(w.node.RemovePool(w.number))
	w.must(w.node.AddPool(w.number))
	w.must(w.pool.DisableAffinity())
	w.must(own.PoolState.Put(uint32(0), bpf.Lb4PoolState{}))
	w.must(own.Conns.Put(uint32(0), bpf.Lb4Conns{}))
	w.must(shared.HalfOpenNode.Put(uint32(0), bpf.Lb4HalfOpenNode{}))
	for _, in := range w.pool.Inner() {
		switch {
		case strings.HasPrefix(in.Name, "member_states_"):
			w.must(in.Map.Put(uint32(0), bpf.Lb4MemberState{}))
		case strings.HasPrefix(in.Name, "counters_"):
			w.must(in.Map.Put(uint32(0), make([]bpf.Lb4MemberCounters, ebpf.MustPossibleCPU())))
		}
	}
	for _, m := range []*ebpf.Map{own.Drops, own.Verdicts, own.Events} {
		for i := range m.MaxEntries() {
			w.must(m.Put(i, make([]uint64, ebpf.MustPossibleCPU())))
		}
	}
	for _, slot := range w.pool.Slots() {
		w.setUp(int(slot), true)
	}
}

// Raw access, for tests that write what only programs write.

// storedKey is a tuple as the tables of either family keep it.
func storedKey(k maps.FlowKey) []byte {
	b := append(k.Source.Addr().AsSlice(), k.Destination.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, k.Source.Port())
	b = binary.BigEndian.AppendUint16(b, k.Destination.Port())
	return binary.NativeEndian.AppendUint32(b, uint32(k.Protocol))
}

// seenOffset is where an entry of that size keeps the tick of its last packet.
func seenOffset(key []byte) int { return len(key) + 4 }

func (w *world) memberState(slot int) bpf.Lb4MemberState {
	w.Helper()
	return w.portsOf(slot, 0)
}

func (w *world) setMemberState(slot int, state bpf.Lb4MemberState) {
	w.Helper()
	w.setPortsOf(slot, 0, state)
}

// portsOf is the state of the ports of one source address.
func (w *world) portsOf(slot, source int) (state bpf.Lb4MemberState) {
	w.Helper()
	w.must(w.inner("member_states_%d", source*maps.MaxSlots+slot).Lookup(uint32(0), &state))
	return state
}

// setPortsOf writes it, with the bits of full words as they have to be.
func (w *world) setPortsOf(slot, source int, state bpf.Lb4MemberState) {
	w.Helper()
	for word, ports := range state.Ports {
		state.Full[word/64] &^= 1 << (word % 64)
		if ^ports == 0 {
			state.Full[word/64] |= 1 << (word % 64)
		}
	}
	w.must(w.inner("member_states_%d", source*maps.MaxSlots+slot).Put(uint32(0), state))
}

// storedHalf is the same for the table that all pools of the node share.
func (w *world) storedHalf(k maps.FlowKey) []byte {
	return append(binary.NativeEndian.AppendUint32(nil, w.number), storedKey(k)...)
}

// stateOffset is where an entry of that size keeps its state.
func stateOffset(key []byte) int { return len(key) }

// upKey and downKey are the tuples of a connection's two directions.
func (c conn) upKey() maps.FlowKey {
	return maps.FlowKey{Source: c.client, Destination: c.vip(), Protocol: c.w.gen.VIP.Protocol}
}

func (c conn) downKey() maps.FlowKey {
	return maps.FlowKey{Source: c.member(), Destination: c.nat(), Protocol: c.w.gen.VIP.Protocol}
}

// edit changes the bytes of an entry, which must be there.
func (w *world) edit(table *ebpf.Map, key []byte, change func(entry []byte)) {
	w.Helper()
	entry, err := table.LookupBytes(key)
	w.must(err)
	if entry == nil {
		w.Fatalf("%s has no entry %x", table, key)
	}
	change(entry)
	w.must(table.Put(key, entry))
}

// earlier takes a time off the tick that stands there.
func earlier(tick []byte, by time.Duration) {
	binary.NativeEndian.PutUint32(tick, binary.NativeEndian.Uint32(tick)-uint32(by>>20))
}
