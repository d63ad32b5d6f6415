package reconcile

import (
	"context"
	"net/netip"

	"qlbaas/healthd"
	"qlbaas/l7/control"
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

// Sidecars are the processes beside those pools whose cookies have to be read. All
// methods are safe for concurrent use.
type Sidecars interface {
	// Ensure makes the pool have a sidecar that listens at vip and is configured as c
	// says, inside the pool's namespace. It returns loader.ErrNotDeployed where there is
	// no namespace.
	Ensure(ctx context.Context, poolID string, vip netip.AddrPort, c control.Config) error
	// SetMemberUp tells of a member's liveness; who has no sidecar needs none.
	SetMemberUp(poolID, memberID string, up bool) error
	// Stats is what was counted and not settled; ok is false where nothing is left of any.
	Stats(poolID string) (s control.Stats, ok bool)
	// Settle says that these counters, which Stats gave, are kept elsewhere now. Not
	// while one serves: whoever starts next finds them there again.
	Settle(poolID string, s control.Stats)
	// State tells whether one serves new clients, and whether any finishes with its last.
	State(poolID string) (serving, leaving bool)
	// Retire lets the one that serves finish with its clients, and go.
	Retire(poolID string)
	// Remove ends all of a pool's at once.
	Remove(ctx context.Context, poolID string) error
	// Pools names those that have any.
	Pools() []string
	// Process tells of the one that serves; the id is 0 while there is none.
	Process(poolID string) (pid int, restarts uint64, ok bool)
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
	AddStats(ctx context.Context, poolID string, part lbaas.Counters) error
	RouterIDs(ctx context.Context) ([]string, error)
	RouterConfig(ctx context.Context, id string) (lbaas.RouterConfig, error)
}

// Checker probes members; healthd.Checker is one.
type Checker interface {
	Set(pool string, targets []healthd.Target)
	Remove(pool string)
	Members(pool string) []healthd.MemberHealth
}
