package pools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"qlbaas/tests/bench/table"
	"qlbaas/tests/lab"
)

// Options of a run.
type Options struct {
	// Quick makes few pools, and says so.
	Quick bool
	// Log is told what is done; nil is silent.
	Log *slog.Logger
}

// thousand is how many pools the figures are about.
const thousand = 1000

// How many there are of everything.
type scale struct {
	// processes of HAProxy that are really there, a multiple of peerBatches.
	processes int
	// timed pools are made one after the other, each when the last one serves.
	timed int
	// crowd is how many pools there are before others are timed among them; they come in
	// batches, and no further one begins when it took too long.
	crowd, batch int
	longest      time.Duration
}

func (o Options) scale() scale {
	if o.Quick {
		return scale{processes: 8, timed: 8, crowd: 27, batch: 6, longest: 10 * time.Second}
	}
	return scale{processes: 48, timed: 100, crowd: thousand + 1, batch: 100, longest: time.Minute}
}

// Who is measured.
const (
	ours    = "qlbaas"
	haproxy = "haproxy"
)

// bench is one run.
type bench struct {
	Options
	scale
	*lab.Tutorial
	dir    string
	client *visitor
	agent  *agent
	made   int // pools
	// introducing is held while somebody uses hosts' netlink.
	introducing sync.Mutex
	report      table.Report
}

// Run measures everything of this package. It must be inside a laboratory (lab.Enter).
func Run(ctx context.Context, o Options) (_ table.Report, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	b := &bench{Options: o, scale: o.scale()}
	l, err := lab.New(lab.Options{Prefix: "pools-"})
	if err != nil {
		return table.Report{}, fmt.Errorf("measure pools: %w", err)
	}
	defer func() { err = errors.Join(err, b.close(l)) }()
	for _, part := range []func(context.Context) error{
		func(context.Context) error { return b.build(l) },
		b.measureHAProxy, b.startAgent, b.measureOurs,
	} {
		if err := part(ctx); err != nil {
			return b.report, fmt.Errorf("measure pools: %w", err)
		}
	}
	b.goals()
	return b.report, nil
}

// close takes everything away. Pools go with the private world: to remove a thousand of
// them one by one would take longer than to measure them.
func (b *bench) close(l *lab.Lab) error {
	var errs []error
	if b.agent != nil {
		errs = append(errs, b.agent.stop())
	}
	errs = append(errs, l.Close())
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

func (b *bench) figure(f table.Figure) { b.report.Figures = append(b.report.Figures, f) }

func (b *bench) note(format string, args ...any) {
	b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
}

// figureOf is the only one of its name and subject.
func (b *bench) figureOf(what, who string) float64 {
	for _, f := range b.report.Figures {
		if f.What == what && f.Who == who {
			return f.Median
		}
	}
	return 0
}

// What the figures are called.
const (
	private  = "private memory, one idle pool"
	whole    = "memory with the kernel's, one idle pool"
	kernel   = "of that in the kernel"
	serving  = "create to serving"
	servingX = "create to serving, p99"

	alone = ""
	among = ", among many pools"
)

// goals compares.
func (b *bench) goals() {
	own, peer := []float64{b.figureOf(whole, ours)}, []float64{b.figureOf(private, haproxy)}
	full := []float64{b.figureOf(whole, haproxy)}
	for _, bound := range []float64{1.0 / 5, 1.0 / 10} {
		b.goal(table.AtMost("idle pool, all its memory to the process's alone", ours, haproxy, own, peer, bound))
	}
	if full[0] > peer[0] { // else what others gave back meanwhile is in it
		b.goal(table.AtMost("idle pool, all memory of both", ours, haproxy, own, full, 1.0/5))
	}
	for _, where := range []string{alone, among} {
		p99 := []float64{b.figureOf(servingX+where, ours)}
		b.goal(table.AtMost(servingX+where, ours, "100 ms", p99, []float64{100}, 1))
	}
}

func (b *bench) goal(g table.Goal) { b.report.Goals = append(b.report.Goals, g) }
