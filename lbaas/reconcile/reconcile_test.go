package reconcile

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qlbaas/lbaas"
	"qlbaas/loader"
	"qlbaas/tests/bubble"
)

// run gives fn a started rig in a bubble of fake time, and closes it.
func run(t *testing.T, opts Options, prepare func(g *rig), fn func(t *testing.T, g *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(opts)
		prepare(g)
		g.start(t)
		fn(t, g)
		g.Close()
	})
}

func nothing(*rig) {}

// settle waits until everything asked for has happened and is stored.
func settle() { bubble.Pass(10 * statusGap) }

func shown(s lbaas.State) string {
	return strings.TrimSpace(string(s.Status) + " " + s.StatusDescription)
}

func statusesOf(cfg lbaas.PoolConfig) []string {
	out := []string{shown(cfg.Pool.State)}
	if cfg.VIP != nil {
		out = append(out, shown(cfg.VIP.State))
	}
	for _, m := range cfg.Members {
		out = append(out, shown(m.State))
	}
	for _, m := range cfg.Monitors {
		out = append(out, shown(m.Association.State))
	}
	return out
}

func expect(t *testing.T, g *rig, pool string, statuses ...string) {
	t.Helper()
	if diff := cmp.Diff(statuses, statusesOf(g.state.get(pool))); diff != "" {
		t.Errorf("statuses: %s", diff)
	}
}

func TestCreateChangeDelete(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		a := id('a', 1)
		g.state.put(poolConfig(1))
		g.PoolsChanged(a)
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
		if diff := cmp.Diff(wantedBalancer(), g.node.applied[a], plain); diff != "" {
			t.Error(diff)
		}
		if len(g.checker.targets[a]) != 2 {
			t.Errorf("targets %v", g.checker.targets)
		}

		g.state.change(a, func(c *lbaas.PoolConfig) {
			c.Pool.LBMethod, c.Pool.Status = lbaas.MethodSourceIP, lbaas.StatusPendingUpdate
			c.Members = c.Members[:1]
		})
		g.PoolsChanged(a)
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
		if b := g.node.applied[a]; b.Method != loader.SourceIP || len(b.Members) != 1 {
			t.Errorf("applied %+v", b)
		}

		g.state.drop(a)
		g.PoolsChanged(a)
		settle()
		if len(g.node.applied) != 0 || len(g.checker.targets) != 0 || g.known(a) != nil {
			t.Errorf("left over: %v, %v", g.node.applied, g.checker.targets)
		}
	})
}

// TestPoolWithoutVIP is active at once, and nothing is deployed.
func TestPoolWithoutVIP(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		cfg := poolConfig(1)
		cfg.VIP, cfg.Port = nil, nil
		g.state.put(cfg)
		g.PoolsChanged(cfg.Pool.ID)
		settle()
		expect(t, g, cfg.Pool.ID, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
		if len(g.node.applied) != 0 || len(g.checker.targets) != 0 {
			t.Error("something was deployed")
		}
	})
}

// TestFailure: the cause is told, what served goes on serving, and the attempt is
// repeated until it works.
func TestFailure(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		a := id('a', 1)
		g.state.put(poolConfig(1))
		g.PoolsChanged(a)
		settle()
		g.node.with(func() { g.node.refusal = errors.New("no such bridge") })
		g.state.change(a, func(c *lbaas.PoolConfig) {
			c.Members[1].Weight, c.Members[1].Status, c.Members[1].Generation = 5, lbaas.StatusPendingUpdate, 2
		})
		g.PoolsChanged(a)
		settle()
		why := "ERROR apply pool " + a + ": no such bridge"
		expect(t, g, a, why, "ACTIVE", "ACTIVE", why, "ACTIVE")
		if g.node.applied[a].Members[1].Weight != 1 {
			t.Error("the former configuration is gone")
		}
		views, err := g.Pools(t.Context())
		if err != nil || len(views) != 1 || views[0].State != "ERROR" || views[0].LastError == nil {
			t.Errorf("view %+v, %v", views, err)
		}
		g.node.with(func() { g.node.refusal = nil })
		bubble.Pass(longestPause)
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
		if g.node.applied[a].Members[1].Weight != 5 {
			t.Error("the change was not repeated")
		}
	})
}

// TestFailedCreation puts the VIP in ERROR too: it serves nobody.
func TestFailedCreation(t *testing.T) {
	run(t, Options{}, func(g *rig) { g.node.refusal = errors.New("no") }, func(t *testing.T, g *rig) {
		a := id('a', 1)
		g.state.put(poolConfig(1))
		g.PoolsChanged(a)
		settle()
		why := "ERROR apply pool " + a + ": no"
		expect(t, g, a, why, why, why, why, why)
	})
}

// TestUnservableIsNotRepeated: only a change can help.
func TestUnservableIsNotRepeated(t *testing.T) {
	run(t, Options{FullEvery: 24 * time.Hour}, nothing, func(t *testing.T, g *rig) {
		cfg := poolConfig(1)
		cfg.Network = &lbaas.Network{Header: lbaas.Header{ID: id('f', 1)}}
		g.state.put(cfg)
		a := cfg.Pool.ID
		g.PoolsChanged(a)
		bubble.Pass(time.Hour)
		if got := g.Counts(); got.Failed != 1 {
			t.Errorf("%d attempts", got.Failed)
		}
		if s := g.state.get(a).VIP.StatusDescription; !strings.Contains(s, "provider:physical_network") {
			t.Errorf("description %q", s)
		}
		g.state.change(a, func(c *lbaas.PoolConfig) { c.Network = poolConfig(1).Network })
		g.PoolsChanged(a)
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
	})
}

