package cost

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/rlimit"

	"qlbaas/loader"
	"qlbaas/tests/bench/table"
)

// Options of a run.
type Options struct {
	// Quick measures each thing in two rounds, and leaves out the million connections.
	Quick bool
}

// rounds that count; one before them warms up.
func (o Options) rounds() int {
	if o.Quick {
		return 2
	}
	return 5
}

// How many clients there are.
const (
	few      = 1 << 16
	many     = 1 << 19
	everyone = 1 << 20
	endless  = 1 << 24 // more than can come
)

// bench is one run.
type bench struct {
	Options
	node *node
	// small, large and huge have few flows, many, and everyone's. Turns and least are named
	// after their methods, and have none to begin with.
	small, large, huge, turns, least *pool
	report                           table.Report
}

// Run measures everything of this package. It must be inside a laboratory (lab.Enter).
func Run(ctx context.Context, o Options) (_ table.Report, err error) {
	b := &bench{Options: o}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.build(ctx); err != nil {
		return b.report, fmt.Errorf("prepare measuring of cost: %w", err)
	}
	for _, hook := range []string{loader.HookXDP, loader.HookTCX} {
		if err := b.hook(ctx, hook); err != nil {
			return b.report, fmt.Errorf("measure cost on %s: %w", hook, err)
		}
	}
	if !o.Quick {
		if err := b.memory(b.huge); err != nil {
			return b.report, fmt.Errorf("measure memory: %w", err)
		}
	}
	return b.report, nil
}

// build deploys the pools and fills them.
func (b *bench) build(ctx context.Context) (err error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return err
	}
	if b.node, err = newNode(); err != nil {
		return err
	}
	b.small = b.node.add(loader.RoundRobin, 32, 2*few)
	b.turns = b.node.add(loader.RoundRobin, mostMembers, loader.DefaultFlowLimit)
	b.least = b.node.add(loader.LeastConnections, mostMembers, loader.DefaultFlowLimit)
	sizes := map[*pool]uint32{b.small: few}
	if !b.Quick {
		b.large = b.node.add(loader.RoundRobin, 32, 2*many)
		b.huge = b.node.add(loader.RoundRobin, 32, everyone)
		sizes[b.large], sizes[b.huge] = many, everyone
	}
	if err := b.node.use(ctx, loader.HookXDP); err != nil {
		return err
	}
	for p, flows := range sizes {
		if err := p.grow(flows); err != nil {
			return err
		}
	}
	return b.small.within(func() error {
		_, err := b.small.connect(newHandshake(stamps...), stamped)
		return err
	})
}

// hook measures who can be measured with pools on that hook.
func (b *bench) hook(ctx context.Context, hook string) error {
	if err := b.node.use(ctx, hook); err != nil {
		return err
	}
	subjects := map[string][]string{
		loader.HookXDP: {subjectXDP}, loader.HookTCX: {subjectTCX, subjectOutside},
	}[hook]
	for _, subject := range subjects {
		if b.small.programs[subject] == nil {
			b.note("%s: there is no such program", subject)
			continue
		}
		if err := b.subject(ctx, subject); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) subject(ctx context.Context, subject string) (err error) {
	s, err := newStage(subject)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	b.sizes(s)
	steps := []func(context.Context, *stage) error{b.packets, b.choices, b.million}
	if subject == subjectXDP {
		steps = append(steps, b.live)
	}
	for _, step := range steps {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) close() error {
	if b.node == nil {
		return nil
	}
	return b.node.close()
}

func (b *bench) figure(f table.Figure) { b.report.Figures = append(b.report.Figures, f) }
func (b *bench) goal(g table.Goal)     { b.report.Goals = append(b.report.Goals, g) }

func (b *bench) note(format string, args ...any) {
	b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
}
