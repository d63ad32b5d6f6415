package maps

import (
	"errors"
	"net/netip"
	"testing"

	"qlbaas/bpf"
)

func handshakes(t *testing.T, n *Node, pool uint32) int {
	t.Helper()
	found := 0
	for _, err := range n.HalfOpen(pool) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	return found
}

func TestNode(t *testing.T) {
	n := newNode(t)
	for _, pool := range []uint32{1, 2, 1} {
		if err := n.AddPool(pool); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.own.HalfOpenUse.Put(uint32(1), &bpf.Lb4HalfOpenUse{Handshakes: 30}); err != nil {
		t.Fatal(err)
	}
	if err := n.AddPool(1); err != nil {
		t.Fatal(err)
	}
	if err := n.own.HalfOpenUse.Put(uint32(2), &bpf.Lb4HalfOpenUse{Handshakes: 4}); err != nil {
		t.Fatal(err)
	}
	if err := n.own.HalfOpenNode.Put(uint32(0), &bpf.Lb4HalfOpenNode{Cursor: 9, Evicted: 7}); err != nil {
		t.Fatal(err)
	}
	pools, err := n.Pools()
	if err != nil || len(pools) != 2 || pools[1] != 30 || pools[2] != 4 {
		t.Errorf("pools %v, %v", pools, err)
	}
	ring, err := n.Ring()
	if want := (Ring{Size: 32768, Used: 34, Evicted: 7}); err != nil || ring != want {
		t.Errorf("ring %+v, %v, want %+v", ring, err, want)
	}

	for pool := range uint32(3) {
		for i := range uint32(2000) {
			key := bpf.Lb4HalfOpenKey{Pool: pool, Tuple: bpf.Lb4FlowKey{
				Saddr: bpf.Lb4Addr{Word: [1]uint32{i}}, Dport: toPort(80), Proto: 6,
			}}
			value := bpf.Lb4HalfOpen{Ring: i, Flow: bpf.Lb4Flow{
				Sport: toPort(2000), State: uint32(bpf.Lb4FlowStateFLOW_SYN_ACK),
			}}
			if err := n.own.HalfOpen.Put(&key, &value); err != nil {
				t.Fatal(err)
			}
		}
	}
	for got, err := range n.HalfOpen(1) {
		if err != nil || got.Pool != 1 || got.State != SynAck || got.Key.Destination.Port() != 80 ||
			got.Source != netip.MustParseAddrPort("0.0.0.0:2000") {
			t.Fatalf("handshake %+v, %v", got, err)
		}
	}
	if err := n.RemovePool(1); err != nil {
		t.Fatal(err)
	}
	for pool, want := range []int{2000, 0, 2000} {
		if got := handshakes(t, n, uint32(pool)); got != want {
			t.Errorf("pool %d has %d handshakes, want %d", pool, got, want)
		}
	}
	if err := n.RemovePool(1); err != nil {
		t.Errorf("removing a pool twice: %v", err)
	}
	if pools, err := n.Pools(); err != nil || len(pools) != 1 {
		t.Errorf("pools %v, %v", pools, err)
	}
}

func TestNodeIsFull(t *testing.T) {
	spec := loadSpec(t)
	spec.Maps["half_open_use"].MaxEntries = 2
	var m NodeMaps
	assign(t, spec, &m)
	n, err := NewNode(m)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for pool := range uint32(2) {
		if err := n.AddPool(pool); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.AddPool(2); !errors.Is(err, ErrFull) {
		t.Errorf("third pool of two: %v, want ErrFull", err)
	}
}

func TestAbsentMapsAreRefused(t *testing.T) {
	if _, err := NewNode(NodeMaps{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("node without maps: %v", err)
	}
	if _, err := NewPool(loadSpec(t), PoolMaps{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("pool without maps: %v", err)
	}
	var m PoolMaps
	if err := m.Set("flow", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("map of no name: %v", err)
	}
	if got, want := len(PoolMapNames())+len(NodeMapNames()), len(mapNames(t)); got != want {
		t.Errorf("%d names, the object has %d maps", got, want)
	}
}

// mapNames are the object's maps, without the compiler's own.
func mapNames(t *testing.T) (names []string) {
	for name := range loadSpec(t).Maps {
		if name[0] != '.' {
			names = append(names, name)
		}
	}
	return names
}
