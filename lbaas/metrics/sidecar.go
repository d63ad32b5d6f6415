package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"qlbaas/l7/control"
	"qlbaas/lbaas/reconcile"
	"qlbaas/loader"
)

// sidecarDescs are the metrics that only pools with a sidecar have.
type sidecarDescs struct {
	requests, failures, answers, learned, displaced, restarts *prometheus.Desc
}

func newSidecarDescs(desc func(name, help string, labels ...string) *prometheus.Desc) sidecarDescs {
	return sidecarDescs{
		requests:  desc("sidecar_requests_total", "Requests that were given to the member.", "pool", "member"),
		failures:  desc("sidecar_failures_total", "Requests that the member refused or did not answer.", "pool", "member"),
		answers:   desc("sidecar_answers_total", "Answers of the sidecar's own, by status; 400 stands for all that were the client's fault.", "pool", "code"),
		learned:   desc("sidecar_learned_cookies", "Cookies of the application in the table.", "pool"),
		displaced: desc("sidecar_displaced_total", "Connections without a request that gave way to others.", "pool"),
		restarts:  desc("sidecar_restarts_total", "Times that this agent had to start the sidecar anew.", "pool"),
	}
}

func (d *sidecarDescs) describe(ch chan<- *prometheus.Desc) {
	for _, one := range []*prometheus.Desc{d.requests, d.failures, d.answers, d.learned, d.displaced, d.restarts} {
		ch <- one
	}
}

func (d *sidecarDescs) collect(s scrape, p reconcile.PoolCounters) {
	for _, m := range p.Sidecar.Pool.Members {
		s.count(d.requests, m.Requests, p.PoolID, m.ID)
		s.count(d.failures, m.Failures, p.PoolID, m.ID)
	}
	proxy := p.Sidecar.Proxy
	for code, n := range map[string]uint64{
		"400": proxy.Bad, "408": proxy.Slow, "502": proxy.Broken, "503": proxy.Unserved, "504": proxy.Late,
	} {
		s.count(d.answers, n, p.PoolID, code)
	}
	s.gauge(d.learned, float64(p.Sidecar.Pool.Learned), p.PoolID)
	s.count(d.displaced, proxy.Displaced, p.PoolID)
	s.count(d.restarts, p.Restarts, p.PoolID)
}

// withSidecar adds what a pool's sidecars have counted to what the kernel has: a pool's
// connections are those of clients, a member's those made to it.
func withSidecar(live loader.Stats, sidecar *control.Stats) loader.Stats {
	if sidecar == nil {
		return live
	}
	live.TotalConnections += sidecar.Proxy.Accepted
	live.ActiveConnections += uint64(max(0, sidecar.Proxy.Clients))
	live.BytesIn += sidecar.Pool.Past.BytesIn
	live.BytesOut += sidecar.Pool.Past.BytesOut
	live.Members = slices.Clone(live.Members)
	for _, m := range sidecar.Pool.Members {
		live.BytesIn += m.BytesIn
		live.BytesOut += m.BytesOut
		i := slices.IndexFunc(live.Members, func(k loader.MemberStats) bool { return k.ID == m.ID })
		if i < 0 {
			continue // removed
		}
		of := &live.Members[i]
		of.BytesIn += m.BytesIn
		of.BytesOut += m.BytesOut
		of.TotalConnections += m.Connections
		of.ActiveConnections += uint64(max(0, m.Open))
	}
	return live
}
