package cost

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/rlimit"

	"qlbaas/tests/bench/table"
)

// Options of a run.
type Options struct {
	// Quick measures each thing in two rounds and leaves out the million connections.
	Quick bool
}

// rounds that count; one before them warms up.
func (o Options) rounds() int {
	if o.Quick {
		return 2
	}
	return 7
}

// bench is one run.
type bench struct {
	Options
	node   *node
	stages []*stage
	// small has connections enough for many caches, large has room for a million.
	small, large *pool
	report       table.Report
}

// Run measures everything of this package. It must be inside a laboratory (lab.Enter).
func Run(ctx context.Context, o Options) (_ table.Report, err error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return table.Report{}, fmt.Errorf("measure cost: %w", err)
	}
	b := &bench{Options: o}
	defer func() { err = errors.Join(err, b.close()) }()
	if b.node, err = openNode(ctx); err != nil {
		return table.Report{}, fmt.Errorf("measure cost: open node: %w", err)
	}
	for _, hook := range []string{hookXDP, hookTCX} {
		s, err := newStage(hook)
		if err != nil {
			return table.Report{}, fmt.Errorf("measure cost: %w", err)
		}
		b.stages = append(b.stages, s)
	}
	for _, part := range []func(context.Context) error{b.packets, b.methods, b.million} {
		if err := part(ctx); err != nil {
			return b.report, fmt.Errorf("measure cost: %w", err)
		}
	}
	return b.report, nil
}

func (b *bench) close() error {
	var errs []error
	for _, s := range b.stages {
		errs = append(errs, s.close())
	}
	if b.node != nil {
		errs = append(errs, b.node.close())
	}
	return errors.Join(errs...)
}

func (b *bench) figure(f table.Figure) { b.report.Figures = append(b.report.Figures, f) }
func (b *bench) goal(g table.Goal)     { b.report.Goals = append(b.report.Goals, g) }

func (b *bench) note(format string, args ...any) {
	b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
}
