package reconcile

import (
	"context"
	"math"
	"slices"
	"time"
)

// every runs task until Close, with a pause between its end and its next start. A
// task that takes long gets longer pauses, up to ten times as long, so that it
// takes no more than a twentieth of the time.
func (r *Reconciler) every(pause time.Duration, task func()) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			start := time.Now()
			task()
			timer.Reset(max(pause, min(19*time.Since(start), 10*pause)))
		case <-r.stop:
			return
		}
	}
}

func (r *Reconciler) sweep(ctx context.Context) {
	r.every(r.opts.SweepEvery, func() { r.note("sweep", r.node.Sweep(ctx)) })
}

// watch looks for what no event tells: drift on the node, liveness that differs,
// pools without an owner; and compares pool after pool whole, all of them once in
// FullEvery.
func (r *Reconciler) watch(ctx context.Context) {
	share := float64(r.opts.RefreshEvery) / float64(r.opts.FullEvery)
	turn := 0.0
	r.every(r.opts.RefreshEvery, func() {
		drifted, err := r.node.Refresh(ctx)
		r.note("refresh", err)
		for _, id := range drifted {
			r.counts.drifted.Add(1)
			r.log.Warn("pool no longer looks as it was applied", "pool", id)
			r.queue.nudge(id)
		}
		r.alignAll()
		ids, err := r.compare(ctx)
		r.note("compare", err)
		// The turn goes on by this round's share of the pools.
		from := int(turn)
		turn += share * float64(len(ids))
		for i := from; i < int(turn) && len(ids) > 0; i++ {
			r.queue.nudge(ids[i%len(ids)])
		}
		if len(ids) > 0 {
			turn = math.Mod(turn, float64(len(ids)))
		}
	})
}

// alignAll repairs liveness on all pools.
func (r *Reconciler) alignAll() {
	r.mu.Lock()
	pools := make([]*pool, 0, len(r.pools))
	for _, p := range r.pools {
		pools = append(pools, p)
	}
	r.mu.Unlock()
	for _, p := range pools {
		changed, err := r.alignHealth(p)
		r.note("liveness of "+p.id, err)
		if len(changed) == 0 {
			continue
		}
		r.log.Warn("liveness was repaired", "pool", p.id, "members", len(changed))
		p.mu.Lock()
		for _, id := range changed {
			if _, ok := p.members[id]; ok {
				r.statuses.put(r.memberReport(p, id))
			}
		}
		p.mu.Unlock()
	}
}

// compare asks for attempts at pools that one side has and the other has not. It
// returns the pools of the store.
func (r *Reconciler) compare(ctx context.Context) ([]string, error) {
	ids, err := r.state.PoolIDs(ctx)
	if err != nil {
		return nil, err
	}
	deployed, err := r.present()
	if err != nil {
		return nil, err
	}
	r.know(ids, nil)
	for _, id := range r.orphans(ids, deployed) {
		r.queue.nudge(id)
	}
	for _, id := range ids {
		if r.known(id) == nil {
			r.queue.nudge(id)
		}
	}
	return ids, nil
}

// know remembers that the store has pools, and what was deployed before.
func (r *Reconciler) know(ids, deployed []string) {
	for _, id := range deployed {
		if slices.Contains(ids, id) {
			r.pool(id).deploy("")
		}
	}
	r.believe(len(ids))
}

// orphans returns what is deployed and unknown to the store, if it may be removed.
func (r *Reconciler) orphans(ids, deployed []string) []string {
	known := map[string]bool{}
	for _, id := range ids {
		known[id] = true
	}
	var orphans []string
	if r.opts.ReadOnly {
		return nil
	}
	for _, id := range deployed {
		if !known[id] && validID(id) {
			orphans = append(orphans, id)
		}
	}
	r.mu.Lock()
	trusted := r.populated || r.opts.AcceptEmpty
	r.mu.Unlock()
	if len(orphans) > 0 && !trusted {
		r.note("orphans", errEmptyStore)
		return nil
	}
	return orphans
}

// note logs a periodic task's error when it is another one than last time.
func (r *Reconciler) note(task string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	r.mu.Lock()
	before := r.complaints[task]
	if text == "" {
		delete(r.complaints, task)
	} else {
		r.complaints[task] = text
	}
	r.mu.Unlock()
	switch {
	case text == before:
	case err != nil:
		r.log.Error("background task", "task", task, "err", err)
	default:
		r.log.Info("background task works again", "task", task)
	}
}
