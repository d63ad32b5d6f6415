package reconcile

import (
	"context"

	"qlbaas/healthd"
	"qlbaas/lbaas"
	"qlbaas/loader"
	"qlbaas/loader/router"
)

// Node is this machine's data plane. All methods are safe for concurrent use.
type Node interface {
	// Apply makes the node look as b says; it is cheap when nothing differs.
	Apply(ctx context.Context, b loader.Balancer) error
	// Remove takes everything of a pool away; what is not there is no error.
	Remove(ctx context.Context, poolID string) error
	// Deployed names the pools that have anything on this node.
	Deployed() ([]string, error)
	// SetMemberUp writes a member's liveness where the data plane reads it.
	SetMemberUp(poolID, memberID string, up bool) error
	// MemberUp reads it; known is false for members that are not there.
	MemberUp(poolID, memberID string) (up, known bool)
	// Stats and Status return loader.ErrNotDeployed for pools that are not there.
	Stats(poolID string) (loader.Stats, error)
	Status(poolID string) (loader.PoolStatus, error)
	Budget() loader.BudgetStatus
	// Admit returns loader.ErrOverBudget when Apply could not pay for b.
	Admit(b loader.Balancer) error
	// Sweep expires one bounded slice of flows of all pools.
	Sweep(ctx context.Context) error
	// Refresh keeps neighbours alive and names the pools that no longer look as
	// they were applied.
	Refresh(ctx context.Context) (drifted []string, err error)
}

// RouterNode is this machine's routers; router.Node is one. All methods are safe for
// concurrent use.
type RouterNode interface {
	// Apply makes the node look as r says; it is cheap when nothing differs.
	Apply(ctx context.Context, r router.Router) error
	// Remove takes everything of a router away; what is not there is no error.
	Remove(ctx context.Context, id string) error
	// Deployed names the routers that have anything on this node.
	Deployed() ([]string, error)
	// Refresh names the routers that no longer look as they were applied.
	Refresh(ctx context.Context) (drifted []string, err error)
	// Stats and Status return router.ErrNotDeployed for routers that are not there.
	Stats(id string) (router.Stats, error)
	Status(id string) (router.Status, error)
}

// State is the wanted state and the place for outcomes; lbaas.Service is one.
type State interface {
	PoolIDs(ctx context.Context) ([]string, error)
	PoolConfig(ctx context.Context, poolID string) (lbaas.PoolConfig, error)
	SetStatuses(ctx context.Context, reports ...lbaas.Report) error
	CloseStats(ctx context.Context, poolID string, last lbaas.Counters) error
	OpenStats(ctx context.Context, poolID string) error
	RouterIDs(ctx context.Context) ([]string, error)
	RouterConfig(ctx context.Context, id string) (lbaas.RouterConfig, error)
}

// Checker probes members; healthd.Checker is one.
type Checker interface {
	Set(pool string, targets []healthd.Target)
	Remove(pool string)
	Members(pool string) []healthd.MemberHealth
}
