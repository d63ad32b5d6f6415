package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"qlbaas/l7/control"
	l7pool "qlbaas/l7/pool"
	"qlbaas/l7/proxy"
	"qlbaas/lbaas"
	"qlbaas/loader"
)

// UseSidecars says who keeps the pools' sidecars; without it pools that need one are
// ERROR. It is to be called before Start.
func (r *Reconciler) UseSidecars(s Sidecars) { r.sidecars = s }

// SidecarChanged asks for an attempt at a pool whose sidecar has come or gone. It does
// not block, and may be called before Start.
func (r *Reconciler) SidecarChanged(poolID string) { r.queue.add(poolID) }

// readsCookies tells whether a pool with a VIP needs a sidecar: cookies mean nothing to a
// VIP whose payload is not read.
func readsCookies(cfg lbaas.PoolConfig) bool {
	p := cfg.VIP.SessionPersistence
	return p != nil && p.Type != lbaas.PersistenceSourceIP && cfg.VIP.Protocol == lbaas.ProtocolHTTP
}

// apply makes the node look as b says, with a sidecar where cookies are to be read.
func (r *Reconciler) apply(ctx context.Context, p *pool, cfg lbaas.PoolConfig, b loader.Balancer) error {
	switch {
	case !readsCookies(cfg):
		return r.applyAlone(ctx, p, b)
	case r.sidecars == nil:
		return unservable("session_persistence %s: there is no sidecar on this node", cfg.VIP.SessionPersistence.Type)
	}
	b.Sidecar = loader.SidecarServes
	before, _ := r.sidecars.State(p.id)
	err := r.ensureSidecar(ctx, p, cfg)
	if errors.Is(err, loader.ErrNotDeployed) {
		// The namespace first, and nobody comes in before the sidecar listens there.
		closed := b
		closed.VIP.AdminUp = false
		if err := r.applyNode(ctx, p, closed); err != nil {
			return err
		}
		err = r.ensureSidecar(ctx, p, cfg)
	}
	if err != nil && !before {
		return err // what is there goes on
	}
	return errors.Join(err, r.applyNode(ctx, p, b))
}

// applyAlone is apply for a pool that the kernel balances, maybe again: then its sidecar's
// clients finish first.
func (r *Reconciler) applyAlone(ctx context.Context, p *pool, b loader.Balancer) error {
	if r.sidecars == nil {
		return r.applyNode(ctx, p, b)
	}
	serving, leaving := r.sidecars.State(p.id)
	if serving || leaving {
		b.Sidecar = loader.SidecarLeaves
	}
	if err := r.applyNode(ctx, p, b); err != nil {
		return err
	}
	if serving {
		r.sidecars.Retire(p.id) // which is told when it has begun
		return nil
	}
	return r.settleSidecar(ctx, p)
}

func (r *Reconciler) applyNode(ctx context.Context, p *pool, b loader.Balancer) error {
	if err := r.node.Apply(ctx, b); err != nil {
		return fmt.Errorf("apply pool %s: %w", p.id, err)
	}
	return nil
}

