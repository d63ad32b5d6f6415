package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"qlbaas/lbaas/reconcile"
)

// routerDescs are the metrics of routers and floating IPs.
type routerDescs struct {
	readable, drops, verdicts      *prometheus.Desc
	floatingBytes, floatingPackets *prometheus.Desc
}

func newRouterDescs(desc func(name, help string, labels ...string) *prometheus.Desc) routerDescs {
	return routerDescs{
		readable: desc("router_readable", "1 if the router's counters could be read; 1 also where nothing is deployed.", "router"),
		drops:    desc("router_drops_total", "Packets that ended at the router's programs, by reason.", "router", "reason"),
		verdicts: desc("router_verdicts_total", "Packets that went on, by kind.", "router", "verdict"),

		floatingBytes:   desc("floatingip_bytes_total", "Bytes of IP packets; in is toward the fixed address.", "router", "floatingip", "direction"),
		floatingPackets: desc("floatingip_packets_total", "Packets (segments); in is toward the fixed address.", "router", "floatingip", "direction"),
	}
}

func (d routerDescs) describe(ch chan<- *prometheus.Desc) {
	for _, one := range []*prometheus.Desc{d.readable, d.drops, d.verdicts, d.floatingBytes, d.floatingPackets} {
		ch <- one
	}
}

func (d routerDescs) collect(s scrape, r reconcile.RouterCounters) {
	s.flag(d.readable, r.Err == nil, r.RouterID)
	if r.Live == nil {
		return
	}
	for reason, n := range r.Live.Drops {
		s.count(d.drops, n, r.RouterID, reason)
	}
	for verdict, n := range r.Live.Verdicts {
		s.count(d.verdicts, n, r.RouterID, verdict)
	}
	for _, f := range r.Live.Floating {
		s.count(d.floatingBytes, f.BytesIn, r.RouterID, f.ID, "in")
		s.count(d.floatingBytes, f.BytesOut, r.RouterID, f.ID, "out")
		s.count(d.floatingPackets, f.PacketsIn, r.RouterID, f.ID, "in")
		s.count(d.floatingPackets, f.PacketsOut, r.RouterID, f.ID, "out")
	}
}
