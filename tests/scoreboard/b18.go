package main

import (
	"context"
	"os"
	"time"
)

// b18 is what is left when everybody has gone.
func b18() figure {
	return figure{
		id: "B18",
		what: "short connections for 60 s, as many as go, ended in every way by either side, half-open ones among " +
			"them, while members come and go; then silence. And one pass of the expiry over a million entries",
		target: "nobody counted, no entry, no port left; a pass costs less than one second of a core, and ends " +
			"nothing that was refreshed",
		bound: 8 * time.Minute,
		run:   churn,
	}
}

// scaleVar makes tests as large as the scoreboard wants them.
const scaleVar = "QLBAAS_SCALE"

func churn(ctx context.Context, seed uint64) (r result, err error) {
	if err := os.Setenv(scaleVar, "1"); err != nil {
		return r, err
	}
	t, err := goTest(ctx, seed, "^(TestChurn|TestExpiryOfMany)$", "./tests", "./bpf")
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
	if t.sum("connections") < 60_000 {
		r.miss("only %.0f connections were made", t.sum("connections"))
	}
	if t.sum("entries") < 1_000_000 {
		r.miss("the table had only %.0f entries", t.sum("entries"))
	}
	for _, pass := range []string{"nothing_old", "nothing_old_yet", "most_old"} {
		if cpu := t.sum(pass + "_cpu_s"); cpu >= 1 {
			r.miss("a pass (%s) took %.2f s of a core", pass, cpu)
		}
	}
	return r, nil
}
