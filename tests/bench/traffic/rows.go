package traffic

import (
	"context"
	"fmt"
	"math"
	"strings"

	"qlbaas/tests/bench/table"
)

// floorOf is the limit of each hook of ours.
var floorOf = map[string]string{oursTCX: floorOutside, oursInside: floorInside, oursXDP: floorXDP, oursClsact: floorInside}

// everybody takes part in rows of one connection, hooks that differ in those of many.
var (
	everybody = []string{direct, haproxyTCP, haproxyHTTP, nftables, floorInside, floorOutside, floorXDP, oursTCX, oursInside, oursXDP, oursClsact}
	crowd     = everybody[:len(everybody)-1]
)

// Figures of a sample.
func cost(m sample) float64    { return m.busy }
func latency(m sample) float64 { return m.p50 }
func tail(m sample) float64    { return m.p99 }
func took(m sample) float64    { return m.took }
func rate(m sample) float64    { return m.rate }

// single is what is added to requests one after the other, on one CPU.
func (r *runner) single(ctx context.Context) error {
	for _, kind := range []struct {
		name  string
		close bool
	}{{"keep-alive", false}, {"one connection per request", true}} {
		w := row{name: "1 connection, " + kind.name, who: r.named(everybody...), load: load{connections: 1, close: kind.close, alone: true, seconds: 1}}
		all, err := r.measure(ctx, w)
		if err != nil {
			return err
		}
		r.added(w, "CPU per request, "+kind.name, all, cost, bounds{0.15, 0.3, 1.3})
		r.added(w, "latency p50, "+kind.name, all, latency, bounds{0.1, 0.4, 0})
		if kind.close {
			r.added(w, "time per connection, handshake included", all, took, bounds{0.1, 0.4, 0})
		}
	}
	return nil
}

// bounds of what is added, in shares of what peers add; 0 is none.
type bounds struct{ haproxy, nftables, floor float64 }

// added reports what direct takes, what everybody else adds to that, and how ours compare.
func (r *runner) added(w row, what string, all samples, figure func(sample) float64, b bounds) {
	base := all.of(direct, figure)
	least := resolution(base)
	r.report.Figures = append(r.report.Figures, table.Of(what, direct, "µs", base))
	more := map[string][]float64{}
	for _, s := range w.who {
		if s.name == direct {
			continue
		}
		plain := make([]float64, len(base))
		for i, v := range all.of(s.name, figure) {
			plain[i] = v - base[i]
			more[s.name] = append(more[s.name], math.Max(plain[i], least))
		}
		r.report.Figures = append(r.report.Figures, table.Of("added "+what, s.name, "µs", plain))
	}
	r.note("added %s: differences below %.2g µs, by which direct itself varies, count as that much in goals", what, least)
	for _, s := range w.who {
		if !s.ours {
			continue
		}
		for _, g := range []struct {
			against string
			bound   float64
		}{{haproxyTCP, b.haproxy}, {nftables, b.nftables}, {floorOf[s.name], b.floor}} {
			if g.bound > 0 {
				r.goal(table.AtMost("added "+what, s.name, g.against, more[s.name], more[g.against], g.bound))
			}
		}
	}
}

// resolution is how far rounds are from their median, as the median; half a microsecond is
// the least that clocks tell apart.
func resolution(rounds []float64) float64 {
	middle := table.Median(rounds)
	var off []float64
	for _, v := range rounds {
		off = append(off, math.Abs(v-middle))
	}
	return math.Max(table.Median(off), 0.5)
}

// many is requests on 64 connections.
func (r *runner) many(ctx context.Context) error {
	w := row{name: "64 connections, keep-alive", who: r.named(crowd...), load: load{connections: 64, seconds: 1}}
	all, err := r.measure(ctx, w)
	if err != nil {
		return err
	}
	what := "requests/s, keep-alive, 64 connections"
	r.figures(w, what, "/s", all, rate)
	r.figures(w, "p99, keep-alive, 64 connections", "µs", all, tail)
	r.atLeastFloor(w, what, all)
	r.goal(table.AtLeast(what, oursTCX, direct, all.of(oursTCX, rate), all.of(direct, rate), 0.95))
	return nil
}

func (r *runner) atLeastFloor(w row, what string, all samples) {
	for _, s := range w.who {
		if s.ours {
			r.goal(table.AtLeast(what, s.name, floorOf[s.name], all.of(s.name, rate), all.of(floorOf[s.name], rate), 0.97))
		}
	}
}

