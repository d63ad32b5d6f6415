package healthd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// watch is the life of one check on one member: wait, take a slot, probe, record,
// until ctx ends. It is the only goroutine that probes for k, so a check never has
// two probes in flight.
func (c *Checker) watch(ctx context.Context, m *member, k *check, at endpoint) {
	slow := false
	wait := spread(k.spec.delay())
	for c.pause(ctx, wait, k.spec.delay()) && c.slots.take(ctx, slow) {
		p, timedOut := c.probeOnce(ctx, at, k.spec)
		c.slots.give(slow)
		c.record(ctx, m, k, p)
		slow = timedOut
		wait = k.spec.delay()
	}
}

// pause waits d; false means that ctx ended first. If this process stood still
// meanwhile, every check is due at this moment: it then spreads them anew.
func (c *Checker) pause(ctx context.Context, d, delay time.Duration) bool {
	due := time.Now().Add(d)
	if !sleep(ctx, d) {
		return false
	}
	if time.Since(due) < maxGap {
		return true
	}
	return sleep(ctx, spread(delay))
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// spread is the random wait that keeps checks that began together from probing
// together. Its bound is part of the promised time to down.
func spread(delay time.Duration) time.Duration {
	return rand.N(min(delay, time.Second))
}

// probeOnce runs one probe and judges it. timedOut is true when the member let the
// whole timeout pass.
func (c *Checker) probeOnce(ctx context.Context, at endpoint, spec Check) (p Probe, timedOut bool) {
	p.At = time.Now()
	bounded, cancel := context.WithTimeout(ctx, spec.timeout())
	defer cancel()
	err := c.probe(bounded, at, spec)
	p.Took = time.Since(p.At)
	if err == nil {
		p.Result = Passed
		return p, false
	}
	p.Result, p.Reason = Failed, err.Error()
	if fault := (*probeError)(nil); errors.As(err, &fault) && fault.local {
		p.Result = Void
	} else if c.pulse.stalledSince(p.At) {
		p.Result, p.Reason = Void, "this process stood still during the probe: "+p.Reason
	}
	return p, errors.Is(err, os.ErrDeadlineExceeded)
}

// record feeds a probe to its check and tells what follows for the member. A probe
// of a check that was dropped or changed meanwhile counts for nothing.
func (c *Checker) record(ctx context.Context, m *member, k *check, p Probe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	k.probes.add(p)
	if p.Result == Void {
		c.warnVoid(m, k, p)
	}
	if !k.state.step(p.Result, k.spec.MaxRetries) {
		return
	}
	reason := fmt.Sprintf("%s: passed %d times in a row", k.spec.Type, rise)
	if !k.state.up {
		reason = fmt.Sprintf("%s: %s", k.spec.Type, p.Reason)
	}
	m.report.tell(m.up(), reason)
}

// warnVoid logs void probes, seldom: when they come, every check has them.
func (c *Checker) warnVoid(m *member, k *check, p Probe) {
	c.voidLines.Do(func() {
		c.log.Warn("probe is void; further ones are not logged for a while",
			"pool", m.report.pool, "member", m.report.member, "check", k.spec.ID,
			"reason", p.Reason, "silent_for", voidInterval)
	})
}
