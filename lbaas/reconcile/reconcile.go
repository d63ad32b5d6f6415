package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"qlbaas/lbaas"
	"qlbaas/loader"
)

// Options of New; zero fields get defaults.
type Options struct {
	Log *slog.Logger
	// Workers is how many pools are worked on at a time; 4 by default.
	Workers int
	// SweepEvery is the pause between two slices of flow expiry (250 ms),
	// RefreshEvery that between two looks for drift (1 s), and FullEvery that
	// between two comparisons of every pool whole (60 s).
	SweepEvery, RefreshEvery, FullEvery time.Duration
	// AcceptEmpty says that a store without pools is meant: what it does not know is
	// removed from the node.
	AcceptEmpty bool
	// ReadOnly says that the wanted state is a copy that may be out of date: nothing
	// on the node is applied or removed, and no status is reported. What is deployed
	// goes on being probed, expired and counted.
	ReadOnly bool
	// Routers is this machine's routers; nil leaves routers alone.
	Routers RouterNode
}

// stopTimeout bounds how long Close waits for attempts under way before it
// breaks them off.
const stopTimeout = 10 * time.Second

// Reconciler keeps the node like the store. It implements lbaas.Notifier,
// lbaas.Admission, lbaas.StatsSource and healthd.Sink, all of which may be handed
// out before Start. It is safe for concurrent use.
type Reconciler struct {
	opts Options
	log  *slog.Logger
	node Node
	// state and checker are set by Start, before anything runs.
	state   State
	checker Checker
	// sidecars are nil where there are none.
	sidecars Sidecars

	queue    *queue
	routers  *routers
	statuses *statuses
	counts   counts

	mu    sync.Mutex
	pools map[string]*pool
	// populated is true once the store was seen to hold a pool or a router.
	populated bool
	// complaints keeps the last error of each periodic task, so that it is logged
	// when it changes.
	complaints map[string]string

	cancel context.CancelFunc
	stop   chan struct{}
	// writing ends after everything else, so that no status is lost.
	working, writing sync.WaitGroup
}

// counts only grow.
type counts struct {
	applied, failed, drifted, verdicts atomic.Uint64
}

// Counts says what the reconciler has done since it was made.
type Counts struct {
	// Applied attempts and Failed ones; Drifted counts pools and routers that no longer
	// looked as they were applied; Verdicts counts members that went up or down.
	Applied, Failed, Drifted, Verdicts uint64
}

// New returns a Reconciler for node that does nothing before Start.
func New(node Node, opts Options) *Reconciler {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Workers <= 0 {
		opts.Workers = 4
	}
	for d, standard := range map[*time.Duration]time.Duration{
		&opts.SweepEvery: 250 * time.Millisecond, &opts.RefreshEvery: time.Second, &opts.FullEvery: time.Minute,
	} {
		if *d <= 0 {
			*d = standard
		}
	}
	return &Reconciler{
		opts: opts, log: opts.Log, node: node,
		queue: newQueue(), routers: newRouters(), statuses: newStatuses(opts.Log),
		pools: map[string]*pool{}, complaints: map[string]string{},
		stop: make(chan struct{}),
	}
}

// PoolsChanged asks for an attempt at each pool, in this order. It does not block.
func (r *Reconciler) PoolsChanged(poolIDs ...string) {
	// Whoever changes a pool sees it, so the store has not lost its pools.
	r.believe(len(poolIDs))
	r.queue.add(poolIDs...)
}

// Start adopts what is on the node, trying every pool once, and goes on in the
// background until Close. It fails when state or node cannot be read; pools that
// fail are retried later. It is to be called once.
func (r *Reconciler) Start(ctx context.Context, state State, checker Checker) error {
	r.state, r.checker = state, checker
	if err := r.adopt(ctx); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	if err := r.adoptRouters(ctx); err != nil {
		return fmt.Errorf("adopt routers: %w", err)
	}
	// Attempts outlive the caller's ctx until Close has given them time to end.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	for range r.opts.Workers {
		r.working.Go(func() { r.work(background, r.queue, r.attempt) })
	}
	r.startRouters(background)
	r.working.Go(func() { r.sweep(background) })
	r.working.Go(func() { r.watch(background) })
	written := make(chan struct{})
	r.writing.Go(func() { r.statuses.run(background, written, state) })
	r.writing.Go(func() { r.working.Wait(); close(written) })
	return nil
}

