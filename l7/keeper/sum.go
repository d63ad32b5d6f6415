package keeper

import (
	"qlbaas/l7/control"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
)

// Counters are unsigned and wrap around, so that taking away the negative adds.

// plus adds counters, and no levels.
func plus(a, b control.Stats) control.Stats {
	members := make([]pool.MemberStats, 0, len(a.Pool.Members))
	at := map[string]int{}
	for _, m := range a.Pool.Members {
		at[m.ID] = len(members)
		members = append(members, m)
	}
	for _, m := range b.Pool.Members {
		if i, there := at[m.ID]; there {
			members[i] = members[i].Since(pool.MemberStats{}.Since(m))
		} else {
			m.Active, m.Open = 0, 0
			members = append(members, m)
		}
	}
	a.Proxy = a.Proxy.Since(proxy.Stats{}.Since(b.Proxy))
	// The rest of the pool's, whatever that is.
	learned := a.Pool.Learned
	a.Pool.Members, b.Pool.Members = nil, nil
	a.Pool = control.PoolSince(a.Pool, control.PoolSince(pool.Stats{}, b.Pool))
	a.Pool.Members, a.Pool.Learned = members, learned
	return a
}

// withLevels adds the levels that plus leaves out; s has all of the members of b.
func withLevels(s, b control.Stats) control.Stats {
	s.Proxy.Clients += b.Proxy.Clients
	s.Pool.Past.Active += b.Pool.Past.Active
	s.Pool.Past.Open += b.Pool.Past.Open
	of := map[string]pool.MemberStats{}
	for _, m := range b.Pool.Members {
		of[m.ID] = m
	}
	for i, m := range s.Pool.Members {
		if level, there := of[m.ID]; there {
			s.Pool.Members[i].Active += level.Active
			s.Pool.Members[i].Open += level.Open
			s.Pool.Members[i].Up = level.Up
		}
	}
	return s
}
