package reconcile

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"qlbaas/lbaas"
	"qlbaas/loader"
	"qlbaas/tests/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deployed puts pool n on the node as an earlier agent left it.
func (g *rig) deployedBefore(n int) {
	b, err := balancer(poolConfig(n))
	if err != nil {
		panic(err)
	}
	g.node.applied[b.PoolID] = b
	g.node.up[b.PoolID] = map[string]bool{b.Members[0].ID: false, b.Members[1].ID: true}
}

// TestAdopt: everything is applied before Start returns, and a member that was
// down stays down until a probe says otherwise.
func TestAdopt(t *testing.T) {
	run(t, Options{}, func(g *rig) {
		cfg := poolConfig(1)
		cfg.Members[0].State = lbaas.State{Status: lbaas.StatusInactive, StatusDescription: "HTTP: refused"}
		g.state.put(cfg)
		g.deployedBefore(1)
	}, func(t *testing.T, g *rig) {
		a, dead := id('a', 1), id('e', 17)
		if !slices.Contains(g.node.calls(), "apply "+a) {
			t.Error("not applied before Start returned")
		}
		targets := g.checker.targets[a]
		if len(targets) != 2 || targets[0].Up || !targets[1].Up {
			t.Errorf("targets %+v", targets)
		}
		if up, known := g.node.MemberUp(a, dead); up || !known {
			t.Error("the dead member was let in")
		}
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "INACTIVE HTTP: refused", "ACTIVE", "ACTIVE")
		g.checker.find(g.Reconciler, a, dead, true, "")
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
	})
}

// TestFailedAdoption: a VIP that the node still serves stays ACTIVE, one that is
// not there (a reboot) does not.
func TestFailedAdoption(t *testing.T) {
	for served, want := range map[bool]lbaas.Status{true: lbaas.StatusActive, false: lbaas.StatusError} {
		run(t, Options{}, func(g *rig) {
			cfg := poolConfig(1)
			cfg.VIP.Status = lbaas.StatusActive
			g.state.put(cfg)
			if served {
				g.deployedBefore(1)
			}
			g.node.refusal = errors.New("no")
		}, func(t *testing.T, g *rig) {
			settle()
			cfg := g.state.get(id('a', 1))
			if cfg.VIP.Status != want || cfg.Pool.Status != lbaas.StatusError {
				t.Errorf("served %v: vip %s, pool %s", served, cfg.VIP.Status, cfg.Pool.Status)
			}
		})
	}
}

// TestAdoptRemovesFirst: what has lost its VIP or its owner goes before anything
// is applied, since its address may be another's by now.
func TestAdoptRemovesFirst(t *testing.T) {
	run(t, Options{}, func(g *rig) {
		gone := poolConfig(3)
		gone.VIP = nil
		g.state.put(poolConfig(1))
		g.state.put(gone)
		g.deployedBefore(1)
		g.deployedBefore(2)
		g.deployedBefore(3)
	}, func(t *testing.T, g *rig) {
		calls := g.node.calls()
		apply := slices.Index(calls, "apply "+id('a', 1))
		for _, n := range []int{2, 3} {
			if i := slices.Index(calls, "remove "+id('a', n)); i < 0 || i > apply {
				t.Errorf("calls %q", calls)
			}
		}
	})
}

// TestEmptyStore: what a store without pools does not know stays, unless it is
// said to be meant.
func TestEmptyStore(t *testing.T) {
	for accept, left := range map[bool]int{false: 1, true: 0} {
		run(t, Options{AcceptEmpty: accept}, func(g *rig) { g.deployedBefore(1) }, func(t *testing.T, g *rig) {
			bubble.Pass(time.Hour)
			if len(g.node.applied) != left {
				t.Errorf("accept %v: %d pools left", accept, len(g.node.applied))
			}
		})
	}
}

// TestReadOnly: a copy that may be out of date is not acted upon, but what it
// knows of is still probed.
func TestReadOnly(t *testing.T) {
	run(t, Options{ReadOnly: true, AcceptEmpty: true}, func(g *rig) {
		bare := poolConfig(2)
		bare.VIP = nil
		g.state.put(poolConfig(1))
		g.state.put(bare)
		g.state.put(poolConfig(4))
		for n := range 4 {
			g.deployedBefore(n)
		}
	}, func(t *testing.T, g *rig) {
		g.checker.find(g.Reconciler, id('a', 1), id('e', 18), false, "x")
		g.PoolsChanged(id('a', 3))
		bubble.Pass(time.Hour)
		if calls := g.node.calls(); !slices.Equal(calls, []string{"member false"}) || g.state.writes != 0 {
			t.Errorf("calls %q, %d writes", calls, g.state.writes)
		}
		if _, probed := g.checker.targets[id('a', 1)]; !probed || len(g.checker.targets) != 1 {
			t.Errorf("targets %v", g.checker.targets)
		}
	})
}

// TestLastPoolDeleted: a store that held pools may become empty.
func TestLastPoolDeleted(t *testing.T) {
	run(t, Options{}, func(g *rig) { g.state.put(poolConfig(1)) }, func(t *testing.T, g *rig) {
		g.state.drop(id('a', 1)) // and the event is lost
		bubble.Pass(10 * time.Second)
		if len(g.node.applied) != 0 {
			t.Error("still deployed")
		}
	})
}

