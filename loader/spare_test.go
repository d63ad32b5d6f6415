package loader

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

// withSpare runs a test on a node that has made a spare for IPv4.
func withSpare(t *testing.T, test func(w *world, n *Node)) {
	w := newWorld(t)
	w.opts.compiled, w.opts.Spare = lightObjects, true
	n := w.open()
	first := w.balancer()
	w.apply(n, first)
	n.tasks.Wait()
	test(w, n)
	w.remove(n, first)
	w.close(n)
	w.wantNothingLeft()
}

// uses tells whether a pool's programs and maps are the spare's.
func uses(w *world, n *Node, b Balancer, s *spare) bool {
	w.Helper()
	p := n.find(b.PoolID)
	own, err := mapID(p.view.Maps().Flows)
	if err != nil {
		w.Fatal(err)
	}
	used, err := mapsOf(p.programs.tc)
	if err != nil {
		w.Fatal(err)
	}
	defer closeMaps(used)
	if on, err := mapID(used["flows"]); err != nil || on != own {
		w.Errorf("the programs work on flow table %d, the pool's is %d: %v", on, own, err)
	}
	if number, err := n.objects[p.family].readNumber(p.programs.constants); err != nil || number != p.number {
		w.Errorf("the programs count under %d, the pool is %d: %v", number, p.number, err)
	}
	return p.number == s.number
}

func TestNextPoolTakesTheSpare(t *testing.T) {
	withSpare(t, func(w *world, n *Node) {
		for range 2 {
			ready := n.spares.of[ipv4].ready
			if ready == nil {
				t.Fatal("nothing is ready")
			}
			b := w.balancer()
			w.apply(n, b)
			if !uses(w, n, b, ready) {
				t.Error("the pool was made anew")
			}
			n.tasks.Wait()
			w.remove(n, b)
		}
	})
}

func TestOtherSizesTakeNoSpare(t *testing.T) {
	withSpare(t, func(w *world, n *Node) {
		large, wide, v6 := w.balancer(), w.balancer(), w.balancer()
		large.VIP.FlowLimit = 2 * DefaultFlowLimit
		wide.SNAT = sourceAddresses(1)
		v6.VIP.Address, v6.VIP.Gateway = netip.MustParsePrefix("2001:db8::11/64"), netip.MustParseAddr("2001:db8::1")
		v6.Members = v6.Members[:1]
		v6.Members[0].Address = netip.MustParseAddrPort("[2001:db8::9]:80")
		ready := n.spares.of[ipv4].ready
		for name, b := range map[string]Balancer{"large": large, "wide": wide, "IPv6": v6} {
			w.apply(n, b)
			if uses(w, n, b, ready) || n.spares.of[ipv4].ready != ready {
				t.Errorf("%s: the spare was taken", name)
			}
			n.tasks.Wait()
			w.remove(n, b)
		}
	})
}

// A number that another pool has got meanwhile would let both count as one.
func TestSpareWhoseNumberIsTaken(t *testing.T) {
	withSpare(t, func(w *world, n *Node) {
		ready := n.spares.of[ipv4].ready
		if err := n.handshakes(ipv4).AddPool(ready.number); err != nil {
			t.Fatal(err)
		}
		b := w.balancer()
		w.apply(n, b)
		if uses(w, n, b, ready) {
			t.Error("two pools have one number")
		}
		w.remove(n, b)
		if err := n.handshakes(ipv4).RemovePool(ready.number); err != nil {
			t.Fatal(err)
		}
	})
}

// The pool waits for what is being made, rather than to make the same beside it.
func TestPoolAwaitsTheSpare(t *testing.T) {
	withSpare(t, func(w *world, n *Node) {
		n.spares.Lock()
		at := &n.spares.of[ipv4]
		ready, made := at.ready, make(chan struct{})
		at.ready, at.made = nil, made
		n.spares.Unlock()
		b, applied := w.balancer(), make(chan error, 1)
		go func() { applied <- n.Apply(w.Context(), b) }()
		w.until("the pool waits", func() bool {
			n.spares.Lock()
			defer n.spares.Unlock()
			return at.awaited
		})
		n.spares.Lock()
		at.ready, at.made = ready, nil
		n.spares.Unlock()
		close(made)
		if err := <-applied; err != nil {
			t.Fatal(err)
		}
		if !uses(w, n, b, ready) {
			t.Error("the pool was made anew")
		}
		w.remove(n, b)
	})
}

// What nobody takes ends with the node.
func TestSpareEndsWithTheNode(t *testing.T) {
	withSpare(t, func(w *world, n *Node) {
		id, err := mapID(n.spares.of[ipv4].ready.own.Conns)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.closeSpares(); err != nil {
			t.Error(err)
		}
		w.until("the kernel has forgotten it", func() bool {
			m, err := ebpf.NewMapFromID(id)
			if err == nil {
				m.Close()
			}
			return err != nil
		})
	})
}
