package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"qlbaas/lbaas/reconcile"
	"qlbaas/loader"
	"qlbaas/loader/router"
)

// fakeRouters are the routers of a fakeNode.
type fakeRouters struct{ node *fakeNode }

func (n *fakeNode) Routers() reconcile.RouterNode { return fakeRouters{n} }

func (f fakeRouters) Apply(_ context.Context, r router.Router) error {
	f.node.change(func() { f.node.routers[r.ID] = r })
	return nil
}

func (f fakeRouters) Remove(_ context.Context, id string) error {
	f.node.change(func() { delete(f.node.routers, id) })
	return nil
}

func (f fakeRouters) Deployed() ([]string, error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	return slices.Sorted(maps.Keys(f.node.routers)), nil
}

func (f fakeRouters) Refresh(context.Context) ([]string, error) { return nil, nil }

func (f fakeRouters) Stats(id string) (router.Stats, error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	stats := router.Stats{}
	for _, one := range f.node.routers[id].Floating {
		stats.Floating = append(stats.Floating, router.FloatingStats{ID: one.ID, BytesIn: 42})
	}
	return stats, nil
}

func (f fakeRouters) Status(id string) (router.Status, error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	r, ok := f.node.routers[id]
	if !ok {
		return router.Status{}, router.ErrNotDeployed
	}
	return router.Status{RouterID: id, Namespace: "qrouter-" + id, Hook: "tcx", Floating: len(r.Floating)}, nil
}

// TestRouterStory plays the commands of a user from an external network to a floating
// IP that a restarted agent still knows, and its deletion.
func TestRouterStory(t *testing.T) {
	m := newMachine(t)
	stop := m.start()
	m.do("net", "create", "ext", "--router:external", "--provider:physical_network", "br-ex")
	m.do("subnet", "create", "ext", "10.10.10.0/24", "--gateway", "10.10.10.4")
	m.do("net", "create", "net1", "--provider:physical_network", "br0")
	m.do("subnet", "create", "net1", "172.16.100.0/24", "--name", "lan")
	id := m.do("router", "create", "gate")["id"].(string)
	m.do("router", "gateway-set", "gate", "ext")
	m.do("router", "interface-add", "gate", "lan")
	host := m.do("port", "create", "net1", "--name", "host")["id"].(string)
	floating := m.do("floatingip", "create", "ext", "--floating-ip-address", "10.10.10.7")["id"].(string)
	m.do("floatingip", "associate", floating, "host")
	whole := func(map[string]loader.Balancer) bool {
		r := m.node.routers[id]
		return r.External != nil && r.External.Bridge == "br-ex" && r.External.Gateway.String() == "10.10.10.4" &&
			len(r.Inside) == 1 && r.Inside[0].Address.String() == "172.16.100.1/24" && r.SNAT && r.AdminUp &&
			len(r.Floating) == 1 && r.Floating[0].Address.String() == "10.10.10.7" && r.Floating[0].Fixed.String() == "172.16.100.2"
	}
	m.node.until(t, "the router with its floating IP", whole)
	m.awaitStatus("ACTIVE", "floatingip", "show", floating)
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	m.node.change(func() { m.node.routers[id] = router.Router{ID: id} })
	stop = m.start()
	m.node.until(t, "the router as it was, after a restart", whole)
	m.awaitStatus("ACTIVE", "router", "show", "gate")
	routers := m.do("status")["routers"].([]any)
	if len(routers) != 1 {
		t.Fatalf("status: %v", routers)
	}
	if shown := routers[0].(map[string]any); shown["name"] != "gate" || shown["deployed"] != true || shown["floating"] != 1.0 ||
		shown["namespace"] != "qrouter-"+id || shown["last_error"] != nil {
		t.Errorf("status: %v", shown)
	}
	if out, errs, code := m.run("floatingip", "create", "ext", "--port-id", host); code != 1 || !strings.Contains(errs, "already has a floating IP") {
		t.Errorf("a second one: exit %d, %s%s", code, out, errs)
	}
	m.do("floatingip", "delete", floating)
	m.do("router", "interface-delete", "gate", "lan")
	m.do("router", "gateway-clear", "gate")
	m.do("router", "delete", "gate")
	m.node.until(t, "removal", func(map[string]loader.Balancer) bool { return len(m.node.routers) == 0 })
	if log, err := stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, log)
	}
}

// awaitStatus asks until an object has a status.
func (m *machine) awaitStatus(want string, args ...string) {
	m.t.Helper()
	var got any
	for start := time.Now(); time.Since(start) < 20*time.Second; {
		if got = m.do(args...)["status"]; got == want {
			return
		}
	}
	m.t.Fatalf("%q: status %v, want %s", args, got, want)
}

// TestLostRouters: a router beside a new database means the same as a balancer.
func TestLostRouters(t *testing.T) {
	m := newMachine(t)
	m.node.routers[strangePool] = router.Router{ID: strangePool}
	if _, errs, code := m.run(m.agentArgs()[1:]...); code != 1 || !strings.Contains(errs, "--accept-empty") || !strings.Contains(errs, "1 routers") {
		t.Errorf("exit %d, %s", code, errs)
	}
	stop := m.start("--accept-empty")
	m.node.until(t, "removal", func(map[string]loader.Balancer) bool { return len(m.node.routers) == 0 })
	if log, err := stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, log)
	}
}
