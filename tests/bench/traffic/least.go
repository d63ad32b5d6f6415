package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"qlbaas/loader"
	"qlbaas/tests/bench/table"
)

// least compares what a new connection costs with LEAST_CONNECTIONS and ROUND_ROBIN, by the
// number of members. Those beyond two are further addresses of the same two.
func (r *runner) least(ctx context.Context) error {
	for _, size := range []struct {
		members int
		bound   float64
	}{{2, 1.1}, {64, 1.3}, {1024, 3}} {
		members, err := r.endpointsBy(size.members)
		if err != nil {
			return err
		}
		if err := r.methods(ctx, members, size.bound); err != nil {
			return err
		}
	}
	return nil
}

// methods compares both with these members.
func (r *runner) methods(ctx context.Context, members []netip.AddrPort, bound float64) (err error) {
	many := fmt.Sprint(len(members), " members")
	w := row{name: "new connections, " + many, load: load{connections: 64, close: true, seconds: 1}}
	for _, method := range []loader.Method{loader.RoundRobin, loader.LeastConnections} {
		p, err := r.deploy(ctx, r.nodes[oursTCX], method, members)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", w.name, method, err)
		}
		// The kernel looks after a thousand neighbours as long as somebody has them.
		defer func() { err = errors.Join(err, p.remove()) }()
		if err := r.answers(ctx, p.vip[0]); err != nil {
			return err
		}
		w.who = append(w.who, &subject{name: method.String(), way: byOutside, ours: true, requests: p.vip, inspect: p.inspect})
	}
	all, err := r.measure(ctx, w)
	if err != nil {
		return err
	}
	r.figures(w, "connections/s, 64 at once, "+many, "/s", all, rate)
	what := "CPU per connection, 64 at once, " + many
	r.figures(w, what, "µs", all, cost)
	own, other := w.who[1].name, w.who[0].name
	r.goal(table.AtMost(what, own, other, all.of(own, cost), all.of(other, cost), bound))
	return nil
}

// endpointsBy are so many members.
func (l *laboratory) endpointsBy(n int) ([]netip.AddrPort, error) {
	members := l.endpoints(port)
	for address := firstAlias; len(members) < n; address = address.Next() {
		members = append(members, netip.AddrPortFrom(address, port))
	}
	for i, m := range members[memberCount:] {
		if l.aliases > i {
			continue // it is there already
		}
		l.aliases++
		if err := l.members[i%memberCount].host.AddAddress(device, netip.PrefixFrom(m.Addr(), 32)); err != nil {
			return nil, err
		}
	}
	return members, nil
}