// ensureSidecar makes the pool have a sidecar that knows what the node knows of members.
func (r *Reconciler) ensureSidecar(ctx context.Context, p *pool, cfg lbaas.PoolConfig) error {
	up := func(member string) bool {
		up, known := r.node.MemberUp(p.id, member)
		return up || !known
	}
	c := plannedSidecar(cfg, up)
	if err := r.sidecars.Ensure(ctx, p.id, netip.AddrPortFrom(cfg.VIP.Address, cfg.VIP.ProtocolPort), c); err != nil {
		return err
	}
	// A verdict may have come meanwhile.
	p.health.Lock()
	defer p.health.Unlock()
	for _, m := range c.Pool.Members {
		if now := up(m.ID); now != m.Up {
			if err := r.sidecars.SetMemberUp(p.id, m.ID, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// usualIdle is the idle_timeout that VIPs have unless somebody wants another one. It is
// one for flows; the sidecar's own is shorter, as HTTP's users know it.
const usualIdle = 7440

// plannedSidecar translates a pool into what its sidecar is asked for.
func plannedSidecar(cfg lbaas.PoolConfig, up func(member string) bool) control.Config {
	vip := cfg.VIP
	c := control.Config{
		Pool: l7pool.Config{
			AdminUp:     cfg.Pool.AdminStateUp,
			Method:      l7pool.Method(cfg.Pool.LBMethod),
			Persistence: l7pool.Persistence(vip.SessionPersistence.Type),
			CookieName:  vip.SessionPersistence.CookieName,
			Members:     make([]l7pool.MemberConfig, 0, len(cfg.Members)),
			// Tunnels and answers under way count as flows do.
			DrainTimeout: seconds(cfg.Pool.DrainTimeout),
		},
		Limits: proxy.Limits{Connections: vip.ConnectionLimit},
	}
	if vip.SessionPersistence.Type == lbaas.PersistenceHTTPCookie {
		c.Pool.Keys = slices.Clone(cfg.Pool.CookieKeys)
	}
	if vip.IdleTimeout != usualIdle {
		c.Limits.Idle = time.Duration(vip.IdleTimeout) * time.Second
	}
	for _, m := range cfg.Members {
		c.Pool.Members = append(c.Pool.Members, l7pool.MemberConfig{
			ID: m.ID, Address: netip.AddrPortFrom(m.Address, m.ProtocolPort),
			Weight: int(m.Weight), AdminUp: m.AdminStateUp, Up: up(m.ID),
		})
	}
	return c
}

// settleSidecar adds to the pool's base what a sidecar that no longer serves has counted:
// soon nobody will know it.
func (r *Reconciler) settleSidecar(ctx context.Context, p *pool) error {
	p.settling.Lock()
	defer p.settling.Unlock()
	s, ok := r.sidecars.Stats(p.id)
	if !ok {
		return nil
	}
	if part := sidecarTotal(s); part != (lbaas.Counters{ActiveConnections: part.ActiveConnections}) {
		if err := r.state.AddStats(ctx, p.id, part); err != nil {
			return fmt.Errorf("save counters of pool %s: %w", p.id, err)
		}
	}
	r.sidecars.Settle(p.id, s)
	return nil
}

// sidecarStats is what a pool's sidecars have counted; nil if there are none.
func (r *Reconciler) sidecarStats(poolID string) *control.Stats {
	if r.sidecars == nil {
		return nil
	}
	s, ok := r.sidecars.Stats(poolID)
	if !ok {
		return nil
	}
	return &s
}

// liveStats is what the node and the pool's sidecars have counted.
func (r *Reconciler) liveStats(poolID string) (lbaas.Counters, error) {
	if p := r.known(poolID); p != nil {
		p.settling.RLock()
		defer p.settling.RUnlock()
	}
	s, err := r.node.Stats(poolID)
	if err != nil {
		return lbaas.Counters{}, err
	}
	sum := total(s)
	if s := r.sidecarStats(poolID); s != nil {
		add := sidecarTotal(*s)
		sum.BytesIn += add.BytesIn
		sum.BytesOut += add.BytesOut
		sum.ActiveConnections += add.ActiveConnections
		sum.TotalConnections += add.TotalConnections
	}
	return sum, nil
}

// sidecarTotal reads a sidecar's counters as a pool's: connections are those of clients,
// bytes those of messages.
func sidecarTotal(s control.Stats) lbaas.Counters {
	sum := lbaas.Counters{
		BytesIn: s.Pool.Past.BytesIn, BytesOut: s.Pool.Past.BytesOut,
		ActiveConnections: uint64(max(0, s.Proxy.Clients)), TotalConnections: s.Proxy.Accepted,
	}
	for _, m := range s.Pool.Members {
		sum.BytesIn += m.BytesIn
		sum.BytesOut += m.BytesOut
	}
	return sum
}

// present names the pools that have anything on this node. Sorted.
func (r *Reconciler) present() ([]string, error) {
	ids, err := r.node.Deployed()
	if err != nil || r.sidecars == nil {
		return ids, err
	}
	ids = append(ids, r.sidecars.Pools()...)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
