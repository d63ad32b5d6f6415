package lbaas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Sizes is what a balancer's tables will have to hold.
type Sizes struct {
	// Flows is the flow table's size, in flows.
	Flows uint32
	// Affinity says that the pool needs an affinity table.
	Affinity bool
	// IPv6 says that addresses take sixteen bytes, and not four.
	IPv6 bool
	// Sources is how many source addresses the VIP has toward members, its own
	// included, and Members how many members the pool has now: there is a table of
	// ports for each of one with each of the other. Members is not known of others.
	Sources, Members int
}

// Admission decides whether the node has room for a balancer.
type Admission interface {
	// Admit is asked before a VIP is committed, and before its tables grow: may
	// poolID have tables of the given sizes, when others is what every other pool
	// with a VIP has (deployed already or about to be)? An error refuses the change
	// with 409 OverQuota and its text. Admit runs inside a write transaction: it
	// must be quick and must not call the Service.
	Admit(ctx context.Context, poolID string, want Sizes, others map[string]Sizes) error
}

// Notifier learns which pools are to be looked at again.
type Notifier interface {
	// PoolsChanged is called after a commit, with the pools it touched, in the
	// order in which they are to be acted upon (a VIP that moves leaves its old pool
	// first). It must not block and must not call the Service. Notifications may be
	// repeated and may come when nothing has changed.
	PoolsChanged(poolIDs ...string)
	// RoutersChanged is the same for routers; a floating IP that moves leaves its old
	// router first.
	RoutersChanged(routerIDs ...string)
}

// StatsSource knows what the node has counted for a pool.
type StatsSource interface {
	// PoolStats returns the counters of the balancer that is on the node now; ok
	// is false when there is none, or it cannot be asked.
	PoolStats(ctx context.Context, poolID string) (live Counters, ok bool)
}

// Options configures a Service. Only Store is required.
type Options struct {
	Store     Store
	Log       *slog.Logger
	Notifier  Notifier
	Admission Admission
	Stats     StatsSource
	// Quotas overrides the default quota of a kind ("pool", "vip", …); negative
	// means unlimited.
	Quotas map[string]int64
	// Host is the node's name, as the agent object shows it.
	Host string
}

// Caller is on whose behalf the service acts.
type Caller struct {
	// TenantID owns what the caller creates.
	TenantID string
	// Admin sees all tenants and may name another one in tenant_id.
	Admin bool
	// Who describes the caller, and RequestID the request, for the audit log.
	Who, RequestID string
}

// DefaultTenant owns what an administrator creates without naming a tenant.
const DefaultTenant = "default"

// Service is the load balancing service: objects, their rules and their store.
// It is safe for concurrent use; every method is one transaction.
type Service struct {
	opts      Options
	resources map[Collection]resource
	agent     agentRecord
	started   time.Time
}

// New returns the service over opts.Store and prepares the store's records on
// first use. A store that is read-only serves what it has.
func New(ctx context.Context, opts Options) (*Service, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{opts: opts, resources: resources(), started: time.Now()}
	if err := s.prepare(ctx); err != nil && !errors.Is(err, ErrStoreReadOnly) {
		return nil, fmt.Errorf("prepare the store: %w", err)
	}
	return s, nil
}