// Close ends the work and writes the last statuses. What is on the node stays.
// Attempts under way get ten seconds to end. It must follow a successful Start.
func (r *Reconciler) Close() {
	r.queue.close()
	r.routers.queue.close()
	close(r.stop)
	late := time.AfterFunc(stopTimeout, r.cancel)
	r.working.Wait()
	r.writing.Wait()
	late.Stop()
	r.cancel()
}

// attempter tries to make one object real and reports whether it is to be repeated.
type attempter func(ctx context.Context, id string) (again bool)

// work takes what is in the queue until Close.
func (r *Reconciler) work(ctx context.Context, q *queue, attempt attempter) {
	for {
		if id, ok := q.take(); ok {
			q.done(id, attempt(ctx, id))
			continue
		}
		select {
		case <-q.wake:
		case <-r.stop:
			return
		}
	}
}

// adopt tries every pool once, those first that are to leave the node: their
// addresses and devices may belong to others by now.
func (r *Reconciler) adopt(ctx context.Context) error {
	ids, err := r.state.PoolIDs(ctx)
	if err != nil {
		return fmt.Errorf("list pools: %w", err)
	}
	deployed, err := r.present()
	if err != nil {
		return fmt.Errorf("list what is deployed: %w", err)
	}
	r.know(ids, deployed)
	leaving, err := r.leaving(ctx, ids, deployed)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, id := range leaving {
		gone[id] = true
	}
	var staying []string
	for _, id := range ids {
		if !gone[id] {
			staying = append(staying, id)
		}
	}
	r.attemptAll(ctx, leaving, r.queue, r.attempt)
	r.attemptAll(ctx, staying, r.queue, r.attempt)
	return context.Cause(ctx)
}

// leaving returns the deployed pools that the store wants off the node.
func (r *Reconciler) leaving(ctx context.Context, ids, deployed []string) ([]string, error) {
	leaving := r.orphans(ids, deployed)
	known := map[string]bool{}
	for _, id := range ids {
		known[id] = true
	}
	for _, id := range deployed {
		if !known[id] {
			continue
		}
		cfg, err := r.state.PoolConfig(ctx, id)
		if err != nil && !lbaas.IsNotFound(err) {
			return nil, fmt.Errorf("read pool %s: %w", id, err)
		}
		if err != nil || cfg.VIP == nil {
			leaving = append(leaving, id)
		}
	}
	return leaving, nil
}

func (r *Reconciler) attemptAll(ctx context.Context, ids []string, q *queue, attempt attempter) {
	var group errgroup.Group
	group.SetLimit(r.opts.Workers)
	for _, id := range ids {
		group.Go(func() error {
			if ctx.Err() == nil && attempt(ctx, id) {
				// The workers, once they run, repeat what failed.
				q.add(id)
			}
			return nil
		})
	}
	_ = group.Wait() // attempts report their own failures
}

// attempt tries to make one pool real and reports whether it is to be repeated.
func (r *Reconciler) attempt(ctx context.Context, id string) (again bool) {
	p := r.pool(id)
	err := r.reconcile(ctx, p)
	if err == nil {
		r.counts.applied.Add(1)
		r.log.Debug("pool compared and applied", "pool", id)
		p.settled(r.log)
		return false
	}
	if ctx.Err() != nil {
		return true
	}
	r.counts.failed.Add(1)
	p.complain(r.log, err)
	return !errors.Is(err, errUnservable) && !errors.Is(err, loader.ErrInvalid)
}
