package tests

import (
	"testing"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

func TestLimits(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		w.test("connection limit", connectionLimit)
		w.test("connection limit 0", connectionLimitZero)
		w.test("flow limit", flowLimit)
	})
}

// connectionLimit: who is too many waits, as in a full listen queue, and gets in
// when somebody leaves.
func connectionLimit(w *world) {
	rows.Proves(w.t, 105)
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), vip: object{"connection_limit": 3}})
	flows := b.openMany(3)
	fourth := b.begin(bounded(w.t, patience))
	b.awaitDrops("conn_limit", 0)
	fourth.pending(w)
	w.mustEcho(flows...)
	b.awaitActive(3)
	flows[0].close()
	w.mustEcho(append(flows[1:], fourth.made(w))...)
	b.awaitActive(3)
	b.setVIP(object{"connection_limit": 4})
	w.mustEcho(b.open())
}

func connectionLimitZero(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), vip: object{"connection_limit": 0}})
	first := b.begin(bounded(w.t, patience))
	b.awaitDrops("conn_limit", 1)
	first.pending(w)
	b.setVIP(object{"connection_limit": -1})
	w.mustEcho(first.made(w))
}

// flowLimit: a full table refuses new connections and keeps the old ones.
func flowLimit(w *world) {
	rows.Proves(w.t, 121)
	const limit = 64
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), vip: object{"flow_limit": limit}})
	flows := b.openMany(limit)
	b.refused("flows_full")
	w.mustEcho(flows...)
	if used := w.status(b.id).number("flows_used"); used != limit {
		w.t.Errorf("%v flows are used of %d", used, limit)
	}
	for _, f := range flows[:10] {
		f.close()
	}
	b.awaitActive(limit - 10)
	// Closed flows make room, though not at once: their last packets are on the way.
	for range 10 {
		until(w.t, patience, func() error {
			f, err := b.dial(bounded(w.t, requestTimeout), w.Client, w.ClientAddress)
			if err == nil {
				w.t.Cleanup(f.close)
				flows = append(flows, f)
			}
			return err
		})
	}
	b.refused("flows_full")
	w.mustEcho(flows[10:]...)
	b.setVIP(object{"flow_limit": 2 * limit})
	w.mustEcho(append(flows[10:], b.openMany(limit)...)...)
	b.refused("flows_full")
}
