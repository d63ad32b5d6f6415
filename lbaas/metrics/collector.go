package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qlbaas/lbaas/reconcile"
	"qlbaas/loader"
)

// scrapeTimeout bounds one scrape.
const scrapeTimeout = 10 * time.Second

// Source is asked at every scrape; reconcile.Reconciler is one.
type Source interface {
	Counters(ctx context.Context) ([]reconcile.PoolCounters, error)
	RouterCounters(ctx context.Context) ([]reconcile.RouterCounters, error)
	Budget() loader.BudgetStatus
	Counts() reconcile.Counts
}

// Collector implements prometheus.Collector over a Source. It is safe for
// concurrent use if the Source is.
type Collector struct {
	source Source
	build  BuildInfo

	info, stateReadable, poolReadable             *prometheus.Desc
	poolTotal, poolActive, poolBytes, poolPackets *prometheus.Desc
	drops, verdicts, events, tableUsed, tableSize *prometheus.Desc
	memberTotal, memberActive, memberBytes        *prometheus.Desc
	memberPackets, memberUp, portsUsed, portsSize *prometheus.Desc
	budgetUsed, budgetLimit                       *prometheus.Desc
	sidecar                                       sidecarDescs
	attempts, drifted, healthVerdicts             *prometheus.Desc
	router                                        routerDescs
}

// BuildInfo says which program this is.
type BuildInfo struct {
	Version, GoVersion string
}

// New returns a Collector over source.
func New(source Source, build BuildInfo) *Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("qlbaas_"+name, help, labels, nil)
	}
	return &Collector{
		source: source, build: build,

		info:          desc("build_info", "1, with the version of the agent.", "version", "goversion"),
		stateReadable: desc("state_readable", "1 if the lists of pools and routers could be read for this scrape."),
		poolReadable:  desc("pool_readable", "1 if the pool's counters could be read; 1 also where nothing is deployed.", "pool"),

		poolTotal:   desc("pool_connections_total", "Completed handshakes.", "pool"),
		poolActive:  desc("pool_connections_active", "Established connections.", "pool"),
		poolBytes:   desc("pool_bytes_total", "Bytes of IP packets; in is from client to member.", "pool", "direction"),
		poolPackets: desc("pool_packets_total", "Packets (segments); in is from client to member.", "pool", "direction"),
		drops:       desc("pool_drops_total", "Packets that ended at the balancer, by reason.", "pool", "reason"),
		verdicts:    desc("pool_verdicts_total", "Packets that went on, by kind.", "pool", "verdict"),
		events:      desc("pool_events_total", "What happened besides, by kind: it decides about no packet.", "pool", "event"),
		tableUsed:   desc("pool_table_entries", "Entries in use.", "pool", "table"),
		tableSize:   desc("pool_table_size", "Entries that the table can hold.", "pool", "table"),

		memberTotal:   desc("member_connections_total", "Completed handshakes.", "pool", "member"),
		memberActive:  desc("member_connections_active", "Established connections.", "pool", "member"),
		memberBytes:   desc("member_bytes_total", "Bytes of IP packets; in is from client to member.", "pool", "member", "direction"),
		memberPackets: desc("member_packets_total", "Packets (segments); in is from client to member.", "pool", "member", "direction"),
		memberUp:      desc("member_up", "1 if the data plane takes the member for alive.", "pool", "member"),
		portsUsed:     desc("member_nat_ports_used", "Source ports in use toward the member.", "pool", "member"),
		portsSize:     desc("member_nat_ports_size", "Source ports that can be used toward the member.", "pool", "member"),

		sidecar: newSidecarDescs(desc),

		budgetUsed:  desc("budget_used_bytes", "Memory that the tables of all pools may take."),
		budgetLimit: desc("budget_limit_bytes", "Memory that tables of all pools can have."),

		attempts:       desc("reconcile_attempts_total", "Attempts to make a pool or a router as wanted.", "result"),
		drifted:        desc("reconcile_drifts_total", "Pools and routers found other than they had been applied."),
		healthVerdicts: desc("health_verdicts_total", "Members that went up or down."),
		router:         newRouterDescs(desc),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.info, c.stateReadable, c.poolReadable,
		c.poolTotal, c.poolActive, c.poolBytes, c.poolPackets, c.drops, c.verdicts, c.events, c.tableUsed, c.tableSize,
		c.memberTotal, c.memberActive, c.memberBytes, c.memberPackets, c.memberUp, c.portsUsed, c.portsSize,
		c.budgetUsed, c.budgetLimit, c.attempts, c.drifted, c.healthVerdicts,
	} {
		ch <- d
	}
	c.sidecar.describe(ch)
	c.router.describe(ch)
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := scrape(ch)
	s.gauge(c.info, 1, c.build.Version, c.build.GoVersion)
	budget := c.source.Budget()
	s.gauge(c.budgetUsed, float64(budget.Used))
	s.gauge(c.budgetLimit, float64(budget.Limit))
	counts := c.source.Counts()
	s.count(c.attempts, counts.Applied, "applied")
	s.count(c.attempts, counts.Failed, "failed")
	s.count(c.drifted, counts.Drifted)
	s.count(c.healthVerdicts, counts.Verdicts)

	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	pools, err := c.source.Counters(ctx)
	routers, routersErr := c.source.RouterCounters(ctx)
	s.flag(c.stateReadable, err == nil && routersErr == nil)
	for _, p := range pools {
		c.pool(s, p)
	}
	for _, r := range routers {
		c.router.collect(s, r)
	}
}

