package tests

import (
	"fmt"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/throng"
)

// TestWithoutAgent: while there is no agent, a thousand connections a second come and go,
// none of them is refused, and those that stay are not lost. Everyday's table is full of
// what is closed after two seconds, the scoreboard's would be after a quarter of a minute.
func TestWithoutAgent(t *testing.T) {
	const idle, busy, visitors, perVisitor = 100, 20, 8, 125
	long, limit := scaled(6*time.Second, 10*time.Minute), scaled(1500, 16384)
	w := newWorld(t, "auto", lab.TutorialOptions{})
	w.reuseFast()
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), vip: object{"flow_limit": limit}})
	hold := func(n int) *throng.Held {
		h, err := throng.Hold(bounded(t, time.Minute), throng.Clients{Host: w.Client, Target: b.at}, n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Close)
		return h
	}
	silent, talking := hold(idle), hold(busy)
	w.kill9()
	work := talking.Work(200*time.Millisecond, patience)
	var visits []*throng.Visits
	for _, local := range w.clients(visitors) {
		visits = append(visits, throng.Visit(throng.Clients{Host: w.Client, Local: local, Target: b.at}, perVisitor, patience))
	}
	ended := time.NewTimer(long)
	<-ended.C
	var came throng.Visited
	results := make(chan throng.Visited)
	for _, v := range visits {
		go func() { results <- v.Stop() }() // all at once, for each waits for its last ones
	}
	for range visits {
		got := <-results
		came.Tried, came.InTime, came.Times = came.Tried+got.Tried, came.InTime+got.InTime, append(came.Times, got.Times...)
		if came.Why == nil {
			came.Why = got.Why
		}
	}
	worked := work.Stop()
	lost, why := silent.Lost(patience)
	w.start()
	found := numbers{
		"seconds": long.Seconds(), "connections": came.Tried, "connections_per_s": float64(came.Tried) / long.Seconds(),
		"refused": came.Tried - came.InTime, "p99_ms": milliseconds(came.Times.Quantile(0.99)),
		"idle": idle, "idle_lost": lost, "busy": busy, "busy_lost": worked.Lost, "echoes": len(worked.Times),
		"flows_full": b.drops("flows_full"), "tries": came.Tried + idle + busy,
		"failures": came.Tried - came.InTime + lost + worked.Lost,
	}
	report(t, found)
	if came.InTime != came.Tried {
		t.Errorf("%d of %d connections were not made: %v", came.Tried-came.InTime, came.Tried, came.Why)
	}
	if lost+worked.Lost > 0 || len(worked.Times) == 0 {
		t.Errorf("%d idle and %d busy connections are lost: %v, %v", lost, worked.Lost, why, worked.Why)
	}
	if came.Tried <= limit {
		t.Errorf("only %d connections came, which is not more than the table takes", came.Tried)
	}
	b.awaitActive(idle + busy)
	silent.Close()
	talking.Close()
	took := until(t, 2*time.Minute, func() error {
		if l := b.levels(); l.active != 0 || l.members != 0 || l.handshakes != 0 || l.conns != 0 {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
	t.Logf("nobody is counted after %s", took)
}
