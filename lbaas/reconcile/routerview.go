package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"qlbaas/lbaas"
	"qlbaas/loader/router"
)

// RouterCounters is everything that is counted for one router of the store.
type RouterCounters struct {
	RouterID string
	// Live is nil when nothing is deployed, or it cannot be read, which Err says.
	Live *router.Stats
	Err  error
}

// RouterCounters returns the counters of all routers of the store, sorted by id.
func (r *Reconciler) RouterCounters(ctx context.Context) ([]RouterCounters, error) {
	if r.opts.Routers == nil {
		return nil, nil
	}
	ids, err := r.state.RouterIDs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list routers: %w", err)
	}
	slices.Sort(ids)
	out := make([]RouterCounters, 0, len(ids))
	for _, id := range ids {
		c := RouterCounters{RouterID: id}
		live, err := r.opts.Routers.Stats(id)
		switch {
		case errors.Is(err, router.ErrNotDeployed):
		case err != nil:
			c.Err = err
		default:
			c.Live = &live
		}
		out = append(out, c)
	}
	return out, nil
}

// RouterView is one router as an operator sees it: what the store wants and what the
// node has.
type RouterView struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is the router's status, and ERROR while the last attempt had failed; ORPHAN
	// for what is deployed without being in the store.
	State     string `json:"state"`
	Deployed  bool   `json:"deployed"`
	Namespace string `json:"namespace"`
	// Device is the external leg's.
	Device     string `json:"device"`
	Hook       string `json:"hook"`
	ProgramTag string `json:"program_tag"`
	// Floating addresses are translated; Interfaces join networks behind the router.
	Floating   int `json:"floating"`
	Interfaces int `json:"interfaces"`
	// LastError is nil when the router is as wanted.
	LastError *string `json:"last_error"`
}

// Routers returns all routers of the store, and those that are deployed without being
// in it, sorted by id.
func (r *Reconciler) Routers(ctx context.Context) ([]RouterView, error) {
	out := []RouterView{}
	if r.opts.Routers == nil {
		return out, nil
	}
	ids, err := r.state.RouterIDs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list routers: %w", err)
	}
	for _, id := range ids {
		cfg, err := r.state.RouterConfig(ctx, id)
		if lbaas.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read router %s: %w", id, err)
		}
		out = append(out, r.routerView(cfg))
	}
	deployed, err := r.opts.Routers.Deployed()
	if err != nil {
		return nil, fmt.Errorf("list which routers are deployed: %w", err)
	}
	for _, id := range deployed {
		if !slices.Contains(ids, id) {
			v := RouterView{ID: id, State: "ORPHAN"}
			r.fillRouter(&v)
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b RouterView) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (r *Reconciler) routerView(cfg lbaas.RouterConfig) RouterView {
	v := RouterView{
		ID: cfg.Router.ID, Name: cfg.Router.Name, State: string(cfg.Router.Status), Interfaces: len(cfg.Interfaces),
	}
	if why := r.routers.failure(v.ID); why != "" {
		v.State, v.LastError = string(lbaas.StatusError), &why
	}
	r.fillRouter(&v)
	return v
}

// fillRouter adds what the node says.
func (r *Reconciler) fillRouter(v *RouterView) {
	s, err := r.opts.Routers.Status(v.ID)
	switch {
	case errors.Is(err, router.ErrNotDeployed):
		return
	case err != nil:
		if text := err.Error(); v.LastError == nil {
			v.LastError = &text
		}
		return
	}
	v.Deployed = true
	v.Namespace, v.Device, v.Hook, v.ProgramTag, v.Floating = s.Namespace, s.External, s.Hook, s.Tag, s.Floating
	if s.LastError != "" && v.LastError == nil {
		v.LastError = &s.LastError
	}
}
