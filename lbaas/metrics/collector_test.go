package metrics

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"qlbaas/l7/control"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
	"qlbaas/lbaas"
	"qlbaas/lbaas/reconcile"
	"qlbaas/loader"
	"qlbaas/loader/router"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type fakeSource struct {
	pools   []reconcile.PoolCounters
	routers []reconcile.RouterCounters
	err     error
}

func (f fakeSource) Counters(context.Context) ([]reconcile.PoolCounters, error) {
	return f.pools, f.err
}

func (f fakeSource) RouterCounters(context.Context) ([]reconcile.RouterCounters, error) {
	return f.routers, f.err
}

func (f fakeSource) Budget() loader.BudgetStatus { return loader.BudgetStatus{Used: 10, Limit: 100} }

func (f fakeSource) Counts() reconcile.Counts {
	return reconcile.Counts{Applied: 4, Failed: 3, Drifted: 2, Verdicts: 1}
}

// example has a pool of each kind: deployed with a past, without a VIP, unreadable.
func example() fakeSource {
	return fakeSource{pools: []reconcile.PoolCounters{
		{
			PoolID: "deployed",
			Base:   lbaas.Counters{BytesIn: 1000, BytesOut: 2000, TotalConnections: 30, ActiveConnections: 99},
			Live: &loader.Stats{
				Counters: loader.Counters{BytesIn: 1, BytesOut: 2, PacketsIn: 3, PacketsOut: 4, TotalConnections: 5, ActiveConnections: 6},
				Members: []loader.MemberStats{
					{ID: "m1", Up: true, PortsUsed: 7, PortsTotal: 64000, Counters: loader.Counters{BytesIn: 8, BytesOut: 9, PacketsIn: 10, PacketsOut: 11, TotalConnections: 12, ActiveConnections: 13}},
					{ID: "m2"},
				},
				Drops:    map[string]uint64{"no_member": 14, "conn_limit": 0},
				Verdicts: map[string]uint64{"forwarded": 15},
				Events:   map[string]uint64{"nat_pressure": 17},
				Tables:   []loader.TableUse{{Name: "flows", Used: 16, Size: 32768}},
			},
		},
		{
			PoolID: "cookies",
			Live: &loader.Stats{
				Counters: loader.Counters{BytesIn: 1, BytesOut: 2, TotalConnections: 3, ActiveConnections: 4},
				Members:  []loader.MemberStats{{ID: "m1", Up: true, Counters: loader.Counters{BytesIn: 5, BytesOut: 6, TotalConnections: 7, ActiveConnections: 8}}},
			},
			Sidecar: &control.Stats{
				Pool: pool.Stats{
					Learned: 9, Past: pool.MemberStats{BytesIn: 10, BytesOut: 20},
					Members: []pool.MemberStats{
						{ID: "m1", Requests: 100, Connections: 200, Failures: 300, BytesIn: 400, BytesOut: 500, Active: 600, Open: 700},
						{ID: "removed", Requests: 1, BytesIn: 1000, BytesOut: 2000},
					},
				},
				Proxy: proxy.Stats{Clients: 11, Accepted: 12, Requests: 13, Displaced: 14, Bad: 15, Slow: 16, Unserved: 17, Broken: 18, Late: 19},
			},
			Restarts: 21,
		},
		{PoolID: "idle", Base: lbaas.Counters{BytesIn: 7, TotalConnections: 1}},
		{PoolID: "unreadable", Base: lbaas.Counters{BytesIn: 7}, Err: errors.New("x")},
	}, routers: []reconcile.RouterCounters{
		{
			RouterID: "deployed",
			Live: &router.Stats{
				Floating: []router.FloatingStats{{ID: "f1", PacketsIn: 21, BytesIn: 22, PacketsOut: 23, BytesOut: 24}, {ID: "f2"}},
				Drops:    map[string]uint64{"ttl": 25},
				Verdicts: map[string]uint64{"forwarded": 26},
			},
		},
		{RouterID: "waiting"},
		{RouterID: "unreadable", Err: errors.New("x")},
	}}
}

var build = BuildInfo{Version: "v1", GoVersion: "go1"}

func TestGolden(t *testing.T) {
	for name, source := range map[string]fakeSource{
		"testdata/metrics.txt":  example(),
		"testdata/no_state.txt": {err: errors.New("store is gone")},
	} {
		c := New(source, build)
		if *update {
			text := exposition(t, c)
			if err := os.WriteFile(name, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := testutil.CollectAndCompare(c, bytes.NewReader(want)); err != nil {
			t.Errorf("%s (run with -update to accept): %v", name, err)
		}
		problems, err := testutil.CollectAndLint(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// exposition is everything that c exposes, as Prometheus reads it.
func exposition(t *testing.T, c *Collector) []byte {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	text, err := testutil.GatherAndFormat(registry, expfmt.TypeTextPlain, names...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestHandler(t *testing.T) {
	rec := httptest.NewRecorder()
	Handler(example(), build, slog.New(slog.DiscardHandler)).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`qlbaas_pool_connections_total{pool="deployed"} 35`,
		`qlbaas_pool_readable{pool="unreadable"} 0`,
		"go_goroutines ",
		"process_open_fds ",
	} {
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), "\n"+line) {
			t.Errorf("%d: no line %q in\n%s", rec.Code, line, rec.Body)
		}
	}
}
