package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"qlbaas/healthd"
	"qlbaas/lbaas"
	"qlbaas/loader"
)

var errFault = errors.New("injected fault")

// faults fails every n-th call, for the pools in only when that is not nil.
type faults struct {
	mu    sync.Mutex
	every int
	calls int
}

func (f *faults) next() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.every > 0 && f.calls%f.every == 0 {
		return errFault
	}
	return nil
}

func (f *faults) set(every int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.every = every
}

// fakeNode keeps balancers in memory and writes down what was called.
type fakeNode struct {
	faults

	mu       sync.Mutex
	applied  map[string]loader.Balancer
	up       map[string]map[string]bool
	stats    map[string]loader.Stats
	drifted  []string
	log      []string
	inApply  map[string]int
	most     int // attempts at the same time
	overlaps int // attempts at one pool at the same time
	refusal  error
	admitted []loader.Balancer
	pause    func() // called in the middle of every Apply
}

func newNode() *fakeNode {
	return &fakeNode{
		applied: map[string]loader.Balancer{}, up: map[string]map[string]bool{},
		stats: map[string]loader.Stats{}, inApply: map[string]int{},
	}
}

func (n *fakeNode) note(format string, args ...any) {
	n.log = append(n.log, fmt.Sprintf(format, args...))
}

func (n *fakeNode) Apply(ctx context.Context, b loader.Balancer) error {
	n.mu.Lock()
	n.note("apply %s", b.PoolID)
	n.inApply[b.PoolID]++
	n.most = max(n.most, len(n.inApply))
	if n.inApply[b.PoolID] > 1 {
		n.overlaps++
	}
	pause := n.pause
	n.mu.Unlock()
	if pause != nil {
		pause()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inApply[b.PoolID]--; n.inApply[b.PoolID] == 0 {
		delete(n.inApply, b.PoolID)
	}
	if err := cmp.Or(ctx.Err(), n.refusal, n.next()); err != nil {
		return err
	}
	n.applied[b.PoolID] = b
	known := n.up[b.PoolID]
	now := map[string]bool{}
	for _, m := range b.Members {
		up, ok := known[m.ID]
		now[m.ID] = up || !ok
	}
	n.up[b.PoolID] = now
	return nil
}

func (n *fakeNode) Remove(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("remove %s", id)
	if err := n.next(); err != nil {
		return err
	}
	delete(n.applied, id)
	delete(n.up, id)
	delete(n.stats, id)
	return nil
}

func (n *fakeNode) Deployed() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.next(); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.applied)), nil
}

func (n *fakeNode) SetMemberUp(pool, member string, up bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("member %v", up)
	if err := n.next(); err != nil {
		return err
	}
	if n.up[pool] == nil {
		return loader.ErrNotDeployed
	}
	n.up[pool][member] = up
	return nil
}

func (n *fakeNode) MemberUp(pool, member string) (up, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	up, known = n.up[pool][member]
	return up, known
}

func (n *fakeNode) Stats(id string) (loader.Stats, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.applied[id]; !ok {
		return loader.Stats{}, loader.ErrNotDeployed
	}
	return n.stats[id], nil
}

func (n *fakeNode) Status(id string) (loader.PoolStatus, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, ok := n.applied[id]
	if !ok {
		return loader.PoolStatus{}, loader.ErrNotDeployed
	}
	return loader.PoolStatus{PoolID: id, Hook: "tcx", Generation: 7, MembersTotal: len(b.Members)}, nil
}

func (n *fakeNode) Budget() loader.BudgetStatus { return loader.BudgetStatus{Used: 1, Limit: 2} }

func (n *fakeNode) Admit(b loader.Balancer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.admitted = append(n.admitted, b)
	return n.refusal
}

func (n *fakeNode) Sweep(context.Context) error { return n.next() }

func (n *fakeNode) Refresh(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	drifted := n.drifted
	n.drifted = nil
	return drifted, n.next()
}

func (n *fakeNode) calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

func (n *fakeNode) with(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
}

// fakeState is a store with the service's rules about reports and counters.
type fakeState struct {
	faults

	mu      sync.Mutex
	pools   map[string]lbaas.PoolConfig
	routers map[string]lbaas.RouterConfig
	writes  int
	reports int
	log     func(string)
}

func newState() *fakeState {
	return &fakeState{pools: map[string]lbaas.PoolConfig{}, routers: map[string]lbaas.RouterConfig{}}
}

