package main

import (
	"context"
	"time"
)

// b7 is ports that are used again.
func b7() figure {
	return figure{
		id: "B7",
		what: "connects one after the other from 200 ports, each used ten times, by NAT ports that the " +
			"members still hold in TIME-WAIT",
		target: "2,000 tried, none takes more than 100 ms, none refused for its timestamps",
		bound:  3 * time.Minute,
		run:    portsAgain,
	}
}

func portsAgain(ctx context.Context, seed uint64) (r result, err error) {
	t, err := goTest(ctx, seed, "^TestPortsAreUsedAgain$", "./tests")
	if err != nil {
		return r, err
	}
	t.add(&r)
	for _, name := range []string{"longest_ms", "met_time_wait", "paws_refused", "sources"} {
		r.number(name, t.sum(name))
	}
	if r.Tries < 2000 {
		r.miss("only %d connections were tried", r.Tries)
	}
	return r, nil
}
