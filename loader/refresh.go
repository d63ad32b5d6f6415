package loader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"qlbaas/loader/change"
)

// lookTime bounds one Refresh: a node with very many pools looks at some of them at
// a time.
const lookTime = 100 * time.Millisecond

// looks remembers where the last Refresh stopped.
type looks struct {
	sync.Mutex
	last string
}

// Refresh looks for what nobody tells: it compares pools with what was applied to
// them and returns the ids of those that differ and need Apply, and it mends what all
// pools share. It looks at some pools per call, those that were not looked at for
// longest, and at each for about a millisecond; pools that an operation is at work on
// are left to it.
func (n *Node) Refresh(ctx context.Context) (drifted []string, err error) {
	n.looks.Lock()
	defer n.looks.Unlock()
	if err := n.ensureHome(); err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	if err := n.ensureSharedPins(ctx); err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	end := time.Now().Add(lookTime)
	for _, id := range after(n.known(), n.looks.last) {
		if err := ctx.Err(); err != nil {
			return drifted, fmt.Errorf("refresh: %w", err)
		}
		n.looks.last = id
		if n.differs(ctx, id) {
			drifted = append(drifted, id)
		}
		if time.Now().After(end) {
			break
		}
	}
	return drifted, nil
}

// after sorts ids so that those after last come first.
func after(ids []string, last string) []string {
	slices.Sort(ids)
	at, found := slices.BinarySearch(ids, last)
	if found {
		at++
	}
	return append(ids[at:], ids[:at]...)
}

// differs compares one pool with what was applied to it. An error is a difference,
// too: Apply will meet it and report it.
func (n *Node) differs(ctx context.Context, id string) bool {
	p := n.find(id)
	if p == nil || !p.operation.TryLock() {
		return false
	}
	defer p.operation.Unlock()
	wanted := p.appliedBalancer()
	if wanted == nil {
		return false
	}
	compare := func() error { return n.ensureAll(change.DryRun(ctx), p, wanted) }
	err := compare()
	if err != nil && p.verdictsMoved() {
		err = compare()
	}
	var drift change.Drift
	switch {
	case err != nil && p.verdictsMoved():
		return false // a generation is due already: the next look will tell
	case errors.As(err, &drift):
		p.log.Info("the pool is not as wanted", "mend", drift.Change)
	case err != nil:
		p.log.Info("the pool cannot be compared with what is wanted", "err", err)
	}
	return err != nil
}

// verdictsMoved tells whether a member's liveness has changed since a generation was last
// made of it, or since verdictsMoved was last asked: the pool then differs from what is
// wanted only until that generation is written.
func (p *pool) verdictsMoved() bool {
	p.data.Lock() // a verdict that is being given has been noted after this
	defer p.data.Unlock()
	verdicts := p.verdicts.Load()
	moved := p.dirty.Load() || verdicts != p.compared
	p.compared = verdicts
	return moved
}

func (p *pool) appliedBalancer() *Balancer {
	p.build.Lock()
	defer p.build.Unlock()
	return p.wanted
}
