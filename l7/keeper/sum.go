package keeper

import (
	"qlbaas/l7/control"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
)

// plus adds counters, and no levels. The counters are unsigned and wrap around, so that
// taking away the negative adds.
func plus(a, b control.Stats) control.Stats {
	a.Proxy = a.Proxy.Since(proxy.Stats{}.Since(b.Proxy))
	a.Pool.Past = added(a.Pool.Past, b.Pool.Past)
	members := make([]pool.MemberStats, 0, len(a.Pool.Members))
	at := map[string]int{}
	for _, m := range a.Pool.Members {
		at[m.ID] = len(members)
		members = append(members, m)
	}
	for _, m := range b.Pool.Members {
		if i, there := at[m.ID]; there {
			members[i] = added(members[i], m)
		} else {
			m.Active, m.Open = 0, 0
			members = append(members, m)
		}
	}
	a.Pool.Members = members
	return a
}

func added(a, b pool.MemberStats) pool.MemberStats { return a.Since(pool.MemberStats{}.Since(b)) }

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
