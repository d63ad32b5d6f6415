package healthd

import (
	"context"
	"sync/atomic"
	"time"
)

// The beat of the pulse, and the gap between two beats from which on the process
// counts as having stood still. The gap is below the shortest timeout of a
// monitor (1 s), and far above what a busy machine does to a timer.
const (
	beat   = 250 * time.Millisecond
	maxGap = 750 * time.Millisecond
)

// pulse notices that this process did not run for a while: stopped by a signal,
// starved of CPU, frozen with its cgroup or machine. Time went on meanwhile for the
// members, so a probe that was under way cannot be held against them: its deadline
// may have passed unwatched, or the peer may have given up on us.
//
// Comparing a probe's end with its deadline would not do: a stop may end just
// before the deadline, or make the member close the connection before it.
type pulse struct {
	begin time.Time
	// Both in nanoseconds since begin, on the monotonic clock: the latest beat, and
	// the end of the latest gap (0 = there was none).
	latest, gapEnd atomic.Int64
}

func newPulse() *pulse { return &pulse{begin: time.Now()} }

// run beats until ctx ends.
func (p *pulse) run(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.beatAt(time.Since(p.begin))
		}
	}
}

func (p *pulse) beatAt(now time.Duration) {
	if now-time.Duration(p.latest.Load()) > maxGap {
		p.gapEnd.Store(int64(now))
	}
	p.latest.Store(int64(now))
}

// stalledSince reports whether the process stood still at any time since start.
func (p *pulse) stalledSince(start time.Time) bool {
	return p.stalled(start.Sub(p.begin), time.Since(p.begin))
}

// stalled does the same on times since begin. The prober may be the first to run
// after a stop, before the next beat, hence the look at the beat that is missing.
func (p *pulse) stalled(start, now time.Duration) bool {
	overdue := now-time.Duration(p.latest.Load()) > maxGap
	return overdue || time.Duration(p.gapEnd.Load()) > start
}
