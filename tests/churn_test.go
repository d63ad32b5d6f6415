package tests

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/flood"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/lab/throng"
	"qlbaas/tests/rows"
)

// TestChurn: after many short connections, ended in every way by either side, some of them
// never made, with members that come and go, nobody is counted any more who is not there.
func TestChurn(t *testing.T) {
	rows.Proves(t, 123)
	w := newWorld(t, "auto", lab.TutorialOptions{Members: 4})
	w.reuseFast()
	for i, e := range w.endpoints(churnPort) {
		m, err := throng.StartMoody(w.Members[i].Host, e, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
	}
	b := w.balance(balancerOptions{
		method: "LEAST_CONNECTIONS", endpoints: w.endpoints(churnPort), vip: object{"flow_limit": 65536},
	})
	s := seed(t)
	var churns []*throng.Churn
	for i := range runtime.NumCPU() {
		c := throng.StartChurn(w.Client, w.clients(16), b.at, s+uint64(i))
		t.Cleanup(func() { c.Stop() })
		churns = append(churns, c)
	}
	long := scaled(2*time.Second, time.Minute)
	halfOpen := b.startHalfOpen(scaled(0, 100), long, s)
	flaps := b.flap(long)
	var all throng.Churned
	for _, c := range churns {
		got, err := c.Stop()
		if err != nil {
			t.Fatal(err)
		}
		all.Made, all.Refused, all.TimedOut = all.Made+got.Made, all.Refused+got.Refused, all.TimedOut+got.TimedOut
	}
	found := numbers{
		"connections": all.Made, "connections_per_s": float64(all.Made) / long.Seconds(), "refused": all.Refused,
		"timed_out": all.TimedOut, "half_open": halfOpen(), "flaps": flaps, "table_at_the_end": b.levels().flows,
	}
	if all.Made < 500*int(long.Seconds()) {
		t.Errorf("only %d connections were made", all.Made)
	}
	b.silence(found)
	found["tries"] = all.Made
	report(t, found)
}

const churnPort = 9

// reuseFast lets the client use its ports again at once: the test has only so many.
func (w *world) reuseFast() {
	w.t.Helper()
	for key, value := range map[string]string{
		"net.ipv4.tcp_tw_reuse": "1", "net.ipv4.ip_local_port_range": "1024 65535",
	} {
		if err := w.Client.Sysctl(key, value); err != nil {
			w.t.Fatal(err)
		}
	}
}

// startHalfOpen sends SYNs that nobody goes on with, beside the other clients; the function
// that it returns says how many there were.
func (b *balancer) startHalfOpen(perSecond int, long time.Duration, seed uint64) (sent func() uint64) {
	b.w.t.Helper()
	if perSecond == 0 {
		return func() uint64 { return 0 }
	}
	f := b.flood(flood.Options{Time: long, Rate: perSecond, Seed: seed})
	return func() uint64 {
		if _, err := f.Wait(); err != nil {
			b.w.t.Error(err)
		}
		return f.Sent()
	}
}

// flap takes members away and gives them back for so long, and returns how often.
func (b *balancer) flap(long time.Duration) (flaps int) {
	b.w.t.Helper()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(long); time.Now().Before(end); flaps++ {
		i := flaps / 2 % 3 // the last one stays
		b.setMember(i, object{"admin_state_up": flaps%2 == 1})
		<-ticker.C
	}
	for i := range b.members {
		b.setMember(i, object{"admin_state_up": true})
	}
	return flaps
}

// levels are all that counts who is there now.
type levels struct {
	active, conns            float64 // connections: of the pool, and as LEAST_CONNECTIONS counts them
	members                  float64 // active ones, by member
	flows, handshakes, ports float64
}

func (b *balancer) levels() (l levels) {
	b.w.t.Helper()
	m := b.w.scrape()
	l.active = m.value("qlbaas_pool_connections_active", "pool", b.id)
	l.flows = m.value("qlbaas_pool_table_entries", "pool", b.id, "table", "flows")
	l.handshakes = m.value("qlbaas_pool_table_entries", "pool", b.id, "table", "half_open")
	for _, s := range m.with("qlbaas_member_connections_active", "pool", b.id) {
		l.members += max(s.value, -s.value)
	}
	for _, s := range m.with("qlbaas_member_nat_ports_used", "pool", b.id) {
		l.ports += s.value
	}
	rows, err := lab.ReadPin(b.pin("maps", "conns"), "", "conns", 1)
	if err != nil || len(rows) != 1 {
		b.w.t.Fatalf("read connections: %v: %v", rows, err)
	}
	counts, _ := rows[0].Value.Get("count").([]any)
	if len(counts) == 0 {
		b.w.t.Fatalf("read connections: %v", rows[0])
	}
	for _, n := range counts {
		l.conns += max(float64(int32(n.(uint64))), -float64(int32(n.(uint64))))
	}
	return l
}

// silence is what is left when nobody comes any more: at once no connection is counted,
// and after the timeouts no entry and no port is left.
func (b *balancer) silence(found numbers) {
	b.w.t.Helper()
	took, err := labtest.Eventually(patience, func() error {
		l := b.levels()
		if l.active != 0 || l.members != 0 || l.conns != l.handshakes {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
	found["nobody_active_s"], found["failures"] = took.Seconds(), 0
	if err != nil {
		b.w.t.Errorf("%s after the last connection: %v", took, err)
	}
	if long := scaled(0, 90*time.Second); long > 0 {
		took, err = labtest.Eventually(long, func() error {
			if l := b.levels(); l != (levels{}) {
				return fmt.Errorf("%+v", l)
			}
			return nil
		})
		found["nothing_left_s"] = took.Seconds()
	}
	l := b.levels()
	found["drift"] = l.active + l.members + l.conns - l.handshakes
	if err != nil {
		found["failures"] = 1
		b.w.t.Errorf("%s after the last connection: %v", took, err)
	}
}
