package router

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/tests/lab"
)

// The ways to a balanced service that are compared.
const (
	wayVIP      = "VIP-alone"    // from inside, no router
	wayFloating = "floating-VIP" // from outside, by router and balancer
	wayHAProxy  = "nft-HAProxy"  // from outside, by the router's nftables and HAProxy
)

var (
	benchVIP    = netip.MustParseAddr("172.16.50.30")
	haproxyAddr = netip.MustParseAddr("172.16.50.31")
	nearAddr    = netip.MustParseAddr("172.16.50.40")
)

// BenchmarkFloatingVIP compares requests, each on a connection of its own, to a service of
// two members; what counts is the ratio of the medians to those by floating IP and VIP:
//
//	go test ./loader/router -run '^$' -bench FloatingVIP -benchtime 1x
func BenchmarkFloatingVIP(b *testing.B) {
	w := newWorld(b, hook.NameTCX)
	s := w.site(1)
	serveAt(b, s.server, serverAddr)
	serveAt(b, s.poor, poorAddr)
	w.pool(s, benchVIP, requestPort)
	w.haproxy(s)
	near := w.host("near", s.bridge, netip.PrefixFrom(nearAddr, 24), gatewayAddr)
	n := w.open()
	ways := []string{wayVIP, wayFloating, wayHAProxy}
	rates, times := map[string][]float64{}, map[string][]time.Duration{}
	for range b.N {
		for range benchRounds {
			for _, way := range ways {
				rate, took := w.measureService(n, s, near, way)
				rates[way], times[way] = append(rates[way], rate), append(times[way], took)
			}
		}
	}
	for _, way := range ways {
		b.ReportMetric(middle(rates[way]), way+"-req/s")
		b.ReportMetric(middle(rates[way])/middle(rates[wayFloating]), way+"-req-ratio")
		b.ReportMetric(float64(middle(times[way]).Microseconds()), way+"-us-p50")
		b.ReportMetric(float64(middle(times[way]))/float64(middle(times[wayFloating])), way+"-us-ratio")
	}
}

// measureService returns requests in a second, many at once, and how long one takes alone.
func (w *world) measureService(n *Node, s *site, near *lab.Host, way string) (rate float64, p50 time.Duration) {
	w.Helper()
	from, to := w.client, s.Floating[0].Address
	s.Floating[0].Fixed = benchVIP
	switch way {
	case wayVIP:
		from, to = near, benchVIP
	case wayHAProxy:
		s.Floating[0].Fixed = haproxyAddr
	}
	w.apply(n, s.Router)
	if way == wayHAProxy {
		ns, err := netspace.Open(namespaceName(s.ID))
		w.must(err)
		defer ns.Close()
		for _, l := range s.legs() {
			w.must(w.detach(ns, pinsDir(w.opts.BPFFS, s.ID), l))
		}
	}
	w.requests(from, to, 1, nil) // neighbours are known
	rate = w.requests(from, to, benchWorkers, nil)
	var took []time.Duration
	w.requests(from, to, 1, func(d time.Duration) { took = append(took, d) })
	return rate, middle(took)
}

func middle[T float64 | time.Duration](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// haproxy balances over both servers on a host of its own, as Neutron configures it for
// protocol TCP, but with a limit of connections that does not bind.
func (w *world) haproxy(s *site) {
	w.Helper()
	host := w.host("haproxy", s.bridge, netip.PrefixFrom(haproxyAddr, 24), gatewayAddr)
	path := filepath.Join(w.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`global
	maxconn 8000
defaults
	mode tcp
	balance roundrobin
	maxconn 8000
	timeout connect 5000
	timeout client 50000
	timeout server 50000
frontend vip
	bind %s:%d
	default_backend members
backend members
	server a %s:%[2]d weight 1
	server b %s:%[2]d weight 1
`, haproxyAddr, requestPort, serverAddr, poorAddr)
	w.must(os.WriteFile(path, []byte(text), 0o600))
	cmd := exec.Command("haproxy", "-db", "-f", path)
	cmd.Stderr = os.Stderr
	_, err := host.Start(cmd)
	w.must(err)
}
