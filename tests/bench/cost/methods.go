package cost

import (
	"context"
	"fmt"

	"qlbaas/loader"
	"qlbaas/tests/bench/table"
)

// methods measures what a new connection costs by LEAST_CONNECTIONS, and by ROUND_ROBIN.
func (b *bench) methods(ctx context.Context) error {
	for _, c := range []struct {
		members int
		bound   float64
	}{{2, 1.1}, {64, 1.3}, {1024, 3}} {
		var by [2]kind
		for i, method := range []loader.Method{loader.RoundRobin, loader.LeastConnections} {
			p, err := b.node.deploy(ctx, method, c.members, loader.DefaultFlowLimit)
			if err != nil {
				return err
			}
			by[i] = kind{
				what: fmt.Sprintf("every SYN new, %d members", c.members), size: smallFrame, clients: endless,
				pool: p, make: syn, opens: true,
			}
		}
		for _, s := range b.stages {
			if err := b.method(s, by, c.bound); err != nil {
				return err
			}
		}
		for _, k := range by {
			if err := k.pool.remove(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// method compares two pools on one hook.
func (b *bench) method(s *stage, by [2]kind, bound float64) error {
	var ns [2][]float64
	for round := range b.rounds() + 1 {
		for i := range by {
			k := by[(round+i)%2]
			var own float64
			err := k.pool.inside(func() (err error) {
				own, _, err = b.compare(s, k, round)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s on %s: %w", k.name(), s.hook, err)
			}
			if round > 0 {
				ns[(round+i)%2] = append(ns[(round+i)%2], own)
			}
		}
	}
	what, turns, least := by[0].name(), s.hook+" ROUND_ROBIN", s.hook+" LEAST_CONNECTIONS"
	b.figure(table.Of(what, turns, "ns", ns[0]))
	b.figure(table.Of(what, least, "ns", ns[1]))
	b.goal(table.AtMost(what, least, turns, ns[1], ns[0], bound))
	return nil
}
