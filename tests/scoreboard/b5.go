package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// b5 is a flood of SYNs, and those who live through it.
func b5() figure {
	return figure{
		id: "B5",
		what: "1,000 idle and 200 busy connections through 60 s of spoofed SYNs, and 60 s of SYNs with blind ACKs; " +
			"beside them 20 new connections a second from near and 20 from 200 ms away, and another pool",
		target: "none lost; 100,000 SYNs a second; 95 % of the new ones within 3 s; all as before within 10 s; " +
			"the other pool loses nothing; no forged handshake completes; no member gets 5,000 packets a second more",
		bound: 8 * time.Minute,
		run:   floods,
	}
}

// leastRate is how many packets a second the balancer has to be flooded with.
const leastRate = 100_000

func floods(ctx context.Context, seed uint64) (r result, err error) {
	if err := os.Setenv(scaleVar, "1"); err != nil {
		return r, err
	}
	t, err := goTest(ctx, seed, "^TestFlood$", "./tests")
	if err != nil {
		return r, err
	}
	t.add(&r)
	for _, n := range t.numbers {
		name := fmt.Sprint(n["flood"])
		r.number(name, n)
		if rate, _ := n["flood_per_s"].(float64); rate < leastRate {
			r.miss("%s: the flood had only %.0f packets a second", name, rate)
		}
	}
	if len(t.numbers) != 2 {
		r.miss("%d floods were measured, want 2", len(t.numbers))
	}
	return r, nil
}