func (s *fakeState) put(cfg lbaas.PoolConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools[cfg.Pool.ID] = cfg
}

func (s *fakeState) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pools, id)
}

func (s *fakeState) get(id string) lbaas.PoolConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pools[id]
}

// change edits a pool as a user would: with a copy and a new generation.
func (s *fakeState) change(id string, edit func(*lbaas.PoolConfig)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.pools[id]
	cfg.Members = slices.Clone(cfg.Members)
	cfg.Monitors = slices.Clone(cfg.Monitors)
	if cfg.VIP != nil {
		vip := *cfg.VIP
		cfg.VIP = &vip
	}
	cfg.Pool.Generation++
	edit(&cfg)
	s.pools[id] = cfg
}

func (s *fakeState) PoolIDs(context.Context) ([]string, error) { return idsOf(s, s.pools) }

func (s *fakeState) PoolConfig(_ context.Context, id string) (lbaas.PoolConfig, error) {
	return configOf(s, s.pools, id, "PoolNotFound")
}

func idsOf[T any](s *fakeState, all map[string]T) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(all)), s.next()
}

func configOf[T any](s *fakeState, all map[string]T, id, missing string) (cfg T, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.next(); err != nil {
		return cfg, err
	}
	cfg, ok := all[id]
	if !ok {
		return cfg, &lbaas.Error{Type: missing, Code: 404, Message: "there is none"}
	}
	return cfg, nil
}

func (s *fakeState) SetStatuses(_ context.Context, reports ...lbaas.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.reports += len(reports)
	if err := s.next(); err != nil {
		return err
	}
	for _, r := range reports {
		s.record(r)
		s.recordRouted(r)
	}
	return nil
}

func (s *fakeState) record(r lbaas.Report) {
	cfg, ok := s.pools[r.PoolID]
	if !ok {
		return
	}
	now := lbaas.State{Status: r.Status, StatusDescription: r.Description}
	switch r.Kind {
	case lbaas.KindPool:
		if cfg.Pool.Generation == r.Generation {
			cfg.Pool.State = now
		}
	case lbaas.KindVIP:
		if cfg.VIP != nil && cfg.VIP.ID == r.ID && cfg.VIP.Generation == r.Generation {
			vip := *cfg.VIP
			vip.State, cfg.VIP = now, &vip
		}
	case lbaas.KindMember:
		cfg.Members = slices.Clone(cfg.Members)
		for i, m := range cfg.Members {
			if m.ID == r.ID && m.Generation == r.Generation {
				cfg.Members[i].State = now
			}
		}
	case lbaas.KindAssociation:
		cfg.Monitors = slices.Clone(cfg.Monitors)
		for i, m := range cfg.Monitors {
			if m.Monitor.ID == r.ID {
				cfg.Monitors[i].Association.State = now
			}
		}
	}
	s.pools[r.PoolID] = cfg
}

func (s *fakeState) CloseStats(_ context.Context, id string, last lbaas.Counters) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.next(); err != nil {
		return err
	}
	if s.log != nil {
		s.log("close " + id)
	}
	cfg := s.pools[id]
	if !cfg.Pool.Stats.Closed {
		cfg.Pool.Stats.BytesIn += last.BytesIn
		cfg.Pool.Stats.TotalConnections += last.TotalConnections
		cfg.Pool.Stats.Closed = true
	}
	s.pools[id] = cfg
	return nil
}

func (s *fakeState) OpenStats(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.next(); err != nil {
		return err
	}
	if s.log != nil {
		s.log("open " + id)
	}
	cfg := s.pools[id]
	cfg.Pool.Stats.Closed = false
	s.pools[id] = cfg
	return nil
}

func (s *fakeState) AddStats(_ context.Context, id string, part lbaas.Counters) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.next(); err != nil {
		return err
	}
	if cfg := s.pools[id]; !cfg.Pool.Stats.Closed {
		cfg.Pool.Stats.BytesIn += part.BytesIn
		cfg.Pool.Stats.TotalConnections += part.TotalConnections
		s.pools[id] = cfg
	}
	return nil
}

// fakeChecker keeps targets and lets a test say what the probes found.
type fakeChecker struct {
	mu      sync.Mutex
	targets map[string][]healthd.Target
	up      map[string]bool // by member; absent means as Target.Up said
}

