package keeper

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"qlbaas/l7/control"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
)

func TestSum(t *testing.T) {
	p := place{past: control.Stats{
		Pool: pool.Stats{
			Past:    pool.MemberStats{BytesIn: 1},
			Members: []pool.MemberStats{{ID: "a", Requests: 10, Active: 99}, {ID: "gone", Requests: 7}},
		},
		Proxy: proxy.Stats{Accepted: 100},
	}}
	p.past = plus(control.Stats{}, p.past) // levels end with the process
	p.current = &sidecar{last: control.Stats{
		Generation: 3, PID: 4, Version: "v",
		Pool: pool.Stats{
			Past: pool.MemberStats{BytesIn: 2, Open: 1}, Learned: 5,
			Members: []pool.MemberStats{{ID: "a", Requests: 20, Active: 1, Up: true}, {ID: "b", BytesOut: 3, Open: 2}},
		},
		Proxy: proxy.Stats{Accepted: 200, Clients: 6},
	}}
	p.leaving = map[*sidecar]bool{{last: control.Stats{
		Pool: pool.Stats{Members: []pool.MemberStats{{ID: "a", Requests: 30, Active: 2}}}, Proxy: proxy.Stats{Accepted: 300, Clients: 7},
	}}: true}
	p.settled = control.Stats{
		Pool: pool.Stats{Past: pool.MemberStats{BytesIn: 1}, Members: []pool.MemberStats{{ID: "a", Requests: 5}}}, Proxy: proxy.Stats{Accepted: 50},
	}
	want := control.Stats{
		Generation: 3, PID: 4, Version: "v",
		Pool: pool.Stats{
			Past: pool.MemberStats{BytesIn: 2, Open: 1}, Learned: 5,
			Members: []pool.MemberStats{
				{ID: "a", Requests: 55, Active: 3, Up: true}, {ID: "gone", Requests: 7}, {ID: "b", BytesOut: 3, Open: 2},
			},
		},
		Proxy: proxy.Stats{Accepted: 550, Clients: 13},
	}
	got, _ := p.stats()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if over := p.settle(got); over {
		t.Error("it is over while a sidecar serves")
	}
	if now, _ := p.stats(); now.Proxy.Accepted != 0 || now.Proxy.Clients != 13 || now.Pool.Members[0].Requests != 0 {
		t.Errorf("%+v", now)
	}
}
