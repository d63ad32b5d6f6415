package maps

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

func addr4(t testing.TB, s string) bpf.Lb4Addr {
	t.Helper()
	a, err := toAddr[bpf.Lb4Addr](netip.MustParseAddr(s))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFlows(t *testing.T) {
	p := newPool(t)
	for range p.Flows() {
		t.Fatal("a new pool has flows")
	}
	key := bpf.Lb4FlowKey{
		Saddr: addr4(t, "10.10.10.4"), Daddr: addr4(t, "172.16.100.11"),
		Sport: toPort(40000), Dport: toPort(80), Proto: 6,
	}
	value := bpf.Lb4Flow{
		Saddr: addr4(t, "172.16.100.11"), Daddr: addr4(t, "172.16.100.9"),
		Sport: toPort(1024), Dport: toPort(8080),
		Slot: 3, Snat: 2, State: uint32(bpf.Lb4FlowStateFLOW_FIN_CLIENT), Seen: 7, Next: 8, Ack: 9,
		Shift: 10, Started: 11, Serial: 12,
	}
	if err := p.own.Flows.Put(&key, &bpf.Lb4FlowEntry{Flow: value}); err != nil {
		t.Fatal(err)
	}
	want := FlowEntry{
		Key: FlowKey{
			netip.MustParseAddrPort("10.10.10.4:40000"), netip.MustParseAddrPort("172.16.100.11:80"), TCP,
		},
		Flow: Flow{
			Source:      netip.MustParseAddrPort("172.16.100.11:1024"),
			Destination: netip.MustParseAddrPort("172.16.100.9:8080"),
			Slot:        3, Place: 2, Serial: 12, State: FinClient, Seen: 7, Started: 11, Next: 8, Ack: 9, Shift: 10,
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

// fillFlows puts n entries with different clients into the table.
func fillFlows(t testing.TB, m *ebpf.Map, n uint32) {
	t.Helper()
	keys, values := make([]bpf.Lb4FlowKey, n), make([]bpf.Lb4FlowEntry, n)
	for i := range keys {
		keys[i].Saddr.Word[0], keys[i].Proto = uint32(i), 6
		values[i].Flow.Next = uint32(i)
	}
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		t.Fatal(err)
	}
}

func TestEveryFlowIsSeenOnce(t *testing.T) {
	p := newPool(t)
	full := p.own.Flows.MaxEntries()
	fillFlows(t, p.own.Flows, full)
	seen := make([]bool, full)
	for got, err := range p.Flows() {
		if err != nil {
			t.Fatal(err)
		}
		if seen[got.Next] {
			t.Fatalf("flow %d is seen twice", got.Next)
		}
		seen[got.Next] = true
	}
	for i, was := range seen {
		if !was {
			t.Fatalf("flow %d is not seen", i)
		}
	}
	for range p.Flows() {
		break // stopping early must not hang or panic
	}
}

// A batch smaller than a bucket grows, and nothing is lost or seen twice.
func TestBatchesGrow(t *testing.T) {
	p := newPool(t)
	full := p.own.Flows.MaxEntries()
	fillFlows(t, p.own.Flows, full)
	seen := make([]bool, full)
	n := uint32(0)
	for got, err := range walk[bpf.Lb4FlowKey, bpf.Lb4FlowEntry](p.own.Flows, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[got.value.Flow.Next] || got.key.Saddr.Word[0] != got.value.Flow.Next {
			t.Fatalf("flow %d is seen twice, or with another's key", got.value.Flow.Next)
		}
		seen[got.value.Flow.Next] = true
		n++
	}
	if n != full {
		t.Errorf("%d of %d flows seen", n, full)
	}
}

// Flows that end while the table is read neither end the walk nor start it over.
func TestFlowsThatEndMeanwhile(t *testing.T) {
	p := newPool(t)
	const all = 20000
	fillFlows(t, p.own.Flows, all)
	n := 0
	for got, err := range p.Flows() {
		if err != nil {
			t.Fatal(err)
		}
		n++
		for _, other := range []uint32{got.Next, (got.Next + 1) % all} {
			key := bpf.Lb4FlowKey{Saddr: bpf.Lb4Addr{Word: [1]uint32{other}}, Proto: 6}
			if err := remove(p.own.Flows, &key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n < all/2 || n > all {
		t.Errorf("%d of %d flows seen", n, all)
	}
	for range p.Flows() {
		t.Fatal("flows are left that were never seen")
	}
}

func TestAffinity(t *testing.T) {
	p := newPool(t)
	for range p.Affinities() {
		t.Fatal("entries without a table")
	}
	if err := p.DisableAffinity(); err != nil {
		t.Errorf("disable without a table: %v", err)
	}
	if _, _, err := p.EnableAffinity(0); err == nil {
		t.Error("a table of 0 entries was made")
	}
	table, made, err := p.EnableAffinity(1000)
	if err != nil || !made || table.Name != "affinities_0" || table.Map.MaxEntries() != 1000 {
		t.Fatalf("%+v, %v, %v", table, made, err)
	}
	consistent(t, p)
	client := addr4(t, "10.1.2.3")
	if err := table.Map.Put(&client, &bpf.Lb4Affinity{Slot: 3, Serial: 4, Seen: 5}); err != nil {
		t.Fatal(err)
	}
	if again, made, err := p.EnableAffinity(2000); err != nil || made || again.Map != table.Map {
		t.Errorf("enabling again: %+v, %v, %v", again, made, err)
	}
	p, found := restart(t, p, nil)
	if got := pins(found.Repin); got != "affinities_0" {
		t.Errorf("repin %q", got)
	}
	n := 0
	for got, err := range p.Affinities() {
		want := AffinityEntry{Client: netip.MustParseAddr("10.1.2.3"), Slot: 3, Serial: 4, Seen: 5}
		if n++; err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		if err := p.DisableAffinity(); err != nil { // while it is read
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
	consistent(t, p)
	for range p.Affinities() {
		t.Fatal("entries after the table went")
	}
}
