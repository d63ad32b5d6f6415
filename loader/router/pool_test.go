package router

import (
	"context"
	"net/netip"
	"testing"

	"qlbaas/loader"
)

// A floating IP leads to the VIP of a pool on the same node: its clients are balanced, and
// hear of refusals.
func TestFloatingVIP(t *testing.T) {
	onEveryHook(t, func(w *world) {
		s := w.site(1)
		second, err := s.poor.StartEcho("server2", netip.AddrPortFrom(poorAddr, echoPort))
		w.must(err)
		vip := netip.MustParseAddr("172.16.50.30")
		s.Floating[0].Fixed = vip

		pools, pool := w.pool(s, vip, echoPort)
		n := w.open()
		w.apply(n, s.Router)

		heard := map[string]int{}
		for range 10 {
			conn, name, err := w.dial(w.client, s.floating(), patience)
			w.must(err)
			w.must(say(conn, "through router and balancer"))
			conn.Close()
			heard[name]++
		}
		if heard[s.echo.Name()] != 5 || heard[second.Name()] != 5 {
			t.Errorf("10 connections went to %v", heard)
		}
		if err := w.ping(w.client, s.Floating[0].Address, 56, 0, patience); err != nil {
			t.Errorf("ping of the VIP: %v", err)
		}
		pool.Members = nil
		w.must(pools.Apply(w.Context(), pool))
		if _, _, err := w.dial(w.client, s.floating(), patience); !isRefused(err) {
			t.Errorf("without members: %v", err)
		}
		w.remove(n, s.Router)
		w.must(pools.Remove(w.Context(), pool.PoolID))
	})
}

// What is taken away is silent, and answers again once it is back.
func TestSwitchedOff(t *testing.T) {
	w := newWorld(t, "")
	s := w.site(1)
	n := w.open()
	w.apply(n, s.Router)
	w.reaches(w.client, s.floating(), s)
	down, alone, plain := *s.clone(), *s.clone(), *s.clone()
	down.AdminUp, alone.External, plain.Floating = false, nil, nil
	for name, r := range map[string]Router{"admin-down": down, "without gateway": alone, "disassociated": plain} {
		w.apply(n, r)
		if _, _, err := w.dial(w.client, s.floating(), silence); err == nil || isRefused(err) {
			t.Errorf("%s: %v", name, err)
		}
		w.apply(n, s.Router)
		w.reaches(w.client, s.floating(), s)
	}
	w.remove(n, s.Router)
	w.wantNothingLeft()
}

// What cannot be made is refused before anything is made.
func TestInvalid(t *testing.T) {
	w := newWorld(t, "")
	n := w.open()
	good := w.plan()
	for name, spoil := range map[string]func(*Router){
		"id":                      func(r *Router) { r.ID = "x" },
		"port id":                 func(r *Router) { r.Inside[0].PortID = "x" },
		"same port":               func(r *Router) { r.Inside[0].PortID = r.External.PortID },
		"MAC":                     func(r *Router) { r.External.MAC = nil },
		"address":                 func(r *Router) { r.External.Address = netip.MustParsePrefix("2001:db8::1/64") },
		"bridge":                  func(r *Router) { r.Inside[1].Bridge = "" },
		"gateway":                 func(r *Router) { r.External.Gateway = netip.MustParseAddr("::1") },
		"route":                   func(r *Router) { r.Routes = []Route{{}} },
		"floating IP's id":        func(r *Router) { r.Floating[0].ID = "" },
		"floating IP's family":    func(r *Router) { r.Floating[0].Fixed = netip.MustParseAddr("::1") },
		"floating IP twice":       func(r *Router) { r.Floating[1].Address = r.Floating[0].Address },
		"two for a fixed address": func(r *Router) { r.Floating[1].Fixed = r.Floating[0].Fixed },
	} {
		bad := good.clone()
		spoil(bad)
		if err := n.Apply(w.Context(), *bad); !isInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := n.Remove(w.Context(), "x"); !isInvalid(err) {
		t.Errorf("Remove: %v", err)
	}
	missing := good.clone()
	missing.Inside[1].Bridge = "br-none"
	if err := n.Apply(w.Context(), *missing); err == nil || isInvalid(err) {
		t.Errorf("without bridge: %v", err)
	}
	if _, err := n.Stats(good.ID); !isNotDeployed(err) {
		t.Errorf("Stats: %v", err)
	}
	if _, err := n.Status(good.ID); !isNotDeployed(err) {
		t.Errorf("Status: %v", err)
	}
	w.wantNothingLeft()
}

// pool balances over both servers, beside the router.
func (w *world) pool(s *site, vip netip.Addr, port uint16) (*loader.Node, loader.Balancer) {
	w.Helper()
	dir := w.TempDir()
	pools, err := loader.Open(w.Context(), loader.Options{
		BPFFS: w.opts.BPFFS, RunDir: dir, StateDir: dir, Hook: w.opts.Hook, Log: w.opts.Log,
	})
	w.must(err)
	pool := loader.Balancer{
		PoolID: newUUID(w), AdminUp: true,
		VIP: loader.VIP{
			ID: newUUID(w), PortID: newUUID(w), MAC: newMAC(w), AdminUp: true, Address: netip.PrefixFrom(vip, 24),
			Gateway: gatewayAddr, Port: port, Bridge: s.bridge, ConnectionLimit: -1,
		},
		Members: []loader.Member{
			{ID: newUUID(w), Address: netip.AddrPortFrom(serverAddr, port), Weight: 1, AdminUp: true},
			{ID: newUUID(w), Address: netip.AddrPortFrom(poorAddr, port), Weight: 1, AdminUp: true},
		},
	}
	w.must(pools.Apply(w.Context(), pool))
	w.Cleanup(func() {
		if err := pools.Remove(context.WithoutCancel(w.Context()), pool.PoolID); err != nil {
			w.Error(err)
		}
		pools.Close()
	})
	return pools, pool
}
