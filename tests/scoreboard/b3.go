package main

import (
	"context"
	"time"
)

// b3 is every value that a checksum can have before the balancer.
func b3() figure {
	return figure{
		id: "B3",
		what: "old checksums (TCP, UDP, ICMP and what it quotes; IPv4 and IPv6; tc and XDP) " +
			"by addresses and ports of chance, against a full computation",
		target: "65,536 values by at least 6 changes, none comes out wrong",
		bound:  3 * time.Minute,
		run:    everyChecksum,
	}
}

func everyChecksum(ctx context.Context, seed uint64) (r result, err error) {
	t, err := goTest(ctx, seed, "^TestEveryChecksum$", "./bpf")
	if err != nil {
		return r, err
	}
	t.add(&r)
	r.number("changes", r.Tries/65_536)
	if r.Tries < 6*65_536 {
		r.miss("only %d cases were tried", r.Tries)
	}
	return r, nil
}
