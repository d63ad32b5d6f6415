package lbaas

import (
	"context"
	"errors"
	"log/slog"
)

// Sizes is what a balancer's tables will have to hold.
type Sizes struct {
	// Flows is the flow table's size, in flows.
	Flows uint32
	// Affinity says that the pool needs an affinity table.
	Affinity bool
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
	opts Options
}

// New returns the service over opts.Store and prepares the store's records on
// first use.
func New(ctx context.Context, opts Options) (*Service, error) {
	return &Service{opts: opts}, nil
}

var errSoon = errors.New("not written yet")

// PoolConfig is everything that one pool's balancer is made from, as of one
// revision of the store.
type PoolConfig struct {
	// Revision is the store's at the time of reading.
	Revision uint64
	Pool     Pool
	// VIP and what it stands on are nil while the pool has no VIP.
	VIP     *VIP
	Port    *Port
	Subnet  *Subnet
	Network *Network
	// Members in the order of their creation.
	Members []Member
	// Monitors in the order in which they were associated.
	Monitors []MonitorConfig
}

// MonitorConfig is a monitor with its association to the pool.
type MonitorConfig struct {
	Association Association
	Monitor     HealthMonitor
}

// PoolIDs returns the ids of all pools, with and without a VIP, oldest first.
func (s *Service) PoolIDs(ctx context.Context) ([]string, error) { return nil, errSoon }

// PoolConfig reads one pool whole. The error of a pool that is not (or no
// longer) there satisfies IsNotFound: whatever is on the node is to be removed.
func (s *Service) PoolConfig(ctx context.Context, poolID string) (PoolConfig, error) {
	return PoolConfig{}, errSoon
}

// Report is the outcome of an attempt to make one object real.
type Report struct {
	// Kind is KindPool, KindVIP, KindMember or KindAssociation.
	Kind Kind
	// ID of the object; of an association the monitor's, with PoolID the pool's.
	ID, PoolID string
	// Generation is the one that was acted upon (Header.Generation). The report is
	// dropped when the object has another one by now, or is gone.
	Generation uint64
	Status     Status
	// Description is the reason, empty for none.
	Description string
}

// Kind says what a Report speaks of.
type Kind string

// The kinds of objects that have a status from the node.
const (
	KindPool        Kind = "pool"
	KindVIP         Kind = "vip"
	KindMember      Kind = "member"
	KindAssociation Kind = "association"
)

// SetStatuses records reports in one transaction. Reports that change nothing
// cost no write. It triggers no notification.
func (s *Service) SetStatuses(ctx context.Context, reports ...Report) error { return errSoon }

// CloseStats adds the last counters of a deployment to the pool's base before
// the deployment is removed from the node; from then on live counters are
// ignored until OpenStats. A second call changes nothing, so that a crash
// between CloseStats and the removal counts nothing twice. Unknown pools are
// ignored.
func (s *Service) CloseStats(ctx context.Context, poolID string, last Counters) error { return errSoon }

// OpenStats lets live counters count again. It is to be called before a pool is
// deployed whose PoolConfig says Stats.Closed, and after whatever was left of
// the closed deployment has been removed.
func (s *Service) OpenStats(ctx context.Context, poolID string) error { return errSoon }

// IsNotFound tells whether err says that an object does not exist.
func IsNotFound(err error) bool { return false }
