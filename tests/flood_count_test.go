package tests

import (
	"time"

	"qlbaas/maps"
	"qlbaas/tests/lab"
)

// glance is what the counters say of the siege's pool and the members at one moment.
type glance struct {
	at time.Time
	// judged packets that came in at the pool's device, from either side; received by
	// the member that received most.
	judged  float64
	arrived []float64
	// Handshakes on the node; flows in the pool's table; ports taken toward each member.
	handshakes, flows float64
	ports             []float64
	promoted          float64
	drops             map[string]float64
}

func (s *siege) look() glance {
	s.t.Helper()
	m := s.scrape()
	g := glance{
		at:         time.Now(),
		handshakes: m.value("qlbaas_pool_table_entries", "pool", s.pool.id, "table", "half_open"),
		flows:      m.value("qlbaas_pool_table_entries", "pool", s.pool.id, "table", "flows"),
		promoted:   m.value("qlbaas_pool_connections_total", "pool", s.pool.id),
		drops:      map[string]float64{},
	}
	for _, one := range m.with("qlbaas_pool_drops_total", "pool", s.pool.id) {
		g.judged += one.value
		if one.value != 0 {
			g.drops[one.labels["reason"]] = one.value
		}
	}
	for _, one := range m.with("qlbaas_pool_verdicts_total", "pool", s.pool.id) {
		if one.labels["verdict"] != "answered" { // that is dropped as well
			g.judged += one.value
		}
	}
	for _, one := range m.with("qlbaas_member_nat_ports_used", "pool", s.pool.id) {
		g.ports = append(g.ports, one.value)
	}
	for _, member := range s.Members {
		l, err := member.Host.Netlink().LinkByName(lab.Uplink)
		if err != nil {
			s.t.Fatal(err)
		}
		g.arrived = append(g.arrived, float64(l.Attrs().Statistics.RxPackets))
	}
	return g
}

// span is what happened between two glances.
type span struct {
	ingress  float64 // packets per second at the pool's device
	received float64 // packets per second at the member that received most
}

func (g glance) since(before glance) span {
	took := g.at.Sub(before.at).Seconds()
	s := span{ingress: (g.judged - before.judged) / took}
	for i, n := range g.arrived {
		s.received = max(s.received, (n-before.arrived[i])/took)
	}
	return s
}

// extra is how many ports are taken by no flow: by handshakes, and by nobody.
func (g glance) extra() (n float64) {
	for _, used := range g.ports {
		n += used
	}
	return n - g.flows
}

// fullest is the share of ports that are taken toward the member of which most are.
func (g glance) fullest() (share float64) {
	for _, used := range g.ports {
		share = max(share, used/maps.NATPorts)
	}
	return share
}
