package reconcile

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qlbaas/lbaas"
	"qlbaas/loader"
	"qlbaas/tests/bubble"
)

// TestFaultsConverge plays random changes, verdicts and restarts while every n-th
// call to the node and to the store fails. When the faults end, the node must be
// as the store says, with every status true.
func TestFaultsConverge(t *testing.T) {
	const pools = 4
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			g := newRig(Options{})
			g.start(t)
			g.node.set(3 + rng.IntN(5))
			g.state.set(3 + rng.IntN(5))
			for range 200 {
				randomStep(g, rng, rng.IntN(pools))
				bubble.Pass(time.Duration(rng.IntN(300)) * time.Millisecond)
				if rng.IntN(40) == 0 {
					g.restart(t)
				}
			}
			g.node.set(0)
			g.state.set(0)
			bubble.Pass(2 * time.Minute)
			settle()
			g.checkConverged(t)
			g.Close()
		})
	}
}

// restart is a new agent over the same node and store; a probe that knows better
// than the kernel's map died with the old one.
func (g *rig) restart(t *testing.T) {
	node, state := g.node.every, g.state.every
	g.node.set(0)
	g.state.set(0)
	g.Close()
	g.Reconciler, g.checker = New(g.node, Options{}), newChecker()
	g.start(t)
	g.node.set(node)
	g.state.set(state)
}

func randomStep(g *rig, rng *rand.Rand, n int) {
	pool := id('a', n)
	exists := g.state.get(pool).Pool.ID != ""
	switch rng.IntN(8) {
	case 0:
		if exists && g.state.get(pool).VIP == nil {
			g.state.drop(pool)
		}
	case 1, 2:
		if !exists {
			g.state.put(poolConfig(n))
		}
	case 3:
		if exists {
			g.state.change(pool, func(c *lbaas.PoolConfig) {
				if c.VIP != nil {
					c.VIP, c.Port = nil, nil
				} else {
					c.VIP, c.Port = poolConfig(n).VIP, poolConfig(n).Port
				}
			})
		}
	case 4:
		if exists {
			g.state.change(pool, func(c *lbaas.PoolConfig) {
				c.Members[0].Weight = int64(rng.IntN(10))
				c.Members[0].Generation++
				c.Members[0].Status = lbaas.StatusPendingUpdate
				c.Members[1].AdminStateUp = !c.Members[1].AdminStateUp
			})
		}
	case 5:
		if targets := g.checker.Members(pool); len(targets) > 0 {
			g.checker.find(g.Reconciler, pool, targets[rng.IntN(len(targets))].Member, rng.IntN(2) == 0, "x")
		}
	case 6:
		g.node.with(func() { g.node.drifted = append(g.node.drifted, pool) })
	}
	if rng.IntN(10) > 0 { // one event in ten is lost
		g.PoolsChanged(pool)
	}
}

func (g *rig) checkConverged(t *testing.T) {
	t.Helper()
	want := map[string]loader.Balancer{}
	for pool, cfg := range g.state.pools {
		if cfg.VIP == nil {
			if len(g.checker.targets[pool]) > 0 {
				t.Errorf("pool %s is probed without a VIP", pool)
			}
			continue
		}
		b, err := balancer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		want[pool] = b
		for _, m := range g.checker.Members(pool) {
			if up, known := g.node.MemberUp(pool, m.Member); up != m.Up || !known {
				t.Errorf("member %s: kernel %v, probes %v", m.Member, up, m.Up)
			}
		}
		for _, m := range cfg.Members {
			status := lbaas.StatusActive
			if up, _ := g.node.MemberUp(pool, m.ID); m.AdminStateUp && !up {
				status = lbaas.StatusInactive
			}
			if m.Status != status {
				t.Errorf("member %s (admin %v) is %s, want %s", m.ID, m.AdminStateUp, m.Status, status)
			}
		}
		if cfg.Pool.Status != lbaas.StatusActive || cfg.VIP.Status != lbaas.StatusActive || cfg.Pool.Stats.Closed {
			t.Errorf("pool %+v, vip %+v", cfg.Pool, cfg.VIP.State)
		}
	}
	if diff := cmp.Diff(want, g.node.applied, plain); diff != "" {
		t.Error(diff)
	}
}
