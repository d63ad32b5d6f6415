package reconcile

import (
	"slices"
	"testing"
	"time"

	"qlbaas/healthd"
	"qlbaas/lbaas"
	"qlbaas/tests/bubble"
)

func withPool(g *rig) { g.state.put(poolConfig(1)) }

// TestVerdict goes to the data plane within the call, to the store soon after.
func TestVerdict(t *testing.T) {
	run(t, Options{}, withPool, func(t *testing.T, g *rig) {
		a, m := id('a', 1), id('e', 17)
		settle()
		before := time.Now()
		g.checker.find(g.Reconciler, a, m, false, "HTTP: status 503")
		if up, known := g.node.MemberUp(a, m); up || !known || time.Since(before) != 0 {
			t.Error("not in the data plane when SetUp returned")
		}
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "INACTIVE HTTP: status 503", "ACTIVE", "ACTIVE")
		// A change by the user leaves it down, with its reason.
		g.state.change(a, func(c *lbaas.PoolConfig) {
			c.Members[0].Weight, c.Members[0].Generation, c.Members[0].Status = 9, 2, lbaas.StatusPendingUpdate
		})
		g.PoolsChanged(a)
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "INACTIVE HTTP: status 503", "ACTIVE", "ACTIVE")
		g.checker.find(g.Reconciler, a, m, true, "")
		settle()
		expect(t, g, a, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
	})
}

// TestUnprobed: without a monitor, or admin-down, a member is ACTIVE whatever the
// kernel's map says.
func TestUnprobed(t *testing.T) {
	for name, edit := range map[string]func(*lbaas.PoolConfig){
		"no monitor":   func(c *lbaas.PoolConfig) { c.Monitors = nil },
		"monitor down": func(c *lbaas.PoolConfig) { c.Monitors[0].Monitor.AdminStateUp = false },
		"member down":  func(c *lbaas.PoolConfig) { c.Members[0].AdminStateUp = false },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Options{}, withPool, func(t *testing.T, g *rig) {
				a := id('a', 1)
				g.checker.find(g.Reconciler, a, id('e', 17), false, "x")
				settle()
				g.state.change(a, edit)
				g.PoolsChanged(a)
				settle()
				if s := statusesOf(g.state.get(a))[2]; s != "ACTIVE" {
					t.Errorf("status %q", s)
				}
			})
		})
	}
}

// TestLivenessIsRepaired after a write that failed, and after a foreign hand.
func TestLivenessIsRepaired(t *testing.T) {
	run(t, Options{}, withPool, func(t *testing.T, g *rig) {
		a, m := id('a', 1), id('e', 17)
		g.node.set(1)
		g.checker.find(g.Reconciler, a, m, false, "x")
		if up, _ := g.node.MemberUp(a, m); !up {
			t.Fatal("the fault did not act")
		}
		g.node.set(0)
		bubble.Pass(3 * time.Second)
		if up, _ := g.node.MemberUp(a, m); up {
			t.Error("the failed write was not repeated")
		}
		expect(t, g, a, "ACTIVE", "ACTIVE", "INACTIVE x", "ACTIVE", "ACTIVE")
		g.node.with(func() { g.node.up[a][m] = true })
		bubble.Pass(3 * time.Second)
		if up, _ := g.node.MemberUp(a, m); up {
			t.Error("the foreign change stayed")
		}
	})
}

// TestVerdictsOfStrangers change nothing.
func TestVerdictsOfStrangers(t *testing.T) {
	run(t, Options{}, withPool, func(t *testing.T, g *rig) {
		settle()
		writes := g.state.writes
		g.SetUp(healthd.Verdict{Pool: id('a', 9), Member: id('e', 1)})
		g.SetUp(healthd.Verdict{Pool: id('a', 1), Member: id('e', 99)})
		settle()
		if g.state.writes != writes || slices.Contains(g.node.calls(), "apply "+id('a', 9)) {
			t.Error("a stranger's verdict was acted upon")
		}
	})
}

// TestFlapping: a thousand members that flap for a second cost few transactions,
// and the last word is right.
func TestFlapping(t *testing.T) {
	run(t, Options{}, func(g *rig) {
		cfg := poolConfig(1)
		member := cfg.Members[0]
		cfg.Members = nil
		for n := range 1000 {
			member.ID = id('e', 1000+n)
			cfg.Members = append(cfg.Members, member)
		}
		g.state.put(cfg)
	}, func(t *testing.T, g *rig) {
		settle()
		before := g.state.writes
		for round := range 10 {
			for n := range 1000 {
				g.checker.find(g.Reconciler, id('a', 1), id('e', 1000+n), round%2 == 0, "x")
			}
			bubble.Pass(100 * time.Millisecond)
		}
		settle()
		if n := g.state.writes - before; n > 20 {
			t.Errorf("%d transactions", n)
		}
		for _, m := range g.state.get(id('a', 1)).Members {
			if m.Status != lbaas.StatusInactive {
				t.Fatalf("member %s is %s", m.ID, m.Status)
			}
		}
	})
}
