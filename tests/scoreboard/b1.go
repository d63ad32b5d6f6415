package main

import (
	"context"
	"time"
)

// b1 is the catalogue of hostile packets, row by row.
func b1() figure {
	return figure{
		id:     "B1",
		what:   "rows of the catalogue of hostile packets, by the tests that prove them",
		target: "no row misbehaves",
		bound:  10 * time.Minute,
		run:    hostileRows,
	}
}

func hostileRows(ctx context.Context, seed uint64) (r result, err error) {
	t, err := goTest(ctx, seed, "Hostile", "./bpf")
	if err != nil {
		return r, err
	}
	r.Failures = len(leaves(t.failed, t.passed))
	r.number("packages", 1)
	r.Tries = len(leaves(t.passed, t.failed)) + r.Failures
	return r, nil
}
