package reconcile

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	difference "github.com/google/go-cmp/cmp"

	"qlbaas/l7/control"
	l7pool "qlbaas/l7/pool"
	"qlbaas/l7/proxy"
	"qlbaas/lbaas"
	"qlbaas/loader"
)

// fakeSidecars keep configurations in memory, and write down in the node's log what was
// called.
type fakeSidecars struct {
	node *fakeNode

	mu      sync.Mutex
	serving map[string]control.Config
	leaving map[string]bool
	counted map[string]control.Stats
	refusal error
}

func newSidecars(node *fakeNode) *fakeSidecars {
	return &fakeSidecars{node: node, serving: map[string]control.Config{}, leaving: map[string]bool{}, counted: map[string]control.Stats{}}
}

func (s *fakeSidecars) note(format string, args ...any) {
	s.node.with(func() { s.node.note(format, args...) })
}

func (s *fakeSidecars) Ensure(_ context.Context, id string, vip netip.AddrPort, c control.Config) error {
	_, err := s.node.Stats(id) // says whether there is a namespace
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("ensure %s", vip)
	if err := cmp.Or(s.refusal, err); err != nil {
		return err
	}
	s.serving[id] = c
	if _, known := s.counted[id]; !known {
		s.counted[id] = control.Stats{}
	}
	return nil
}

func (s *fakeSidecars) SetMemberUp(id, member string, up bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.serving[id]
	c.Pool.Members = slices.Clone(c.Pool.Members)
	for i := range c.Pool.Members {
		if c.Pool.Members[i].ID == member {
			c.Pool.Members[i].Up = up
			s.serving[id] = c
		}
	}
	return nil
}

func (s *fakeSidecars) Stats(id string) (control.Stats, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.counted[id]
	return c, ok
}

func (s *fakeSidecars) Settle(id string, c control.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.counted[id]
	now.Proxy.Accepted -= c.Proxy.Accepted
	s.counted[id] = now
	if _, serving := s.serving[id]; !serving && !s.leaving[id] {
		delete(s.counted, id)
	}
}

func (s *fakeSidecars) State(id string) (serving, leaving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, serving = s.serving[id]
	return serving, s.leaving[id]
}

func (s *fakeSidecars) Retire(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("retire")
	delete(s.serving, id)
	s.leaving[id] = true
}

func (s *fakeSidecars) Remove(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("end %s", id)
	delete(s.serving, id)
	delete(s.leaving, id)
	delete(s.counted, id)
	return nil
}

func (s *fakeSidecars) Pools() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.counted))
}

func (s *fakeSidecars) Process(id string) (pid int, restarts uint64, ok bool) {
	serving, _ := s.State(id)
	return 4711, 2, serving
}

// accept makes a sidecar count connections, which are not over.
func (s *fakeSidecars) accept(id string, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counted[id]
	c.Proxy.Accepted += n
	s.counted[id] = c
}

func (s *fakeSidecars) gone(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leaving, id)
}

func (s *fakeSidecars) config(id string) control.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving[id]
}

// beside gives fn a started rig with sidecars and pool 1, which keeps clients by cookies.
func beside(t *testing.T, fn func(t *testing.T, g *rig, s *fakeSidecars)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(Options{})
		s := newSidecars(g.node)
		g.UseSidecars(s)
		cfg := poolConfig(1)
		withCookies(&cfg)
		g.state.put(cfg)
		g.start(t)
		settle()
		fn(t, g, s)
		g.Close()
	})
}

func withCookies(c *lbaas.PoolConfig) {
	c.VIP.SessionPersistence = &lbaas.SessionPersistence{Type: lbaas.PersistenceHTTPCookie}
	c.Pool.CookieKeys = [][]byte{[]byte("0123456789abcdef")}
}

func withoutCookies(c *lbaas.PoolConfig) { c.VIP.SessionPersistence = nil }

// did are the calls since the last time, without those that are no attempt's.
func (g *rig) did() []string {
	g.node.mu.Lock()
	defer g.node.mu.Unlock()
	log := g.node.log
	g.node.log = nil
	return log
}

