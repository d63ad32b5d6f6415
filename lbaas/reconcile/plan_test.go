package reconcile

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"qlbaas/healthd"
	"qlbaas/lbaas"
	"qlbaas/loader"
)

var plain = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}, healthd.Codes{})

func wantedBalancer() loader.Balancer {
	return loader.Balancer{
		PoolID: id('a', 1), AdminUp: true, Protocol: loader.TCP, Method: loader.RoundRobin,
		DrainTimeout: time.Minute,
		VIP: loader.VIP{
			ID: id('b', 1), PortID: id('c', 1), MAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 1}, AdminUp: true,
			Address: netip.MustParsePrefix("172.16.100.11/24"), Gateway: netip.MustParseAddr("172.16.100.1"),
			Port: 80, Bridge: "br0", ConnectionLimit: -1, PersistenceTimeout: 3 * time.Hour,
			IdleTimeout: 7440 * time.Second, FlowLimit: 16384,
		},
		Members: []loader.Member{
			{ID: id('e', 17), Address: netip.MustParseAddrPort("172.16.100.9:80"), Weight: 1, AdminUp: true},
			{ID: id('e', 18), Address: netip.MustParseAddrPort("172.16.100.10:80"), Weight: 1, AdminUp: true},
		},
	}
}

func TestBalancer(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*lbaas.PoolConfig)
		want func(*loader.Balancer)
	}{
		{"as it is", func(*lbaas.PoolConfig) {}, func(*loader.Balancer) {}},
		{"pool down", func(c *lbaas.PoolConfig) { c.Pool.AdminStateUp = false }, func(b *loader.Balancer) { b.AdminUp = false }},
		{"vip down", func(c *lbaas.PoolConfig) { c.VIP.AdminStateUp = false }, func(b *loader.Balancer) { b.VIP.AdminUp = false }},
		{"member down keeps its place", func(c *lbaas.PoolConfig) { c.Members[0].AdminStateUp = false }, func(b *loader.Balancer) { b.Members[0].AdminUp = false }},
		{"weight 0", func(c *lbaas.PoolConfig) { c.Members[1].Weight = 0 }, func(b *loader.Balancer) { b.Members[1].Weight = 0 }},
		{"least connections", func(c *lbaas.PoolConfig) { c.Pool.LBMethod = lbaas.MethodLeastConnections }, func(b *loader.Balancer) { b.Method = loader.LeastConnections }},
		{"source ip", func(c *lbaas.PoolConfig) { c.Pool.LBMethod = lbaas.MethodSourceIP }, func(b *loader.Balancer) { b.Method = loader.SourceIP }},
		{"persistence", func(c *lbaas.PoolConfig) {
			c.VIP.SessionPersistence = &lbaas.SessionPersistence{Type: lbaas.PersistenceSourceIP}
		}, func(b *loader.Balancer) { b.VIP.Persistence = loader.SourceIPPersistence }},
		{"cookies on HTTPS mean nothing", func(c *lbaas.PoolConfig) {
			c.VIP.Protocol = lbaas.ProtocolHTTPS
			c.VIP.SessionPersistence = &lbaas.SessionPersistence{Type: lbaas.PersistenceHTTPCookie}
		}, func(*loader.Balancer) {}},
		{"no gateway", func(c *lbaas.PoolConfig) { c.Subnet.GatewayIP = netip.Addr{} }, func(b *loader.Balancer) { b.VIP.Gateway = netip.Addr{} }},
		{"limits", func(c *lbaas.PoolConfig) { c.VIP.ConnectionLimit, c.VIP.FlowLimit, c.VIP.PersistenceTimeout = 0, 64, 0 }, func(b *loader.Balancer) {
			b.VIP.ConnectionLimit, b.VIP.FlowLimit, b.VIP.PersistenceTimeout = 0, 64, 0
		}},
		{"source addresses", func(c *lbaas.PoolConfig) {
			c.VIP.SNATAddresses = []netip.Addr{netip.MustParseAddr("172.16.100.21"), netip.MustParseAddr("172.16.100.20")}
		}, func(b *loader.Balancer) {
			b.SNAT = []netip.Addr{netip.MustParseAddr("172.16.100.21"), netip.MustParseAddr("172.16.100.20")}
		}},
		{"no members", func(c *lbaas.PoolConfig) { c.Members = nil }, func(b *loader.Balancer) { b.Members = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, want := poolConfig(1), wantedBalancer()
			c.edit(&cfg)
			c.want(&want)
			got, err := balancer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, plain); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnservable(t *testing.T) {
	for want, edit := range map[string]func(*lbaas.PoolConfig){
		"provider:physical_network":     func(c *lbaas.PoolConfig) { c.Network.PhysicalNetwork = "" },
		"provider:segmentation_id 4095": func(c *lbaas.PoolConfig) { c.Network.SegmentationID = 4095 },
		"no port on a network":          func(c *lbaas.PoolConfig) { c.Port = nil },
		"address nonsense":              func(c *lbaas.PoolConfig) { c.Port.MACAddress = "nonsense" },
		"not a UUID":                    func(c *lbaas.PoolConfig) { c.Port.ID = "../../etc" },
		"protocol GOPHER":               func(c *lbaas.PoolConfig) { c.Pool.Protocol = "GOPHER" },
		"lb_method COIN":                func(c *lbaas.PoolConfig) { c.Pool.LBMethod = "COIN" },
		"with weight 257":               func(c *lbaas.PoolConfig) { c.Members[0].Weight = 257 },
		"flow_limit -1":                 func(c *lbaas.PoolConfig) { c.VIP.FlowLimit = -1 },
	} {
		cfg := poolConfig(1)
		edit(&cfg)
		if _, err := balancer(cfg); !errors.Is(err, errUnservable) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want one that names %q", err, want)
		}
	}
}

func TestTargets(t *testing.T) {
	cfg := poolConfig(1)
	cfg.Members[1].AdminStateUp = false
	off := cfg.Monitors[0]
	off.Monitor.ID, off.Monitor.AdminStateUp = id('9', 2), false
	tcp := cfg.Monitors[0]
	tcp.Monitor.ID, tcp.Monitor.Type, tcp.Monitor.ExpectedCodes = id('9', 3), lbaas.MonitorTCP, ""
	cfg.Monitors = append(cfg.Monitors, off, tcp)
	got, err := targets(cfg, func(member string) bool { return member != id('e', 17) })
	if err != nil {
		t.Fatal(err)
	}
	codes, err := healthd.ParseCodes("200")
	if err != nil {
		t.Fatal(err)
	}
	timing := healthd.Check{Delay: 10 * time.Second, Timeout: 5 * time.Second, MaxRetries: 3}
	http, conn := timing, timing
	http.ID, http.Type, http.Method, http.Path, http.Codes = id('9', 1), healthd.HTTP, "GET", "/", codes
	conn.ID, conn.Type = id('9', 3), healthd.TCP
	want := []healthd.Target{{
		Pool: id('a', 1), Member: id('e', 17), Address: netip.MustParseAddrPort("172.16.100.9:80"),
		Checks: []healthd.Check{http, conn}, Up: false,
	}}
	if diff := cmp.Diff(want, got, plain); diff != "" {
		t.Error(diff)
	}
	cfg.Monitors[0].Monitor.URLPath = "no slash"
	if _, err := targets(cfg, func(string) bool { return true }); !errors.Is(err, errUnservable) {
		t.Errorf("bad path: got %v", err)
	}
}

func TestValidID(t *testing.T) {
	for s, want := range map[string]bool{
		id('a', 1):                             true,
		"":                                     false,
		"A0000000-0000-4000-8000-000000000001": false,
		"a0000000-0000-4000-8000-00000000000/": false,
		"a0000000-0000-4000-8000-00000000000":  false,
		"../0000-0000-4000-8000-000000000001x": false,
		"a00000000000-4000-8000-0000000000012": false,
	} {
		if validID(s) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
}
