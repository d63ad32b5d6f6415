package main

import (
	"context"
	"time"
)

// b2 is a million packets that are broken somewhere.
func b2() figure {
	return figure{
		id:     "B2",
		what:   "mutated packets (bits, lengths, ends; IPv4 and IPv6, TCP, UDP and ICMP, tc and XDP), each decided on once",
		target: "1,000,000 tried, none fails, no warning of the kernel, 30 % reach the flows",
		bound:  5 * time.Minute,
		run:    mutatedPackets,
	}
}

func mutatedPackets(ctx context.Context, seed uint64) (r result, err error) {
	t, err := goTest(ctx, seed, "^TestMutations$", "./bpf")
	if err != nil {
		return r, err
	}
	t.add(&r)
	r.number("reached_flows", int(t.sum("reached_flows")))
	r.number("kernel_warnings", int(t.sum("kernel_warnings")))
	reasons := map[string]int{}
	for _, n := range t.numbers {
		histogram, _ := n["reasons"].(map[string]any)
		for reason, count := range histogram {
			if count, ok := count.(float64); ok {
				reasons[reason] += int(count)
			}
		}
	}
	r.number("reasons", reasons)
	if r.Tries < 1_000_000 {
		r.miss("only %d packets were tried", r.Tries)
	}
	if t.sum("reached_flows") < 0.3*float64(r.Tries) {
		r.miss("only %.0f packets reached the flows", t.sum("reached_flows"))
	}
	return r, nil
}