func (c *Collector) pool(s scrape, p reconcile.PoolCounters) {
	s.flag(c.poolReadable, p.Err == nil, p.PoolID)
	if p.Err != nil {
		return
	}
	live := loader.Stats{}
	if p.Live != nil {
		live = withSidecar(*p.Live, p.Sidecar)
	}
	s.count(c.poolTotal, p.Base.TotalConnections+live.TotalConnections, p.PoolID)
	s.gauge(c.poolActive, float64(live.ActiveConnections), p.PoolID)
	s.count(c.poolBytes, p.Base.BytesIn+live.BytesIn, p.PoolID, "in")
	s.count(c.poolBytes, p.Base.BytesOut+live.BytesOut, p.PoolID, "out")
	if p.Live == nil {
		return
	}
	s.count(c.poolPackets, live.PacketsIn, p.PoolID, "in")
	s.count(c.poolPackets, live.PacketsOut, p.PoolID, "out")
	for reason, n := range live.Drops {
		s.count(c.drops, n, p.PoolID, reason)
	}
	for verdict, n := range live.Verdicts {
		s.count(c.verdicts, n, p.PoolID, verdict)
	}
	for event, n := range live.Events {
		s.count(c.events, n, p.PoolID, event)
	}
	for _, table := range live.Tables {
		s.gauge(c.tableUsed, float64(table.Used), p.PoolID, table.Name)
		s.gauge(c.tableSize, float64(table.Size), p.PoolID, table.Name)
	}
	for _, m := range live.Members {
		c.member(s, p.PoolID, m)
	}
	if p.Sidecar != nil {
		c.sidecar.collect(s, p)
	}
}

func (c *Collector) member(s scrape, pool string, m loader.MemberStats) {
	s.count(c.memberTotal, m.TotalConnections, pool, m.ID)
	s.gauge(c.memberActive, float64(m.ActiveConnections), pool, m.ID)
	s.count(c.memberBytes, m.BytesIn, pool, m.ID, "in")
	s.count(c.memberBytes, m.BytesOut, pool, m.ID, "out")
	s.count(c.memberPackets, m.PacketsIn, pool, m.ID, "in")
	s.count(c.memberPackets, m.PacketsOut, pool, m.ID, "out")
	s.flag(c.memberUp, m.Up, pool, m.ID)
	s.gauge(c.portsUsed, float64(m.PortsUsed), pool, m.ID)
	s.gauge(c.portsSize, float64(m.PortsTotal), pool, m.ID)
}

// scrape is where one scrape's values go.
type scrape chan<- prometheus.Metric

func (s scrape) count(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s scrape) flag(d *prometheus.Desc, v bool, labels ...string) {
	n := 0.0
	if v {
		n = 1
	}
	s.gauge(d, n, labels...)
}