// TestInvalidIsNotRepeated: neither is what the node calls contradictory.
func TestInvalidIsNotRepeated(t *testing.T) {
	run(t, Options{FullEvery: 24 * time.Hour}, func(g *rig) { g.node.refusal = loader.ErrInvalid }, func(t *testing.T, g *rig) {
		g.state.put(poolConfig(1))
		g.PoolsChanged(id('a', 1))
		bubble.Pass(time.Hour)
		if got := g.Counts(); got.Failed != 1 {
			t.Errorf("%d attempts", got.Failed)
		}
	})
}

// TestCountersSurviveTheVIP: they are saved before the deployment is removed, and
// a half-done removal is ended before the next deployment counts.
func TestCountersSurviveTheVIP(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		a := id('a', 1)
		g.state.log = func(s string) { g.node.with(func() { g.node.note("%s", s) }) }
		g.state.put(poolConfig(1))
		g.PoolsChanged(a)
		settle()
		g.node.with(func() {
			g.node.stats[a] = loader.Stats{Counters: loader.Counters{BytesIn: 10, TotalConnections: 3}}
			g.node.log = nil
		})
		g.state.change(a, func(c *lbaas.PoolConfig) { c.VIP = nil })
		// The removal fails at first; the counters are added once all the same.
		g.node.set(1)
		g.PoolsChanged(a)
		settle()
		g.node.set(0)
		bubble.Pass(longestPause)
		base := g.state.get(a).Pool.Stats
		if base.BytesIn != 10 || base.TotalConnections != 3 || !base.Closed {
			t.Errorf("base %+v", base)
		}
		if first := g.node.calls()[0]; first != "close "+a {
			t.Errorf("first came %q", first)
		}
		g.node.with(func() { g.node.log = nil })
		g.state.change(a, func(c *lbaas.PoolConfig) { c.VIP = poolConfig(1).VIP })
		g.PoolsChanged(a)
		settle()
		want := []string{"remove " + a, "open " + a, "apply " + a}
		if diff := cmp.Diff(want, g.node.calls()[:3]); diff != "" {
			t.Error(diff)
		}
	})
}

// TestVIPReplaced between two attempts: the node starts to count anew, the pool
// does not.
func TestVIPReplaced(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		a := id('a', 1)
		g.state.put(poolConfig(1))
		g.PoolsChanged(a)
		settle()
		g.node.with(func() { g.node.stats[a] = loader.Stats{Counters: loader.Counters{BytesIn: 10}} })
		g.state.change(a, func(c *lbaas.PoolConfig) { c.VIP.ID = id('b', 2) })
		g.PoolsChanged(a)
		settle()
		base := g.state.get(a).Pool.Stats
		if live, _ := g.node.Stats(a); base.BytesIn != 10 || base.Closed || live.BytesIn != 0 {
			t.Errorf("base %+v, live %+v", base, live)
		}
		// Nothing is closed without need.
		calls := len(g.node.calls())
		g.PoolsChanged(a)
		settle()
		if now := g.node.calls(); len(now) != calls+1 {
			t.Errorf("calls %q", now[calls:])
		}
	})
}

// TestMoveOrder: the old pool is left before the new one is applied.
func TestMoveOrder(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		a, b := id('a', 1), id('a', 2)
		old := poolConfig(1)
		other := poolConfig(2)
		other.VIP = nil
		g.state.put(old)
		g.state.put(other)
		g.PoolsChanged(a)
		g.PoolsChanged(b)
		settle()
		g.node.with(func() { g.node.log = nil })
		g.state.change(a, func(c *lbaas.PoolConfig) { c.VIP = nil })
		g.state.change(b, func(c *lbaas.PoolConfig) { c.VIP = old.VIP })
		g.PoolsChanged(b) // an unrelated event came first
		g.PoolsChanged(a, b)
		settle()
		calls := g.node.calls()
		if slices.Index(calls, "remove "+a) > slices.Index(calls, "apply "+b) {
			t.Errorf("calls %q", calls)
		}
	})
}

// TestParallel: pools are worked on side by side, one pool never twice at a time.
func TestParallel(t *testing.T) {
	run(t, Options{Workers: 3}, func(g *rig) {
		g.node.pause = func() { <-time.After(10 * time.Millisecond) }
	}, func(t *testing.T, g *rig) {
		for n := range 20 {
			g.state.put(poolConfig(n))
			g.PoolsChanged(id('a', n))
		}
		for range 50 {
			bubble.Pass(time.Millisecond)
			for n := range 20 {
				g.PoolsChanged(id('a', n))
			}
		}
		bubble.Pass(time.Second)
		if g.node.overlaps > 0 || g.node.most != 3 {
			t.Errorf("%d overlaps, %d at a time", g.node.overlaps, g.node.most)
		}
		if got := len(g.node.calls()); got > 60 {
			t.Errorf("%d attempts for events that could be coalesced", got)
		}
	})
}

func TestForeignIDNeverReachesTheNode(t *testing.T) {
	run(t, Options{}, nothing, func(t *testing.T, g *rig) {
		cfg := poolConfig(1)
		cfg.Pool.ID = "../../../etc"
		g.state.put(cfg)
		g.PoolsChanged(cfg.Pool.ID)
		settle()
		if calls := g.node.calls(); len(calls) != 0 {
			t.Errorf("calls %q", calls)
		}
	})
}