// TestSidecarComesFirst: the sidecar listens before anybody is let in, and what follows is
// one step each.
func TestSidecarComesFirst(t *testing.T) {
	beside(t, func(t *testing.T, g *rig, s *fakeSidecars) {
		a, at := id('a', 1), "ensure 172.16.100.11:80"
		expect(t, g, a, "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE")
		if diff := difference.Diff([]string{at, "apply " + a, at, "apply " + a}, g.did()); diff != "" {
			t.Error(diff)
		}
		if b := g.node.applied[a]; b.Sidecar != loader.SidecarServes || !b.VIP.AdminUp {
			t.Errorf("%+v", b)
		}
		g.state.change(a, func(c *lbaas.PoolConfig) { c.VIP.ConnectionLimit = 5 })
		g.PoolsChanged(a)
		settle()
		if diff := difference.Diff([]string{at, "apply " + a}, g.did()); diff != "" {
			t.Error(diff)
		}
		if limit := s.config(a).Limits.Connections; limit != 5 {
			t.Errorf("limit %d", limit)
		}
	})
}

// TestLeaveCookies: the kernel balances again before the sidecar may go, and nothing that
// it counted is lost or counted twice.
func TestLeaveCookies(t *testing.T) {
	beside(t, func(t *testing.T, g *rig, s *fakeSidecars) {
		a := id('a', 1)
		counted := func(want uint64) {
			t.Helper()
			live, _ := g.PoolStats(t.Context(), a)
			if got := g.state.get(a).Pool.Stats.TotalConnections + live.TotalConnections; got != want {
				t.Errorf("%d connections, want %d", got, want)
			}
		}
		s.accept(a, 10)
		counted(10)
		g.did()
		g.state.change(a, withoutCookies)
		g.PoolsChanged(a)
		settle()
		if diff := difference.Diff([]string{"apply " + a, "retire"}, g.did()); diff != "" {
			t.Error(diff)
		}
		if b := g.node.applied[a]; b.Sidecar != loader.SidecarLeaves {
			t.Errorf("%+v", b)
		}
		counted(10)
		g.SidecarChanged(a) // it has retired
		settle()
		counted(10)
		s.accept(a, 5) // those who waited
		counted(15)
		s.gone(a)
		g.SidecarChanged(a)
		settle()
		if b := g.node.applied[a]; b.Sidecar != loader.NoSidecar {
			t.Errorf("%+v", b)
		}
		counted(15)
		if left := s.Pools(); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	})
}

func TestVerdictsReachSidecar(t *testing.T) {
	beside(t, func(t *testing.T, g *rig, s *fakeSidecars) {
		a := id('a', 1)
		g.checker.find(g.Reconciler, a, id('e', 17), false, "refused")
		if m := s.config(a).Pool.Members; m[0].Up || !m[1].Up {
			t.Errorf("%+v", m)
		}
		g.state.change(a, func(c *lbaas.PoolConfig) { c.Members[1].Weight = 7 })
		g.PoolsChanged(a)
		settle()
		if m := s.config(a).Pool.Members; m[0].Up || !m[1].Up || m[1].Weight != 7 {
			t.Errorf("%+v", m)
		}
	})
}

// TestDeleteWithSidecar: its counters are saved before it ends, and it ends before its
// namespace.
func TestDeleteWithSidecar(t *testing.T) {
	beside(t, func(t *testing.T, g *rig, s *fakeSidecars) {
		a := id('a', 1)
		s.accept(a, 3)
		g.did()
		g.state.change(a, func(c *lbaas.PoolConfig) { c.VIP = nil })
		g.PoolsChanged(a)
		settle()
		if diff := difference.Diff([]string{"end " + a, "remove " + a}, g.did()); diff != "" {
			t.Error(diff)
		}
		if n := g.state.get(a).Pool.Stats.TotalConnections; n != 3 {
			t.Errorf("%d connections are saved", n)
		}
	})
}

