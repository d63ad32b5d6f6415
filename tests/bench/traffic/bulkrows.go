package traffic

import (
	"context"
	"fmt"

	"qlbaas/tests/bench/table"
)

// segment is the longest packet that the kernel hands on as one.
const segment = 64 << 10

// bulkRows is how fast bytes pass.
func (r *runner) bulkRows(ctx context.Context) error {
	var who []*subject
	for _, s := range r.named(crowd...) {
		if s.bulk != nil {
			who = append(who, s)
		}
	}
	for _, flows := range []int{1, 8} {
		for _, up := range []bool{false, true} {
			how := bulkLoad{flows: flows, upload: up, time: bulkTime(r.Quick)}
			if err := r.bulkRow(ctx, who, how); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) bulkRow(ctx context.Context, who []*subject, how bulkLoad) error {
	what := fmt.Sprintf("bulk download, %d flows", how.flows)
	if how.upload {
		what = fmt.Sprintf("bulk upload, %d flows", how.flows)
	}
	all := map[string][]float64{}
	warm := 1
	if r.Quick {
		warm = 0
	}
	for round := range r.rounds() + warm {
		for i := range who {
			s := who[(i+round)%len(who)]
			m, err := r.move(ctx, s, how)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", what, s.name, err)
			}
			r.Log.Info("measured", "row", what, "round", round, "who", s.name, "rate", int(m.rate), "counts", m.counts)
			if round < warm {
				continue
			}
			if err := s.strayed(m.counts, float64(m.bytes)/segment); err != nil {
				r.doubt(what, s.name, err)
			}
			all[s.name] = append(all[s.name], m.rate)
		}
	}
	for _, s := range who {
		r.report.Figures = append(r.report.Figures, table.Of(what, s.name, "MB/s", all[s.name]))
	}
	for _, s := range who {
		if !s.ours {
			continue
		}
		for _, g := range []struct {
			against string
			bound   float64
		}{{floorOf[s.name], 0.97}, {direct, 0.95}, {haproxyTCP, 2}} {
			r.goal(table.AtLeast(what, s.name, g.against, all[s.name], all[g.against], g.bound))
		}
	}
	return nil
}
