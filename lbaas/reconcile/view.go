package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"qlbaas/l7/control"
	"qlbaas/lbaas"
	"qlbaas/loader"
)

// errEmptyStore: something is deployed that a store without pools and routers does not
// know.
var errEmptyStore = errors.New("pools or routers are deployed and the store has none; they are left alone")

// PoolStats returns what the node has counted for the deployment of a pool; ok is
// false when there is none.
func (r *Reconciler) PoolStats(_ context.Context, poolID string) (live lbaas.Counters, ok bool) {
	live, err := r.liveStats(poolID)
	return live, err == nil
}

// Counts returns what was done so far.
func (r *Reconciler) Counts() Counts {
	return Counts{
		Applied: r.counts.applied.Load(), Failed: r.counts.failed.Load(),
		Drifted: r.counts.drifted.Load(), Verdicts: r.counts.verdicts.Load(),
	}
}

// Budget is the node's memory budget for tables.
func (r *Reconciler) Budget() loader.BudgetStatus { return r.node.Budget() }

// PoolCounters is everything that is counted for one pool.
type PoolCounters struct {
	PoolID string
	// Base is the share of deployments that are gone. Live is what the node has;
	// nil when nothing is deployed, or it cannot be read, which Err says.
	Base lbaas.Counters
	Live *loader.Stats
	// Sidecar is what the pool's sidecars have beside that; nil where there are none.
	Sidecar *control.Stats
	// Restarts is how often the sidecar had to be started anew.
	Restarts uint64
	Err      error
}

// Counters returns the counters of all pools of the store, sorted by id.
func (r *Reconciler) Counters(ctx context.Context) ([]PoolCounters, error) {
	configs, err := r.configs(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]PoolCounters, 0, len(configs))
	for _, cfg := range configs {
		out = append(out, r.counters(cfg))
	}
	return out, nil
}

func (r *Reconciler) counters(cfg lbaas.PoolConfig) PoolCounters {
	c := PoolCounters{PoolID: cfg.Pool.ID, Base: cfg.Pool.Stats.Counters}
	live, err := r.node.Stats(cfg.Pool.ID)
	switch {
	case cfg.Pool.Stats.Closed || errors.Is(err, loader.ErrNotDeployed):
	case err != nil:
		c.Err = err
	default:
		c.Live = &live
		if c.Sidecar = r.sidecarStats(cfg.Pool.ID); c.Sidecar != nil {
			_, c.Restarts, _ = r.sidecars.Process(cfg.Pool.ID)
		}
	}
	return c
}

func (r *Reconciler) configs(ctx context.Context) ([]lbaas.PoolConfig, error) {
	ids, err := r.state.PoolIDs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list pools: %w", err)
	}
	slices.Sort(ids)
	out := make([]lbaas.PoolConfig, 0, len(ids))
	for _, id := range ids {
		cfg, err := r.state.PoolConfig(ctx, id)
		if lbaas.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read pool %s: %w", id, err)
		}
		out = append(out, cfg)
	}
	return out, nil
}

// PoolView is one pool as an operator sees it: what the store wants and what the
// node has.
type PoolView struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is the worse of the pool's and the VIP's status, and ERROR while the
	// last attempt had failed. Deployed tells whether anything is on the node.
	State    string `json:"state"`
	Deployed bool   `json:"deployed"`
	// VIP is the address and port that clients know, empty without a VIP.
	VIP        string `json:"vip"`
	Namespace  string `json:"namespace"`
	Device     string `json:"device"`
	Hook       string `json:"hook"`
	Generation uint64 `json:"generation"`
	ProgramTag string `json:"program_tag"`
	FlowsUsed  uint64 `json:"flows_used"`
	FlowsLimit uint64 `json:"flows_limit"`
	// MembersUp of MembersTotal get new connections as far as health goes.
	MembersUp    int    `json:"members_up"`
	MembersTotal int    `json:"members_total"`
	MemoryBytes  uint64 `json:"memory_bytes"`
	// Sidecar is nil where cookies are not to be read.
	Sidecar *SidecarView `json:"sidecar,omitempty"`
	// LastError is nil when the pool is as wanted.
	LastError *string `json:"last_error"`
}

// SidecarView is a pool's sidecar.
type SidecarView struct {
	// PID is 0 while there is none, though there should be.
	PID int `json:"pid"`
	// Restarts counts how often this agent had to start it anew.
	Restarts uint64 `json:"restarts"`
}

// Pools returns all pools of the store, and those that are deployed without being
// in it (state ORPHAN), sorted by id.
func (r *Reconciler) Pools(ctx context.Context) ([]PoolView, error) {
	configs, err := r.configs(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]PoolView, 0, len(configs))
	seen := map[string]bool{}
	for _, cfg := range configs {
		seen[cfg.Pool.ID] = true
		out = append(out, r.view(cfg))
	}
	deployed, err := r.node.Deployed()
	if err != nil {
		return nil, fmt.Errorf("list what is deployed: %w", err)
	}
	for _, id := range deployed {
		if !seen[id] {
			v := PoolView{ID: id, State: "ORPHAN"}
			r.fill(&v)
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b PoolView) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (r *Reconciler) view(cfg lbaas.PoolConfig) PoolView {
	v := PoolView{ID: cfg.Pool.ID, Name: cfg.Pool.Name, State: string(cfg.Pool.Status), MembersTotal: len(cfg.Members)}
	for _, m := range cfg.Members {
		if m.AdminStateUp && m.Status != lbaas.StatusInactive {
			v.MembersUp++
		}
	}
	if cfg.VIP != nil {
		v.VIP = netip.AddrPortFrom(cfg.VIP.Address, cfg.VIP.ProtocolPort).String()
		if cfg.Pool.Status == lbaas.StatusActive {
			v.State = string(cfg.VIP.Status)
		}
	}
	if p := r.known(v.ID); p != nil {
		p.mu.Lock()
		if p.lastErr != "" {
			last := p.lastErr
			v.State, v.LastError = string(lbaas.StatusError), &last
		}
		p.mu.Unlock()
	}
	r.fill(&v)
	return v
}

// fill adds what the node says.
func (r *Reconciler) fill(v *PoolView) {
	if r.sidecars != nil {
		if pid, restarts, ok := r.sidecars.Process(v.ID); ok {
			v.Sidecar = &SidecarView{PID: pid, Restarts: restarts}
		}
	}
	s, err := r.node.Status(v.ID)
	if err != nil {
		if !errors.Is(err, loader.ErrNotDeployed) && v.LastError == nil {
			text := err.Error()
			v.LastError = &text
		}
		return
	}
	v.Deployed = true
	v.Namespace, v.Device, v.Hook = s.Namespace, s.Device, s.Hook
	v.Generation, v.ProgramTag = s.Generation, s.Tag
	v.FlowsUsed, v.FlowsLimit = s.FlowsUsed, s.FlowsLimit
	v.MembersUp, v.MembersTotal = s.MembersUp, s.MembersTotal
	v.MemoryBytes = s.MemoryBytes
	if s.LastError != "" && v.LastError == nil {
		v.LastError = &s.LastError
	}
}