// TestSidecarRefuses: a pool that has none yet stays as it is; one that has is applied.
func TestSidecarRefuses(t *testing.T) {
	beside(t, func(t *testing.T, g *rig, s *fakeSidecars) {
		a := id('a', 1)
		s.mu.Lock()
		s.refusal = errors.New("it does not want to")
		s.mu.Unlock()
		g.state.change(a, func(c *lbaas.PoolConfig) { c.VIP.AdminStateUp, c.Pool.Status = false, lbaas.StatusPendingUpdate })
		g.PoolsChanged(a)
		settle()
		if g.node.applied[a].VIP.AdminUp {
			t.Error("the VIP is still up")
		}
		if why := g.state.get(a).Pool.StatusDescription; !strings.Contains(why, "it does not want to") {
			t.Errorf("the reason is %q", why)
		}
		b := id('a', 2)
		plainly := poolConfig(2)
		g.state.put(plainly)
		g.PoolsChanged(b)
		settle()
		g.state.change(b, withCookies)
		g.PoolsChanged(b)
		settle()
		if g.node.applied[b].Sidecar != loader.NoSidecar {
			t.Error("the kernel no longer balances")
		}
	})
}

func TestNoSidecars(t *testing.T) {
	run(t, Options{}, func(g *rig) {
		cfg := poolConfig(1)
		withCookies(&cfg)
		g.state.put(cfg)
	}, func(t *testing.T, g *rig) {
		settle()
		if s := g.state.get(id('a', 1)).Pool.State; s.Status != lbaas.StatusError || !strings.Contains(s.StatusDescription, "HTTP_COOKIE") {
			t.Errorf("%+v", s)
		}
	})
}

// TestOrphanSidecar: one whose pool nobody knows is ended at the start.
func TestOrphanSidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(Options{})
		s := newSidecars(g.node)
		g.UseSidecars(s)
		s.accept(id('a', 7), 1)
		g.state.put(poolConfig(1))
		g.start(t)
		if left := s.Pools(); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
		g.Close()
	})
}

func TestPlannedSidecar(t *testing.T) {
	cfg := poolConfig(1)
	withCookies(&cfg)
	cfg.Members[1].AdminStateUp, cfg.Members[0].Weight = false, 0
	want := control.Config{
		Pool: l7pool.Config{
			AdminUp: true, Method: l7pool.RoundRobin, Persistence: l7pool.HTTPCookie, Keys: cfg.Pool.CookieKeys, DrainTimeout: time.Minute,
			Members: []l7pool.MemberConfig{
				{ID: id('e', 17), Address: netip.MustParseAddrPort("172.16.100.9:80"), AdminUp: true},
				{ID: id('e', 18), Address: netip.MustParseAddrPort("172.16.100.10:80"), Weight: 1, Up: true},
			},
		},
		Limits: proxy.Limits{Connections: -1},
	}
	up := func(member string) bool { return member == id('e', 18) }
	if diff := difference.Diff(want, plannedSidecar(cfg, up), plain); diff != "" {
		t.Error(diff)
	}
	cfg.VIP.SessionPersistence = &lbaas.SessionPersistence{Type: lbaas.PersistenceAppCookie, CookieName: "SID"}
	cfg.VIP.IdleTimeout, cfg.VIP.ConnectionLimit, cfg.Pool.AdminStateUp, cfg.Pool.LBMethod = 20, 0, false, lbaas.MethodLeastConnections
	want.Pool.Persistence, want.Pool.CookieName, want.Pool.Keys = l7pool.AppCookie, "SID", nil
	want.Limits, want.Pool.AdminUp, want.Pool.Method = proxy.Limits{Idle: 20 * time.Second}, false, l7pool.LeastConnections
	if diff := difference.Diff(want, plannedSidecar(cfg, up), plain); diff != "" {
		t.Error(diff)
	}
	if err := want.Pool.Validate(); err != nil {
		t.Error(err)
	}
	for _, protocol := range []lbaas.Protocol{lbaas.ProtocolTCP, lbaas.ProtocolHTTPS} {
		if cfg.VIP.Protocol = protocol; readsCookies(cfg) {
			t.Errorf("cookies are read on %s", protocol)
		}
	}
}