// TestStartFails when the store or the node cannot be read: nothing is guessed.
func TestStartFails(t *testing.T) {
	for _, broken := range []func(g *rig){
		func(g *rig) { g.state.set(1) },
		func(g *rig) { g.node.set(1) },
	} {
		g := newRig(Options{})
		g.state.put(poolConfig(1))
		broken(g)
		if err := g.Start(t.Context(), stateOf(g), g.checker); !errors.Is(err, errFault) {
			t.Errorf("got %v", err)
		}
		if calls := g.node.calls(); len(calls) != 0 {
			t.Errorf("calls %q", calls)
		}
	}
}

func stateOf(g *rig) State { return g.state }

// TestAdoptGoesOn: one pool that fails holds up neither the others nor the start.
func TestAdoptGoesOn(t *testing.T) {
	run(t, Options{}, func(g *rig) {
		for n := range 6 {
			g.state.put(poolConfig(n))
		}
		g.node.every = 4
	}, func(t *testing.T, g *rig) {
		if n := len(g.node.applied); n < 4 || n == 6 {
			t.Errorf("%d of 6 applied at the start", n)
		}
		g.node.set(0)
		bubble.Pass(longestPause)
		settle()
		for n := range 6 {
			expect(t, g, id('a', n), "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
		}
	})
}

// TestCloseLetsAttemptsEnd and writes what they report.
func TestCloseLetsAttemptsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := newRig(Options{})
		g.node.pause = func() { <-time.After(3 * time.Second) }
		if err := g.Start(ctx, g.state, g.checker); err != nil {
			t.Fatal(err)
		}
		g.state.put(poolConfig(1))
		g.PoolsChanged(id('a', 1))
		bubble.Pass(time.Second)
		cancel()
		g.Close()
		expect(t, g, id('a', 1), "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
		if _, ok := g.node.applied[id('a', 1)]; !ok {
			t.Error("Close took the pool off the node")
		}
	})
}

// TestDrift: what Refresh names is applied again.
func TestDrift(t *testing.T) {
	run(t, Options{}, func(g *rig) { g.state.put(poolConfig(1)) }, func(t *testing.T, g *rig) {
		g.node.with(func() { g.node.log = nil; g.node.drifted = []string{id('a', 1)} })
		bubble.Pass(3 * time.Second)
		if calls := g.node.calls(); !slices.Equal(calls, []string{"apply " + id('a', 1)}) {
			t.Errorf("calls %q", calls)
		}
		if got := g.Counts().Drifted; got != 1 {
			t.Errorf("%d drifts", got)
		}
	})
}

// TestSlowTasks take no more than a twentieth of the time.
func TestSlowTasks(t *testing.T) {
	for took, most := range map[time.Duration]int{time.Millisecond: 100, 100 * time.Millisecond: 51, time.Hour: 1} {
		synctest.Test(t, func(t *testing.T) {
			g, n, ended := newRig(Options{}), 0, make(chan struct{})
			go func() {
				g.every(time.Second, func() { n++; <-time.After(took) })
				close(ended)
			}()
			bubble.Pass(100 * time.Second)
			close(g.stop)
			<-ended
			if n > most || n < most*9/10 {
				t.Errorf("%d times in 100 s, each %v", n, took)
			}
		})
	}
}

// TestFullComparison: every pool is compared whole once a minute, not all at once.
func TestFullComparison(t *testing.T) {
	const pools = 7
	run(t, Options{}, func(g *rig) {
		for n := range pools {
			g.state.put(poolConfig(n))
		}
	}, func(t *testing.T, g *rig) {
		bubble.Pass(5 * time.Minute) // whatever the start has left is over
		g.node.with(func() { g.node.log = nil })
		for range 10 * 30 {
			before := len(g.node.calls())
			bubble.Pass(2 * time.Second)
			if n := len(g.node.calls()) - before; n > 1 {
				t.Fatalf("%d comparisons at once", n)
			}
		}
		seen := map[string]int{}
		for _, call := range g.node.calls() {
			seen[call]++
		}
		for call, n := range seen {
			if n < 9 || n > 11 || len(seen) != pools {
				t.Errorf("%d times %s in ten minutes, %d pools seen", n, call, len(seen))
			}
		}
	})
}

func TestLostEventAndVanishedDeployment(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		g.state.put(poolConfig(1)) // nobody says so
		bubble.Pass(3 * time.Second)
		if _, ok := g.node.applied[id('a', 1)]; !ok {
			t.Error("a pool without an event is not deployed")
		}
	})
}

func TestAdmit(t *testing.T) {
	g := newRig(Options{})
	g.pool(id('a', 2)).deploy("")
	sizes := map[string]lbaas.Sizes{id('a', 1): {Flows: 1}, id('a', 2): {Flows: 1000}, id('a', 3): {Flows: 50}}
	if err := g.Admit(t.Context(), id('a', 1), lbaas.Sizes{Flows: 7, Affinity: true, Sources: 3, Members: 5}, sizes); err != nil {
		t.Fatal(err)
	}
	b := g.node.admitted[0]
	if b.PoolID != id('a', 1) || b.VIP.FlowLimit != 57 || b.VIP.Persistence != loader.SourceIPPersistence ||
		len(b.SNAT) != 2 || len(b.Members) != 5 {
		t.Errorf("asked for %+v", b)
	}
	g.node.refusal = loader.ErrOverBudget
	if err := g.Admit(t.Context(), id('a', 1), lbaas.Sizes{}, nil); !errors.Is(err, loader.ErrOverBudget) {
		t.Errorf("got %v", err)
	}
}
