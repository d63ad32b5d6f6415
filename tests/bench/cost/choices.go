package cost

import (
	"fmt"

	"qlbaas/loader"
	"qlbaas/tests/bench/table"
)

// contest is between two pools of the same members: one gives connections to them in turns, the
// other to the one with the fewest.
type contest struct {
	members      int
	turns, least *pool
	bound        float64 // of what least costs, in what turns does
}

func (b *bench) addContests() {
	for _, c := range []contest{{members: 2, bound: 1.1}, {members: 64, bound: 1.3}, {members: 1024, bound: 3}} {
		c.turns = b.node.add(loader.RoundRobin, c.members, loader.DefaultFlowLimit)
		c.least = b.node.add(loader.LeastConnections, c.members, loader.DefaultFlowLimit)
		b.contests = append(b.contests, c)
	}
}

// choices measures what a new connection costs by LEAST_CONNECTIONS, and by ROUND_ROBIN.
func (b *bench) choices(s *stage) error {
	if s.subject == subjectOutside {
		return nil // which opens none
	}
	for _, c := range b.contests {
		by := kind{
			what: fmt.Sprintf("every SYN new, %d members", c.members), size: smallFrame, clients: endless,
			pool: c.turns, make: syn, opens: true,
		}
		least := by
		least.pool = c.least
		found, err := b.measure(s, []kind{by, least})
		if err != nil {
			return err
		}
		turns, fewest := s.subject+" ROUND_ROBIN", s.subject+" LEAST_CONNECTIONS"
		b.figure(table.Of(by.name(), turns, "ns", found[0].own))
		b.figure(table.Of(by.name(), fewest, "ns", found[1].own))
		b.goal(table.AtMost(by.name(), fewest, turns, found[1].own, found[0].own, c.bound))
	}
	return nil
}