func newChecker() *fakeChecker {
	return &fakeChecker{targets: map[string][]healthd.Target{}, up: map[string]bool{}}
}

func (c *fakeChecker) Set(pool string, targets []healthd.Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.targets[pool] = targets
	for _, t := range targets {
		if _, known := c.up[t.Member]; !known {
			c.up[t.Member] = t.Up
		}
	}
}

func (c *fakeChecker) Remove(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets[pool] {
		delete(c.up, t.Member)
	}
	delete(c.targets, pool)
}

func (c *fakeChecker) Members(pool string) []healthd.MemberHealth {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []healthd.MemberHealth
	for _, t := range c.targets[pool] {
		out = append(out, healthd.MemberHealth{Member: t.Member, Up: c.up[t.Member]})
	}
	return out
}

// find makes a verdict as healthd does: its own state first, then the sink.
func (c *fakeChecker) find(r *Reconciler, pool, member string, up bool, reason string) {
	c.mu.Lock()
	c.up[member] = up
	c.mu.Unlock()
	r.SetUp(healthd.Verdict{Pool: pool, Member: member, Up: up, Reason: reason})
}

// id makes a UUID out of a kind and a number.
func id(kind byte, n int) string {
	return fmt.Sprintf("%c0000000-0000-4000-8000-%012x", kind, n)
}

// poolConfig is pool n with a VIP, two members and an HTTP monitor, everything
// pending.
func poolConfig(n int) lbaas.PoolConfig {
	pending := lbaas.State{Status: lbaas.StatusPendingCreate}
	member := func(i int) lbaas.Member {
		return lbaas.Member{
			Header: lbaas.Header{ID: id('e', n*16+i), Generation: 1}, State: pending, PoolID: id('a', n),
			Address: netip.AddrFrom4([4]byte{172, 16, 100, byte(8 + i)}), ProtocolPort: 80, Weight: 1, AdminStateUp: true,
		}
	}
	return lbaas.PoolConfig{
		Pool: lbaas.Pool{
			Header: lbaas.Header{ID: id('a', n), Generation: 1}, State: pending,
			Protocol: lbaas.ProtocolHTTP, LBMethod: lbaas.MethodRoundRobin, AdminStateUp: true, DrainTimeout: 60,
		},
		VIP: &lbaas.VIP{
			Header: lbaas.Header{ID: id('b', n), Generation: 1}, State: pending, PoolID: id('a', n),
			Address: netip.MustParseAddr("172.16.100.11"), PortID: id('c', n), ProtocolPort: 80, Protocol: lbaas.ProtocolHTTP,
			ConnectionLimit: -1, AdminStateUp: true, PersistenceTimeout: 10800, IdleTimeout: 7440, FlowLimit: 16384,
		},
		Port:    &lbaas.Port{Header: lbaas.Header{ID: id('c', n)}, MACAddress: "fa:16:3e:00:00:01"},
		Subnet:  &lbaas.Subnet{Header: lbaas.Header{ID: id('d', n)}, CIDR: netip.MustParsePrefix("172.16.100.0/24"), GatewayIP: netip.MustParseAddr("172.16.100.1")},
		Network: &lbaas.Network{Header: lbaas.Header{ID: id('f', n)}, PhysicalNetwork: "br0"},
		Members: []lbaas.Member{member(1), member(2)},
		Monitors: []lbaas.MonitorConfig{{
			Association: lbaas.Association{State: pending, PoolID: id('a', n), MonitorID: id('9', n)},
			Monitor: lbaas.HealthMonitor{
				Header: lbaas.Header{ID: id('9', n)}, Type: lbaas.MonitorHTTP, Delay: 10, Timeout: 5,
				MaxRetries: 3, HTTPMethod: "GET", URLPath: "/", ExpectedCodes: "200", AdminStateUp: true,
			},
		}},
	}
}

// rig is a reconciler over fakes.
type rig struct {
	*Reconciler
	node    *fakeNode
	state   *fakeState
	checker *fakeChecker
}

func newRig(opts Options) *rig {
	g := &rig{node: newNode(), state: newState(), checker: newChecker()}
	g.Reconciler = New(g.node, opts)
	return g
}

func (g *rig) start(t *testing.T) {
	t.Helper()
	if err := g.Start(t.Context(), g.state, g.checker); err != nil {
		t.Fatal(err)
	}
}
