package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"qlbaas/lbaas"
	"qlbaas/loader/router"
)

// routers is what the reconciler remembers of all routers: who wants an attempt, and
// what the last one said.
type routers struct {
	queue *queue

	mu sync.Mutex
	// failures holds the last error of each router whose last attempt failed.
	failures map[string]string
}

func newRouters() *routers { return &routers{queue: newQueue(), failures: map[string]string{}} }

// failure returns why the last attempt at a router failed, empty if it did not.
func (s *routers) failure(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures[id]
}

// ended notes how an attempt ended, empty for well, and tells whether that is news.
func (s *routers) ended(id, why string) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.failures[id]
	if why == "" {
		delete(s.failures, id)
	} else {
		s.failures[id] = why
	}
	return before != why
}

// RoutersChanged asks for an attempt at each router, in this order. It does not block.
func (r *Reconciler) RoutersChanged(ids ...string) {
	r.believe(len(ids))
	if r.opts.Routers != nil {
		r.routers.queue.add(ids...)
	}
}

// believe remembers that the store has something, and so has not been lost.
func (r *Reconciler) believe(objects int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.populated = r.populated || objects > 0
}

// adoptRouters tries every router once, those first that are to leave the node: their
// addresses may belong to others by now.
func (r *Reconciler) adoptRouters(ctx context.Context) error {
	if r.opts.Routers == nil {
		return nil
	}
	ids, leaving, err := r.compareRouters(ctx)
	if err != nil {
		return err
	}
	r.attemptAll(ctx, leaving, r.routers.queue, r.attemptRouter)
	r.attemptAll(ctx, ids, r.routers.queue, r.attemptRouter)
	return context.Cause(ctx)
}

// compareRouters returns the routers of the store, and those on the node that it does
// not know and that may be removed.
func (r *Reconciler) compareRouters(ctx context.Context) (ids, orphans []string, err error) {
	ids, err = r.state.RouterIDs(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list routers: %w", err)
	}
	deployed, err := r.opts.Routers.Deployed()
	if err != nil {
		return nil, nil, fmt.Errorf("list which routers are deployed: %w", err)
	}
	r.believe(len(ids))
	return ids, r.orphans(ids, deployed), nil
}

// startRouters begins the background work on routers.
func (r *Reconciler) startRouters(ctx context.Context) {
	if r.opts.Routers == nil {
		return
	}
	for range r.opts.Workers {
		r.working.Go(func() { r.work(ctx, r.routers.queue, r.attemptRouter) })
	}
	r.working.Go(func() { r.watchRouters(ctx) })
}

// watchRouters looks for drift, for routers without an owner, and compares one router
// after the other whole, all of them once in FullEvery.
func (r *Reconciler) watchRouters(ctx context.Context) {
	rounds := max(1, int(r.opts.FullEvery/r.opts.RefreshEvery))
	round := 0
	r.every(r.opts.RefreshEvery, func() {
		drifted, err := r.opts.Routers.Refresh(ctx)
		r.note("refresh routers", err)
		for _, id := range drifted {
			r.counts.drifted.Add(1)
			r.log.Warn("router no longer looks as it was applied", "router", id)
			r.routers.queue.nudge(id)
		}
		ids, orphans, err := r.compareRouters(ctx)
		r.note("compare routers", err)
		for _, id := range orphans {
			r.routers.queue.nudge(id)
		}
		slices.Sort(ids)
		for i, id := range ids {
			if i%rounds == round {
				r.routers.queue.nudge(id)
			}
		}
		round = (round + 1) % rounds
	})
}

// attemptRouter tries to make one router real and reports whether it is to be repeated.
func (r *Reconciler) attemptRouter(ctx context.Context, id string) (again bool) {
	err := r.reconcileRouter(ctx, id)
	if err != nil && ctx.Err() != nil {
		return true
	}
	if err == nil {
		r.counts.applied.Add(1)
		if r.routers.ended(id, "") {
			r.log.Info("router is as wanted again", "router", id)
		}
		return false
	}
	r.counts.failed.Add(1)
	if r.routers.ended(id, err.Error()) {
		r.log.Error("router is not as wanted", "router", id, "err", err)
	}
	return !errors.Is(err, errUnservable) && !errors.Is(err, router.ErrInvalid)
}

// reconcileRouter is one attempt, from whatever is there to what the store wants.
func (r *Reconciler) reconcileRouter(ctx context.Context, id string) error {
	if !validID(id) {
		return unservable("router %q: not a UUID", id)
	}
	if r.opts.ReadOnly {
		return nil
	}
	cfg, err := r.state.RouterConfig(ctx, id)
	if lbaas.IsNotFound(err) {
		if err := r.opts.Routers.Remove(ctx, id); err != nil {
			return fmt.Errorf("remove router %s: %w", id, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read router %s: %w", id, err)
	}
	wanted, err := plannedRouter(cfg)
	if err == nil {
		if err = r.opts.Routers.Apply(ctx, wanted); err != nil {
			err = fmt.Errorf("apply router %s: %w", id, err)
		}
	}
	switch {
	case err == nil:
		r.statuses.put(routerSucceeded(cfg)...)
	case ctx.Err() == nil:
		_, missing := r.opts.Routers.Status(id)
		r.statuses.put(routerFailed(cfg, err, missing == nil)...)
	}
	return err
}

// routerSucceeded says that the node is as wanted.
func routerSucceeded(cfg lbaas.RouterConfig) []lbaas.Report {
	out := []lbaas.Report{routerReport(cfg, lbaas.StatusActive, "")}
	works := lbaas.StatusDown
	if cfg.Router.AdminStateUp && cfg.Gateway != nil {
		works = lbaas.StatusActive
	}
	for _, f := range cfg.FloatingIPs {
		out = append(out, floatingReport(f, works, ""))
	}
	return out
}

// routerFailed says why not. A router that is there goes on doing what it did before:
// floating IPs that worked still do.
func routerFailed(cfg lbaas.RouterConfig, err error, there bool) []lbaas.Report {
	why := clip(err.Error())
	out := []lbaas.Report{routerReport(cfg, lbaas.StatusError, why)}
	for _, f := range cfg.FloatingIPs {
		if !there || f.Status != lbaas.StatusActive {
			out = append(out, floatingReport(f, lbaas.StatusError, why))
		}
	}
	return out
}

func routerReport(cfg lbaas.RouterConfig, status lbaas.Status, why string) lbaas.Report {
	return lbaas.Report{
		Kind: lbaas.KindRouter, ID: cfg.Router.ID, Generation: cfg.Router.Generation, Status: status, Description: why,
	}
}

func floatingReport(f lbaas.FloatingIP, status lbaas.Status, why string) lbaas.Report {
	return lbaas.Report{
		Kind: lbaas.KindFloatingIP, ID: f.ID, Generation: f.Generation, Status: status, Description: why,
	}
}
