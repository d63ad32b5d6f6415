package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/bench/table"
)

// Options of Run.
type Options struct {
	// Quick measures one round, to see that everything works.
	Quick bool
	// Rows are the groups of rows to measure, as in "single,bulk"; empty means all.
	Rows string
	// Log is told what is being measured; nil is silent.
	Log *slog.Logger
}

// runner measures, row by row.
type runner struct {
	*laboratory
	Options
	report table.Report
	// strange are notes that were made already, by row and subject.
	strange map[string]bool
}

// Run builds the laboratory, measures everything and takes it away.
func Run(ctx context.Context, o Options) (_ table.Report, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	l, err := build(ctx)
	if err != nil {
		return table.Report{}, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r := &runner{laboratory: l, Options: o, strange: map[string]bool{}}
	r.report.Conditions = map[string]string{}
	if err := r.conditions(ctx); err != nil {
		return r.report, err
	}
	for _, group := range []struct {
		name    string
		measure func(context.Context) error
	}{{"single", r.single}, {"many", r.many}, {"bulk", r.bulkRows}, {"anew", r.anew}, {"two", r.two}, {"least", r.least}, {"long", r.long}} {
		if o.Rows != "" && !slices.Contains(strings.Split(o.Rows, ","), group.name) {
			continue
		}
		if err := group.measure(ctx); err != nil {
			return r.report, err
		}
	}
	for _, c := range r.configurations {
		r.note("%s", c)
	}
	return r.report, nil
}

func (r *runner) rounds() int {
	if r.Quick {
		return 1
	}
	return 5
}

func (r *runner) note(format string, values ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, values...))
}

// goal adds one to the report.
func (r *runner) goal(g table.Goal) { r.report.Goals = append(r.report.Goals, g) }

// row is a line of the table: everybody under the same load.
type row struct {
	name string
	who  []*subject
	load load
}

// samples are a row's, by subject, round by round.
type samples map[string][]sample

// of is one figure of a subject's rounds.
func (s samples) of(who string, figure func(sample) float64) (all []float64) {
	for _, m := range s[who] {
		all = append(all, figure(m))
	}
	return all
}

// named picks subjects, in this order.
func (l *laboratory) named(names ...string) (all []*subject) {
	for _, n := range names {
		i := slices.IndexFunc(l.subjects, func(s *subject) bool { return s.name == n })
		all = append(all, l.subjects[i])
	}
	return all
}

// measure lets everybody have his turn in each round.
func (r *runner) measure(ctx context.Context, w row) (samples, error) {
	if w.load.alone {
		var one, all unix.CPUSet
		one.Set(lastCPU())
		for i := range runtime.NumCPU() {
			all.Set(i)
		}
		if err := r.pin(one); err != nil {
			return nil, err
		}
		defer func() { _ = r.pin(all) }() // who has ended is found out by the next row
	}
	all := samples{}
	for _, s := range w.who {
		if r.Quick && !w.load.alone {
			break
		}
		if err := r.warm(ctx, s, w.load); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", w.name, s.name, err)
		}
	}
	for round := range r.rounds() {
		for i := range w.who {
			s := w.who[(i+round)%len(w.who)]
			m, err := r.run(ctx, s, w.load)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", w.name, s.name, err)
			}
			r.Log.Info("measured", "row", w.name, "round", round, "who", s.name,
				"rate", int(m.rate), "busy", m.busy, "p50", m.p50, "p99", m.p99, "rejects", m.rejects, "counts", m.counts)
			r.judge(w, s, m)
			all[s.name] = append(all[s.name], m)
		}
	}
	return all, nil
}

// judge notes what makes a sample doubtful.
func (r *runner) judge(w row, s *subject, m sample) {
	if m.trouble != "" {
		r.doubt(w.name, s.name, fmt.Errorf("wrk: %s (of %.0f requests)", m.trouble, m.requests))
	}
	if m.rejects > 0 && (!w.load.close || w.load.alone) { // others have a figure of it
		r.doubt(w.name, s.name, fmt.Errorf("members refused %d segments by their timestamps", m.rejects))
	}
	packets := m.requests * 2
	if w.load.close {
		packets = m.requests * 7 // SYN, its answer, request, answer, two FINs, the last ACK
		if s.way == byOutside {
			// The ends of a connection are for the namespace; what is between them is not.
			if m.counts.crossed > m.counts.forwarded*9/10 {
				r.doubt(w.name, s.name, fmt.Errorf("%d of %d packets entered the namespace", m.counts.crossed, m.counts.forwarded))
			}
			return
		}
	}
	if err := s.strayed(m.counts, packets); err != nil {
		r.doubt(w.name, s.name, err)
	}
}

// doubt notes what is wrong with a figure, the first time.
func (r *runner) doubt(what, who string, err error) {
	if key := what + who; !r.strange[key] {
		r.strange[key] = true
		r.note("DOUBTFUL: %s of %s: %s", what, who, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// figures adds what was measured of everybody.
func (r *runner) figures(w row, what, unit string, all samples, figure func(sample) float64) {
	for _, s := range w.who {
		r.report.Figures = append(r.report.Figures, table.Of(what, s.name, unit, all.of(s.name, figure)))
	}
}

// seconds of one measurement.
func (r *runner) seconds(full int) int {
	if r.Quick {
		return 1
	}
	return full
}

func bulkTime(quick bool) time.Duration {
	if quick {
		return 200 * time.Millisecond
	}
	return 250 * time.Millisecond
}
