package main

import (
	"context"
	"os"
	"time"
)

// b6 is the ports toward a member.
func b6() figure {
	return figure{
		id: "B6",
		what: "ports toward one member given out until all 64,000 are taken, twice; what a new connection costs " +
			"with 50, 90, 95, 99 % of them taken, in a block or scattered, against none",
		target: "no port twice, none lost; with 95 % taken at most three times the cost, and p99 below 5 µs",
		bound:  5 * time.Minute,
		run:    natPorts,
	}
}

func natPorts(ctx context.Context, seed uint64) (r result, err error) {
	if err := os.Setenv(scaleVar, "1"); err != nil {
		return r, err
	}
	t, err := goTest(ctx, seed, "^TestEveryPort$", "./bpf")
	if err != nil {
		return r, err
	}
	t.add(&r)
	for _, n := range t.numbers {
		for name, value := range n {
			if name != "tries" && name != "failures" {
				r.number(name, value)
			}
		}
	}
	for _, pattern := range []string{"block", "scattered"} {
		empty, full := t.sum(pattern+"_0_p50_ns"), t.sum(pattern+"_95_p50_ns")
		if empty == 0 || full > 3*empty {
			r.miss("%s: a connection costs %.0f ns with 95 %% taken, and %.0f ns with none", pattern, full, empty)
		}
		if p99 := t.sum(pattern + "_95_p99_ns"); p99 >= 5000 {
			r.miss("%s: p99 is %.0f ns with 95 %% taken", pattern, p99)
		}
	}
	if r.Tries < 2*64_000 {
		r.miss("only %d ports were given out", r.Tries)
	}
	return r, nil
}