// anew is a connection for every request, 64 at once.
func (r *runner) anew(ctx context.Context) error {
	w := row{name: "64 connections, one per request", who: r.named(crowd...), load: load{connections: 64, close: true, seconds: r.seconds(2)}}
	all, err := r.measure(ctx, w)
	if err != nil {
		return err
	}
	what, p99 := "connections/s, one per request, 64 at once", "p99, one connection per request, 64 at once"
	r.figures(w, what, "/s", all, rate)
	r.figures(w, p99, "µs", all, tail)
	r.atLeastFloor(w, what, all)
	for _, s := range w.who {
		if !s.ours {
			continue
		}
		own := all.of(s.name, rate)
		r.goal(table.AtLeast(what, s.name, haproxyTCP, own, all.of(haproxyTCP, rate), 2))
		r.goal(table.AtLeast(what, s.name, nftables, own, all.of(nftables, rate), 2))
		if s.name == oursTCX {
			r.goal(table.AtLeast(what, s.name, direct, own, all.of(direct, rate), 0.85))
		}
		r.goal(table.AtMost(p99, s.name, haproxyTCP, all.of(s.name, tail), all.of(haproxyTCP, tail), 1))
	}
	r.refused(w.name, w, all)
	return nil
}

// two clients have clocks of their own, and use the same ports: what a balancer that keeps
// their ports and timestamps tells a member of one of them is in the way of the other one.
func (r *runner) two(ctx context.Context) error {
	w := row{name: "64 connections of two clients, one per request", who: r.named(direct, haproxyTCP, nftables, oursTCX), load: load{connections: 64, close: true, seconds: 1, clients: 2}}
	all, err := r.measure(ctx, w)
	if err != nil {
		return err
	}
	what, p99 := "connections/s, one per request, 64 at once, two clients", "p99, one connection per request, 64 at once, two clients"
	r.figures(w, what, "/s", all, rate)
	r.figures(w, p99, "µs", all, tail)
	for _, s := range w.who {
		if s.ours {
			own := all.of(s.name, rate)
			r.goal(table.AtLeast(what, s.name, haproxyTCP, own, all.of(haproxyTCP, rate), 2))
			r.goal(table.AtLeast(what, s.name, nftables, own, all.of(nftables, rate), 2))
		}
	}
	r.refused(w.name, w, all)
	return nil
}

// refused reports how many segments members have refused, of how many connections.
func (r *runner) refused(what string, w row, all samples) {
	var made []string
	for _, s := range w.who {
		var rejects []float64
		var connections float64
		for _, m := range all[s.name] {
			rejects = append(rejects, float64(m.rejects))
			connections += m.requests
		}
		made = append(made, fmt.Sprintf("%s %.0f", s.name, connections))
		r.report.Figures = append(r.report.Figures, table.Of("PAWS rejects, "+what, s.name, "", rejects))
		if s.ours {
			r.goal(table.None("PAWS rejects, "+what, s.name, rejects))
		}
	}
	r.note("connections made, %s: %s", what, strings.Join(made, ", "))
}

// longTime is how long connections are made without a pause, once.
const longTime = 60

// natPorts are the source ports toward one member.
const natPorts = 64_000

// long makes connections until every port was used, and again while members remember them.
func (r *runner) long(ctx context.Context) error {
	w := row{name: "64 connections, one per request, without a pause", who: r.named(oursTCX), load: load{connections: 64, close: true, seconds: longTime}}
	if r.Quick {
		w.load.seconds = 5
	}
	s := w.who[0]
	m, err := r.run(ctx, s, w.load)
	if err != nil {
		return err
	}
	r.judge(w, s, m)
	all := samples{s.name: {m}}
	name := fmt.Sprintf("one run of %d s", w.load.seconds)
	r.figures(w, "connections/s, one per request, 64 at once, "+name, "/s", all, rate)
	r.figures(w, "p99, one connection per request, 64 at once, "+name, "µs", all, tail)
	r.refused("64 at once, one per request, "+name, w, all)
	r.note("%s, %s: each of the %d ports toward both members was used %.2f times; a member remembers one for 60 s (TIME_WAIT)",
		s.name, name, natPorts*memberCount, m.requests/(natPorts*memberCount))
	return nil
}
