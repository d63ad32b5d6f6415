package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"qlbaas/healthd"
	"qlbaas/lbaas"
	"qlbaas/loader"
)

// pool is what the reconciler remembers of one pool: nothing that an attempt
// depends on, but what reports and readers need between attempts.
type pool struct {
	id string

	// health orders writes of liveness: a verdict and its repair.
	health sync.Mutex

	// settling is held while counters go from a sidecar to the store: whoever reads both
	// must not find them twice, or nowhere.
	settling sync.RWMutex

	// mu guards what follows.
	mu sync.Mutex
	// deployed is true while the node has the pool as far as we know.
	deployed bool
	// vip is whose counters the deployment has, empty while that is not known.
	vip  string
	name string
	// members by id, as of the last successful attempt.
	members map[string]watched
	// reasons why members are down, by id.
	reasons map[string]string
	lastErr string
}

// watched is a member that has a status.
type watched struct {
	generation uint64
	// probed is false for members without checks, which are ACTIVE whatever the
	// kernel's map says.
	probed bool
}

func (r *Reconciler) pool(id string) *pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pools[id]
	if p == nil {
		p = &pool{id: id, reasons: map[string]string{}}
		r.pools[id] = p
	}
	return p
}

// known returns the pool if it is remembered.
func (r *Reconciler) known(id string) *pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pools[id]
}

// reconcile is one attempt, from whatever is there to what the store wants.
func (r *Reconciler) reconcile(ctx context.Context, p *pool) error {
	if !validID(p.id) {
		return unservable("pool %q: not a UUID", p.id)
	}
	cfg, err := r.state.PoolConfig(ctx, p.id)
	switch {
	case r.opts.ReadOnly:
		return r.observe(p, cfg, err)
	case lbaas.IsNotFound(err):
		return r.forget(ctx, p)
	case err != nil:
		return fmt.Errorf("read pool %s: %w", p.id, err)
	case cfg.VIP == nil:
		err = r.undeploy(ctx, p, cfg)
	default:
		err = r.deploy(ctx, p, cfg)
	}
	if err == nil {
		r.succeeded(p, cfg)
	} else if ctx.Err() == nil {
		r.failed(p, cfg, err)
	}
	return err
}

// observe is an attempt that changes nothing but liveness.
func (r *Reconciler) observe(p *pool, cfg lbaas.PoolConfig, err error) error {
	if lbaas.IsNotFound(err) || err == nil && cfg.VIP == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pool %s: %w", p.id, err)
	}
	members, err := r.targets(p, cfg)
	if err != nil {
		return err
	}
	if r.deployed(p.id) {
		r.checker.Set(p.id, members)
	}
	return nil
}

// targets are the pool's members to probe, with their liveness as the data plane
// has it.
func (r *Reconciler) targets(p *pool, cfg lbaas.PoolConfig) ([]healthd.Target, error) {
	return targets(cfg, func(member string) bool {
		up, known := r.node.MemberUp(p.id, member)
		return up || !known
	})
}

func (r *Reconciler) deploy(ctx context.Context, p *pool, cfg lbaas.PoolConfig) error {
	b, err := balancer(cfg)
	if err != nil {
		return err
	}
	members, err := r.targets(p, cfg)
	if err != nil {
		return err
	}
	closed := cfg.Pool.Stats.Closed
	if !closed && p.hasOther(cfg.VIP.ID) {
		// One VIP after another within one attempt: the node counts from nothing.
		if err := r.saveCounters(ctx, p); err != nil {
			return err
		}
		closed = true
	}
	if closed {
		if err := r.reopen(ctx, p); err != nil {
			return err
		}
	}
	if err := r.apply(ctx, p, cfg, b); err != nil {
		return err
	}
	p.deploy(cfg.VIP.ID)
	r.checker.Set(p.id, members)
	_, err = r.alignHealth(p)
	return err
}

// reopen takes away what a deletion left behind half done, and lets counters
// count again from nothing.
func (r *Reconciler) reopen(ctx context.Context, p *pool) error {
	if err := r.remove(ctx, p); err != nil {
		return err
	}
	if err := r.state.OpenStats(ctx, p.id); err != nil {
		return fmt.Errorf("open counters of pool %s: %w", p.id, err)
	}
	return nil
}

// undeploy removes a pool that has no VIP; its counters stay in the store.
func (r *Reconciler) undeploy(ctx context.Context, p *pool, cfg lbaas.PoolConfig) error {
	r.checker.Remove(p.id)
	if !cfg.Pool.Stats.Closed {
		if err := r.saveCounters(ctx, p); err != nil {
			return err
		}
	}
	return r.remove(ctx, p)
}

// saveCounters adds the deployment's counters to the pool's base.
func (r *Reconciler) saveCounters(ctx context.Context, p *pool) error {
	last, err := r.liveStats(p.id)
	switch {
	case errors.Is(err, loader.ErrNotDeployed):
		return nil
	case err != nil:
		// What a user wants gone goes, counted or not.
		r.log.Warn("counters are lost", "pool", p.id, "err", err)
		return nil
	}
	if err := r.state.CloseStats(ctx, p.id, last); err != nil {
		return fmt.Errorf("save counters of pool %s: %w", p.id, err)
	}
	return nil
}

// forget removes a pool that the store does not know.
func (r *Reconciler) forget(ctx context.Context, p *pool) error {
	r.checker.Remove(p.id)
	if err := r.remove(ctx, p); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pools, p.id)
	return nil
}

func (r *Reconciler) remove(ctx context.Context, p *pool) error {
	if r.sidecars != nil {
		if err := r.sidecars.Remove(ctx, p.id); err != nil {
			return fmt.Errorf("remove pool %s: %w", p.id, err)
		}
	}
	if err := r.node.Remove(ctx, p.id); err != nil {
		return fmt.Errorf("remove pool %s: %w", p.id, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deployed, p.vip = false, ""
	return nil
}

// deploy notes that the node has the pool, with this VIP ("" if that is not known).
func (p *pool) deploy(vip string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deployed, p.vip = true, vip
}

func (p *pool) hasOther(vip string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vip != "" && p.vip != vip
}

// complain keeps the reason of a failed attempt and logs it when it is new.
func (p *pool) complain(log *slog.Logger, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text := err.Error(); text != p.lastErr {
		p.lastErr = text
		log.Error("pool is not as wanted", "pool", p.id, "err", err)
	}
}

// settled ends a complaint.
func (p *pool) settled(log *slog.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lastErr != "" {
		p.lastErr = ""
		log.Info("pool is as wanted again", "pool", p.id)
	}
}

func total(s loader.Stats) lbaas.Counters {
	return lbaas.Counters{
		BytesIn: s.BytesIn, BytesOut: s.BytesOut,
		ActiveConnections: s.ActiveConnections, TotalConnections: s.TotalConnections,
	}
}
