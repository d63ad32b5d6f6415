package reconcile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"qlbaas/lbaas"
	"qlbaas/loader"
)

func TestPools(t *testing.T) {
	run(t, Options{}, func(g *rig) {
		bare := poolConfig(2)
		bare.VIP = nil
		g.state.put(poolConfig(1))
		g.state.put(bare)
	}, func(t *testing.T, g *rig) {
		settle()
		// Deployed and unknown: seen until the next comparison removes it.
		g.node.with(func() { g.node.applied[id('a', 3)] = loader.Balancer{} })
		got, err := g.Pools(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []PoolView{
			{ID: id('a', 1), State: "ACTIVE", Deployed: true, VIP: "172.16.100.11:80", Hook: "tcx", Generation: 7, MembersTotal: 2},
			{ID: id('a', 2), State: "ACTIVE", MembersUp: 2, MembersTotal: 2},
			{ID: id('a', 3), State: "ORPHAN", Deployed: true, Hook: "tcx", Generation: 7},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCounters(t *testing.T) {
	run(t, Options{}, func(g *rig) {
		base := lbaas.StatsBase{Counters: lbaas.Counters{BytesIn: 5}}
		deployed, closed := poolConfig(1), poolConfig(2)
		deployed.Pool.Stats = base
		closed.Pool.Stats, closed.VIP = base, nil
		closed.Pool.Stats.Closed = true
		g.state.put(deployed)
		g.state.put(closed)
	}, func(t *testing.T, g *rig) {
		live := loader.Stats{Counters: loader.Counters{BytesIn: 7, TotalConnections: 1}}
		g.node.with(func() {
			g.node.stats[id('a', 1)] = live
			// Its counters are in the base already; it is only not removed yet.
			g.node.applied[id('a', 2)], g.node.stats[id('a', 2)] = loader.Balancer{}, live
		})
		got, err := g.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []PoolCounters{
			{PoolID: id('a', 1), Base: lbaas.Counters{BytesIn: 5}, Live: &live},
			{PoolID: id('a', 2), Base: lbaas.Counters{BytesIn: 5}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if c, ok := g.PoolStats(t.Context(), id('a', 1)); !ok || c.BytesIn != 7 {
			t.Errorf("live %+v, %v", c, ok)
		}
		if _, ok := g.PoolStats(t.Context(), id('a', 3)); ok {
			t.Error("counters of nothing")
		}
	})
}
