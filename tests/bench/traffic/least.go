package traffic

import (
	"context"
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
		w := row{name: fmt.Sprintf("new connections, %d members", size.members), load: load{connections: 64, close: true, seconds: 1}}
		for _, method := range []loader.Method{loader.RoundRobin, loader.LeastConnections} {
			s := &subject{name: method.String(), way: byOutside, ours: true}
			if s.requests, s.inspect, err = r.deploy(ctx, r.nodes[oursTCX], method, members); err != nil {
				return fmt.Errorf("%s: %s: %w", w.name, s.name, err)
			}
			if err := r.answers(ctx, s.requests[0]); err != nil {
				return err
			}
			w.who = append(w.who, s)
		}
		all, err := r.measure(ctx, w)
		if err != nil {
			return err
		}
		r.figures(w, "connections/s, 64 at once, "+fmt.Sprint(size.members, " members"), "/s", all, rate)
		what := fmt.Sprintf("CPU per connection, 64 at once, %d members", size.members)
		r.figures(w, what, "µs", all, cost)
		own, other := w.who[1].name, w.who[0].name
		r.goal(table.AtMost(what, own, other, all.of(own, cost), all.of(other, cost), size.bound))
	}
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
