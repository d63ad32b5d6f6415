package cost

import (
	"context"
	"fmt"
	"slices"

	"qlbaas/tests/bench/table"
)

// mostMembers are what the pools have in which new connections are opened; those that are not
// meant to get any have no weight.
const mostMembers = 1024

// employ gives connections to the first members only.
func (p *pool) employ(ctx context.Context, members int) error {
	p.wanted.Members = slices.Clone(p.wanted.Members) // the node still looks at these
	for m := range p.wanted.Members {
		p.wanted.Members[m].Weight = 0
		if m < members {
			p.wanted.Members[m].Weight = 1
		}
	}
	p.employed = members
	if err := p.apply(ctx); err != nil {
		return fmt.Errorf("employ %d members: %w", members, err)
	}
	return nil
}

// choices measures what a new connection costs when it goes to the member with the fewest, and
// when members take turns.
func (b *bench) choices(ctx context.Context, s *stage) error {
	if s.subject == subjectOutside {
		return nil // which opens none
	}
	for _, c := range []struct {
		members int
		bound   float64 // of what the fewest cost, in what turns do
	}{{2, 1.1}, {64, 1.3}, {mostMembers, 3}} {
		by := kind{
			what: fmt.Sprintf("every SYN new, %d members", c.members), size: smallFrame, clients: endless,
			pool: b.turns, make: syn, opens: true,
		}
		least := by
		least.pool = b.least
		for _, p := range []*pool{b.turns, b.least} {
			if err := p.employ(ctx, c.members); err != nil {
				return err
			}
		}
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
