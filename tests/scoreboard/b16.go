package main

import (
	"context"
	"time"
)

// b16 is what a sidecar makes of clients that mean ill.
func b16() figure {
	return figure{
		id: "B16",
		what: "requests that could be read in two ways, by a member that compares bytes and by nginx; a million forged " +
			"cookies; 5,000 connections that stand still in head, body or answer",
		target: "60 requests at least and none that differs; no cookie accepted; others have their answer in 100 ms " +
			"(p99)",
		bound: 4 * time.Minute,
		run:   hostileRequests,
	}
}

func hostileRequests(ctx context.Context, seed uint64) (r result, err error) {
	t, err := goTest(ctx, seed,
		"^(TestCorpus|TestCorpusAtNginx|TestAnswers|TestForgedCookies|TestSlowloris|TestHugeHeads)$", "./l7", "./l7/pool")
	if err != nil {
		return r, err
	}
	t.add(&r)
	r.Tries = int(t.sum("corpus") + t.sum("forged"))
	for _, n := range t.numbers {
		for name, value := range n {
			r.number(name, value)
		}
	}
	if t.sum("corpus") < 60 || t.sum("differing") > 0 {
		r.miss("%.0f requests, of which %.0f differ", t.sum("corpus"), t.sum("differing"))
	}
	if t.sum("forged") < 1_000_000 || t.sum("accepted") > 0 {
		r.miss("%.0f forged cookies, of which %.0f were accepted", t.sum("forged"), t.sum("accepted"))
	}
	if p99 := t.sum("others_p99_ms"); p99 >= 100 || t.sum("slow_clients") < 5000 {
		r.miss("others wait %.0f ms (p99) beside %.0f slow clients", p99, t.sum("slow_clients"))
	}
	return r, nil
}
