package main

import (
	"context"
	"strings"
	"time"
)

// b4 is ICMP errors on their way through the balancer.
func b4() figure {
	return figure{
		id: "B4",
		what: "cases of ICMP errors translated in both directions, IPv4 and IPv6, tc and XDP; " +
			"among them a megabyte over a narrow hop, of which both ends learn",
		target: "all right, 24 at least",
		bound:  5 * time.Minute,
		run:    translatedErrors,
	}
}

func translatedErrors(ctx context.Context, seed uint64) (r result, err error) {
	t, err := goTest(ctx, seed, "^TestICMP$", "./bpf", "./tests")
	if err != nil {
		return r, err
	}
	passed, failed := leaves(t.passed), leaves(t.failed)
	r.Tries, r.Failures = len(passed)+len(failed), len(failed)
	transfers := 0
	for _, name := range append(passed, failed...) {
		if strings.Contains(name, "small_hop") {
			transfers++
		}
	}
	r.number("transfers_over_a_narrow_hop", transfers)
	if r.Tries < 24 || transfers == 0 {
		r.miss("only %d cases were tried, %d of them transfers", r.Tries, transfers)
	}
	return r, nil
}
