package healthd

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// DefaultMaxInFlight is the bound on probes in flight where Options has none.
const DefaultMaxInFlight = 4096

// voidInterval is how often a void probe is logged at most.
const voidInterval = 10 * time.Second

// Options of New; the zero value is usable.
type Options struct {
	// Log receives changes of verdicts and void probes, both rate limited; nil logs
	// nothing.
	Log *slog.Logger
	// MaxInFlight bounds the probes in flight, each of which holds one socket; 0
	// means DefaultMaxInFlight. At the bound probes wait their turn, see the
	// package's documentation.
	MaxInFlight int
}

// Checker probes the members of pools. Its methods are safe for concurrent use,
// from the Sink as well, but for Close there.
type Checker struct {
	sink  Sink
	log   *slog.Logger
	probe probeFunc
	slots *slots
	pulse *pulse

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	work      sync.WaitGroup // every goroutine of the Checker
	voidLines rate.Sometimes

	// mu guards what follows. Locks are taken in the order Checker, member,
	// reporter, and none is held while the Sink is called.
	mu    sync.Mutex
	pools map[string][]*member
	// leaving holds the reporters of dropped members that are still calling the Sink.
	leaving map[memberKey]*reporter
}

type memberKey struct{ pool, member string }

// member is one member of a pool and the checks it has to pass.
type member struct {
	report *reporter

	mu     sync.Mutex
	addr   netip.AddrPort
	checks []*check
}

// check is one check on one member. All but spec is guarded by the member's mu.
type check struct {
	spec   Check
	state  state
	probes history
	cancel context.CancelFunc
}

// up is the verdict: all checks are up. m.mu is held.
func (m *member) up() bool {
	for _, k := range m.checks {
		if !k.state.up {
			return false
		}
	}
	return true
}

// find returns the check with that ID or nil. m.mu is held.
func (m *member) find(id string) *check {
	for _, k := range m.checks {
		if k.spec.ID == id {
			return k
		}
	}
	return nil
}

// New returns a Checker without pools. It opens sockets by sockets, reports to
// sink, and runs until Close.
func New(sockets Sockets, sink Sink, opts Options) *Checker {
	p := &prober{sockets: sockets}
	return newChecker(p.probe, sink, opts)
}

func newChecker(probe probeFunc, sink Sink, opts Options) *Checker {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.MaxInFlight <= 0 {
		opts.MaxInFlight = DefaultMaxInFlight
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Checker{
		sink: sink, log: opts.Log, probe: probe,
		slots: newSlots(opts.MaxInFlight), pulse: newPulse(),
		ctx: ctx, cancel: cancel,
		voidLines: rate.Sometimes{First: 1, Interval: voidInterval},
		pools:     map[string][]*member{},
		leaving:   map[memberKey]*reporter{},
	}
	c.work.Go(func() { c.pulse.run(ctx) })
	return c
}

// Set makes targets the whole wanted state of a pool: members and checks that are
// absent are dropped.
//
// What did not change goes on undisturbed: state, counters, schedule, the probe in
// flight. Health is kept by member and check ID: a check that changed (or whose
// member changed its address) keeps its being up or down and its history, and
// starts to count anew. A check that is new to a known member starts as the member
// stands, so that exchanging the monitors of a dead member does not admit it
// again; a member left without checks is up.
//
// Of two targets with the same ID, or two such checks of one target, the first
// counts. Set returns at once; after Close it does nothing.
func (c *Checker) Set(pool string, targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	before := map[string]*member{}
	for _, m := range c.pools[pool] {
		before[m.report.member] = m
	}
	after := make([]*member, 0, len(targets))
	seen := make(map[string]bool, len(targets))
	for _, t := range targets {
		if seen[t.Member] {
			c.log.Error("member given twice; the second is ignored", "pool", pool, "member", t.Member)
			continue
		}
		seen[t.Member] = true
		m, known := before[t.Member]
		if !known {
			m = &member{report: c.reporter(pool, t)}
		}
		c.adopt(m, t, known)
		after = append(after, m)
		delete(before, t.Member)
	}
	for _, m := range before {
		c.drop(m)
	}
	c.pools[pool] = after
}

// Remove forgets a pool and the health of its members. It returns at once; probes
// in flight are broken off.
func (c *Checker) Remove(pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.pools[pool] {
		c.drop(m)
	}
	delete(c.pools, pool)
}

// Close ends all probes and waits for every goroutine, a call to the Sink that is
// under way included; so it must not be called from the Sink.
func (c *Checker) Close() {
	c.mu.Lock()
	c.cancel()
	c.mu.Unlock()
	c.work.Wait()
}

// adopt makes m what t wants. c.mu is held.
func (c *Checker) adopt(m *member, t Target, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	start := t.Up
	if known {
		start = m.up()
	}
	moved := m.addr != t.Address
	m.addr = t.Address
	wanted := &member{}
	for _, spec := range t.Checks {
		if wanted.find(spec.ID) != nil {
			c.log.Error("check given twice; the second is ignored",
				"pool", m.report.pool, "member", t.Member, "check", spec.ID)
			continue
		}
		k := m.find(spec.ID)
		if k == nil {
			k = c.start(m, &check{spec: spec, state: state{up: start}})
		} else if moved || k.spec != spec {
			k.cancel()
			k = c.start(m, &check{spec: spec, state: state{up: k.state.up}, probes: k.probes})
		}
		wanted.checks = append(wanted.checks, k)
	}
	for _, k := range m.checks {
		if wanted.find(k.spec.ID) == nil {
			k.cancel()
		}
	}
	m.checks = wanted.checks
	m.report.tell(m.up(), "the checks were changed")
}

// start runs a check. c.mu and m.mu are held.
func (c *Checker) start(m *member, k *check) *check {
	ctx, cancel := context.WithCancel(c.ctx)
	k.cancel = cancel
	at := endpoint{pool: m.report.pool, addr: m.addr}
	c.work.Go(func() { c.watch(ctx, m, k, at) })
	return k
}

// drop ends the checks and reports of a member. c.mu is held.
func (c *Checker) drop(m *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.checks {
		k.cancel()
	}
	if m.report.retire() {
		c.leaving[memberKey{m.report.pool, m.report.member}] = m.report
	}
}

// reporter returns the reporter of a new member. c.mu is held.
func (c *Checker) reporter(pool string, t Target) *reporter {
	key := memberKey{pool, t.Member}
	if r := c.leaving[key]; r != nil && r.revive(t.Up) {
		delete(c.leaving, key)
		return r
	}
	return newReporter(c, pool, t.Member, t.Up)
}

// forget lets go of a reporter whose member was dropped, now that it has ended.
func (c *Checker) forget(r *reporter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key := (memberKey{r.pool, r.member}); c.leaving[key] == r {
		delete(c.leaving, key)
	}
}
