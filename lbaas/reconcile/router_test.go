package reconcile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qlbaas/lbaas"
	"qlbaas/loader/router"
	"qlbaas/tests/bubble"
)

// runRouters gives fn a started rig with routers in a bubble of fake time.
func runRouters(t *testing.T, opts Options, prepare func(g *rig, n *fakeRouters), fn func(t *testing.T, g *rig, n *fakeRouters)) {
	t.Helper()
	n := newFakeRouters()
	opts.Routers = n
	run(t, opts, func(g *rig) { prepare(g, n) }, func(t *testing.T, g *rig) { fn(t, g, n) })
}

// add puts router k into the store without telling anybody.
func (g *rig) add(k int) {
	g.state.edit(id('a', k), func(cfg *lbaas.RouterConfig) { *cfg = routed(k) })
}

func (g *rig) states(t *testing.T, k int, want ...string) {
	t.Helper()
	settle()
	if diff := cmp.Diff(want, g.state.statesOf(id('a', k))); diff != "" {
		t.Errorf("statuses: %s", diff)
	}
}

func TestPlannedRouter(t *testing.T) {
	cfg := routed(1)
	cfg.Router.Routes = []lbaas.StaticRoute{{Destination: netip.MustParsePrefix("192.168.0.0/16"), NextHop: netip.MustParseAddr("172.16.100.9")}}
	got, err := plannedRouter(cfg)
	want := router.Router{
		ID: id('a', 1), AdminUp: true, SNAT: true,
		External: &router.Leg{
			PortID: id('c', 17), MAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 1, 1},
			Address: netip.MustParsePrefix("10.10.10.6/24"), Bridge: "br-ex", Gateway: netip.MustParseAddr("10.10.10.1"),
		},
		Inside: []router.Leg{{
			PortID: id('c', 18), MAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 1, 2},
			Address: netip.MustParsePrefix("172.16.100.1/24"), Bridge: "br-int",
		}},
		Floating: []router.Floating{
			{ID: id('b', 17), Address: netip.MustParseAddr("10.10.10.17"), Fixed: netip.MustParseAddr("172.16.100.11")},
			{ID: id('b', 18), Address: netip.MustParseAddr("10.10.10.18"), Fixed: netip.MustParseAddr("172.16.100.12")},
		},
		Routes: []router.Route{{Destination: netip.MustParsePrefix("192.168.0.0/16"), NextHop: netip.MustParseAddr("172.16.100.9")}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for name, spoil := range map[string]func(*lbaas.RouterConfig){
		"physical_network": func(c *lbaas.RouterConfig) { c.Interfaces[0].Network.PhysicalNetwork = "" },
		"segmentation_id":  func(c *lbaas.RouterConfig) { c.Gateway.Network.SegmentationID = 4095 },
		"UUID":             func(c *lbaas.RouterConfig) { c.Interfaces[0].Port.ID = "../x" },
		"floating IP":      func(c *lbaas.RouterConfig) { c.FloatingIPs[0].ID = "../x" },
		"port":             func(c *lbaas.RouterConfig) { c.Gateway.Port.MACAddress = "x" },
	} {
		cfg := routed(1)
		spoil(&cfg)
		if _, err := plannedRouter(cfg); !errors.Is(err, errUnservable) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRouterLife: from the store to the node and back, and gone.
func TestRouterLife(t *testing.T) {
	runRouters(t, Options{}, func(*rig, *fakeRouters) {}, func(t *testing.T, g *rig, n *fakeRouters) {
		a := id('a', 1)
		g.add(1)
		g.RoutersChanged(a)
		g.states(t, 1, "ACTIVE", "ACTIVE", "ACTIVE")
		if want, _ := plannedRouter(routed(1)); len(n.applied) != 1 || n.applied[a].External.Bridge != want.External.Bridge {
			t.Errorf("on the node: %+v", n.applied)
		}
		g.state.edit(a, func(cfg *lbaas.RouterConfig) { cfg.Router.AdminStateUp = false })
		g.RoutersChanged(a)
		g.states(t, 1, "ACTIVE", "DOWN", "DOWN")
		views, err := g.Routers(t.Context())
		if err != nil || len(views) != 1 || !views[0].Deployed || views[0].Floating != 2 || views[0].Interfaces != 1 || views[0].LastError != nil {
			t.Errorf("views: %+v %v", views, err)
		}
		counters, err := g.RouterCounters(t.Context())
		if err != nil || len(counters) != 1 || counters[0].Live == nil || len(counters[0].Live.Floating) != 2 {
			t.Errorf("counters: %+v %v", counters, err)
		}
		g.state.edit(a, nil)
		g.RoutersChanged(a)
		settle()
		if len(n.applied) != 0 {
			t.Errorf("left on the node: %v", n.applied)
		}
	})
}

// TestRouterFailure: what failed is told and tried again; what a router did before it
// still does, and a router that is not there does nothing.
func TestRouterFailure(t *testing.T) {
	runRouters(t, Options{}, func(*rig, *fakeRouters) {}, func(t *testing.T, g *rig, n *fakeRouters) {
		a := id('a', 1)
		n.refusal = errors.New("no such bridge")
		g.add(1)
		g.RoutersChanged(a)
		why := "ERROR apply router " + a + ": no such bridge"
		g.states(t, 1, why, why, why)
		n.with(func() { n.refusal = nil })
		bubble.Pass(time.Minute)
		g.states(t, 1, "ACTIVE", "ACTIVE", "ACTIVE")
		n.with(func() { n.refusal = errors.New("no such bridge") })
		g.state.edit(a, func(cfg *lbaas.RouterConfig) {
			third := routed(2).FloatingIPs[0]
			cfg.FloatingIPs = append(cfg.FloatingIPs, third)
		})
		g.RoutersChanged(a)
		g.states(t, 1, why, "ACTIVE", "ACTIVE", why)
		if views, err := g.Routers(t.Context()); err != nil || views[0].State != "ERROR" || views[0].LastError == nil {
			t.Errorf("views: %+v %v", views, err)
		}
		n.with(func() { clear(n.applied) })
		bubble.Pass(time.Minute)
		g.states(t, 1, why, why, why, why)
		// What cannot be is not tried again before somebody changes it.
		n.with(func() { n.refusal = fmt.Errorf("%w: x", router.ErrInvalid) })
		bubble.Pass(time.Minute)
		settle()
		n.calls()
		bubble.Pass(30 * time.Second)
		if calls := n.calls(); len(calls) > 1 {
			t.Errorf("in half a minute %q", calls)
		}
	})
}

// TestRouterAdopt: Start removes what has no owner, then makes everything as wanted.
func TestRouterAdopt(t *testing.T) {
	before := func(n *fakeRouters, k int) {
		n.applied[id('a', k)] = router.Router{ID: id('a', k)}
	}
	runRouters(t, Options{Workers: 1}, func(g *rig, n *fakeRouters) {
		g.add(1)
		before(n, 1)
		before(n, 2)
	}, func(t *testing.T, g *rig, n *fakeRouters) {
		if calls := n.calls(); !slices.Equal(calls, []string{"remove " + id('a', 2), "apply " + id('a', 1)}) {
			t.Errorf("before Start returned: %q", calls)
		}
		g.states(t, 1, "ACTIVE", "ACTIVE", "ACTIVE")
	})
	for opts, left := range map[Options]int{{}: 1, {AcceptEmpty: true}: 0, {AcceptEmpty: true, ReadOnly: true}: 1} {
		runRouters(t, opts, func(_ *rig, n *fakeRouters) { before(n, 2) }, func(t *testing.T, g *rig, n *fakeRouters) {
			bubble.Pass(10 * time.Minute)
			if len(n.applied) != left {
				t.Errorf("%+v: %d routers left, want %d", opts, len(n.applied), left)
			}
		})
	}
	runRouters(t, Options{ReadOnly: true}, func(g *rig, _ *fakeRouters) { g.add(1) }, func(t *testing.T, g *rig, n *fakeRouters) {
		bubble.Pass(10 * time.Minute)
		if calls := n.calls(); len(calls) > 0 || g.state.writes > 0 {
			t.Errorf("a copy was acted upon: %q", calls)
		}
	})
}

// TestRouterDrift: drift is repaired at once, lost events within FullEvery.
func TestRouterDrift(t *testing.T) {
	runRouters(t, Options{}, func(g *rig, _ *fakeRouters) { g.add(1) }, func(t *testing.T, g *rig, n *fakeRouters) {
		settle()
		n.calls()
		n.with(func() { n.drifted = []string{id('a', 1)} })
		bubble.Pass(2 * time.Second)
		if calls := n.calls(); !slices.Contains(calls, "apply "+id('a', 1)) || g.Counts().Drifted != 1 {
			t.Errorf("after drift: %q", calls)
		}
		for k := 2; k < 9; k++ {
			g.add(k) // and nobody heard of it
		}
		bubble.Pass(61 * time.Second)
		if len(n.applied) != 8 {
			t.Errorf("%d routers after a minute", len(n.applied))
		}
		if calls := n.calls(); len(calls) > 20 {
			t.Errorf("%d calls in a minute for 8 routers", len(calls))
		}
		g.state.edit(id('a', 2), nil)
		bubble.Pass(2 * time.Second)
		if _, there := n.applied[id('a', 2)]; there {
			t.Error("an orphan is left")
		}
	})
}

// TestRouterOrder: of two routers that a floating IP moves between, the one that lets
// go comes first, and never two attempts at one.
func TestRouterOrder(t *testing.T) {
	runRouters(t, Options{}, func(g *rig, n *fakeRouters) {
		g.add(1)
		g.add(2)
		n.pause = func() { <-time.After(100 * time.Millisecond) }
	}, func(t *testing.T, g *rig, n *fakeRouters) {
		n.calls()
		g.RoutersChanged(id('a', 2), id('a', 1))
		g.RoutersChanged(id('a', 2))
		bubble.Pass(time.Second)
		calls := n.calls()
		if first, then := slices.Index(calls, "apply "+id('a', 2)), slices.Index(calls, "apply "+id('a', 1)); first < 0 || then < first || n.overlaps > 0 {
			t.Errorf("calls %q, %d overlaps", calls, n.overlaps)
		}
	})
}

// TestRouterFaultsConverge plays random changes while every n-th call to the node and
// to the store fails. When the faults end, the node is as the store says.
func TestRouterFaultsConverge(t *testing.T) {
	for seed := range uint64(10) {
		n := newFakeRouters()
		synctest.Test(t, func(t *testing.T) {
			g, rng := newRig(Options{Routers: n}), rand.New(rand.NewPCG(seed, 2))
			g.start(t)
			n.set(3 + rng.IntN(5))
			g.state.set(3 + rng.IntN(5))
			for range 150 {
				k := rng.IntN(4)
				switch a := id('a', k); rng.IntN(4) {
				case 0:
					g.state.edit(a, nil)
				case 1, 2:
					g.state.edit(a, func(cfg *lbaas.RouterConfig) {
						generation := cfg.Router.Generation
						*cfg = routed(k)
						cfg.Router.Generation = generation
						cfg.Router.AdminStateUp = rng.IntN(2) == 0
						cfg.FloatingIPs = cfg.FloatingIPs[:rng.IntN(3)]
					})
				case 3:
					n.with(func() { delete(n.applied, a) })
				}
				if rng.IntN(10) > 0 {
					g.RoutersChanged(id('a', k))
				}
				bubble.Pass(time.Duration(rng.IntN(300)) * time.Millisecond)
			}
			n.set(0)
			g.state.set(0)
			bubble.Pass(2 * time.Minute)
			settle()
			if len(n.applied) != len(g.state.routers) {
				t.Errorf("seed %d: %d routers on the node, %d in the store", seed, len(n.applied), len(g.state.routers))
			}
			for a, cfg := range g.state.routers {
				if got := n.applied[a]; got.AdminUp != cfg.Router.AdminStateUp || len(got.Floating) != len(cfg.FloatingIPs) || cfg.Router.Status != lbaas.StatusActive {
					t.Errorf("seed %d: router %+v of %+v", seed, got, cfg.Router)
				}
				for _, f := range cfg.FloatingIPs {
					if (f.Status == lbaas.StatusActive) != cfg.Router.AdminStateUp {
						t.Errorf("seed %d: floating IP %+v, admin up %v", seed, f.State, cfg.Router.AdminStateUp)
					}
				}
			}
			g.Close()
		})
	}
}
