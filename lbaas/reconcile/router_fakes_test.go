package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"qlbaas/lbaas"
	"qlbaas/loader/router"
)

// fakeRouters keeps routers in memory and writes down what was called.
type fakeRouters struct {
	faults

	mu      sync.Mutex
	applied map[string]router.Router
	drifted []string
	log     []string
	refusal error
	// busy routers are in the middle of an Apply; overlaps counts two at one router.
	busy     map[string]bool
	overlaps int
	pause    func()
}

func newFakeRouters() *fakeRouters {
	return &fakeRouters{applied: map[string]router.Router{}, busy: map[string]bool{}}
}

func (n *fakeRouters) Apply(ctx context.Context, r router.Router) error {
	n.mu.Lock()
	n.log = append(n.log, "apply "+r.ID)
	if n.busy[r.ID] {
		n.overlaps++
	}
	n.busy[r.ID] = true
	pause := n.pause
	n.mu.Unlock()
	if pause != nil {
		pause()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, r.ID)
	if err := cmp.Or(ctx.Err(), n.refusal, n.next()); err != nil {
		return err
	}
	n.applied[r.ID] = r
	return nil
}

func (n *fakeRouters) Remove(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, "remove "+id)
	if err := n.next(); err != nil {
		return err
	}
	delete(n.applied, id)
	return nil
}

func (n *fakeRouters) Deployed() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.applied)), n.next()
}

func (n *fakeRouters) Refresh(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	drifted := n.drifted
	n.drifted = nil
	return drifted, n.next()
}

func (n *fakeRouters) Stats(id string) (router.Stats, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.applied[id]
	if !ok {
		return router.Stats{}, router.ErrNotDeployed
	}
	stats := router.Stats{}
	for _, f := range r.Floating {
		stats.Floating = append(stats.Floating, router.FloatingStats{ID: f.ID, PacketsIn: 7})
	}
	return stats, nil
}

func (n *fakeRouters) Status(id string) (router.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.applied[id]
	if !ok {
		return router.Status{}, router.ErrNotDeployed
	}
	return router.Status{RouterID: id, Namespace: "qrouter-" + id, Hook: "tcx", Floating: len(r.Floating)}, nil
}

func (n *fakeRouters) calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	calls := n.log
	n.log = nil
	return calls
}

func (n *fakeRouters) with(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
}

func (s *fakeState) RouterIDs(context.Context) ([]string, error) { return idsOf(s, s.routers) }

func (s *fakeState) RouterConfig(_ context.Context, id string) (lbaas.RouterConfig, error) {
	cfg, err := configOf(s, s.routers, id, "RouterNotFound")
	cfg.FloatingIPs = slices.Clone(cfg.FloatingIPs)
	return cfg, err
}

// edit changes a router, or makes or removes it, as a user would.
func (s *fakeState) edit(id string, do func(cfg *lbaas.RouterConfig)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if do == nil {
		delete(s.routers, id)
		return
	}
	cfg := s.routers[id]
	cfg.FloatingIPs = slices.Clone(cfg.FloatingIPs)
	do(&cfg)
	cfg.Router.Generation++
	s.routers[id] = cfg
}

// recordRouted stores a report about a router or a floating IP.
func (s *fakeState) recordRouted(r lbaas.Report) {
	now := lbaas.State{Status: r.Status, StatusDescription: r.Description}
	for id, cfg := range s.routers {
		if r.Kind == lbaas.KindRouter && id == r.ID && cfg.Router.Generation == r.Generation {
			cfg.Router.State = now
		}
		cfg.FloatingIPs = slices.Clone(cfg.FloatingIPs)
		for i, f := range cfg.FloatingIPs {
			if r.Kind == lbaas.KindFloatingIP && f.ID == r.ID && f.Generation == r.Generation {
				cfg.FloatingIPs[i].State = now
			}
		}
		s.routers[id] = cfg
	}
}

// statesOf shows the status of a router and of its floating IPs.
func (s *fakeState) statesOf(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := []string{shown(s.routers[id].Router.State)}
	for _, f := range s.routers[id].FloatingIPs {
		states = append(states, shown(f.State))
	}
	return states
}

// routed is router n with a gateway, one interface and two floating IPs.
func routed(n int) lbaas.RouterConfig {
	leg := func(port int, address, cidr, gateway, bridge string) lbaas.RouterLeg {
		return lbaas.RouterLeg{
			Port: lbaas.Port{
				Header: lbaas.Header{ID: id('c', n*16+port)}, MACAddress: fmt.Sprintf("fa:16:3e:00:%02x:%02x", n, port),
				FixedIPs: []lbaas.FixedIP{{IPAddress: netip.MustParseAddr(address)}},
			},
			Subnet:  lbaas.Subnet{CIDR: netip.MustParsePrefix(cidr), GatewayIP: netip.MustParseAddr(gateway)},
			Network: lbaas.Network{PhysicalNetwork: bridge},
		}
	}
	floating := func(i int) lbaas.FloatingIP {
		return lbaas.FloatingIP{
			Header: lbaas.Header{ID: id('b', n*16+i), Generation: 1}, State: lbaas.State{Status: lbaas.StatusDown},
			Address: netip.AddrFrom4([4]byte{10, 10, 10, byte(n*16 + i)}), FixedAddress: netip.AddrFrom4([4]byte{172, 16, 100, byte(10 + i)}),
		}
	}
	gateway := leg(1, "10.10.10.6", "10.10.10.0/24", "10.10.10.1", "br-ex")
	return lbaas.RouterConfig{
		Router:      lbaas.Router{Header: lbaas.Header{ID: id('a', n), Generation: 1}, State: lbaas.State{Status: lbaas.StatusBuild}, AdminStateUp: true, EnableSNAT: true},
		Gateway:     &gateway,
		Interfaces:  []lbaas.RouterLeg{leg(2, "172.16.100.1", "172.16.100.0/24", "172.16.100.1", "br-int")},
		FloatingIPs: []lbaas.FloatingIP{floating(1), floating(2)},
	}
}
