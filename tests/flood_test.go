package tests

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/distance"
	"qlbaas/tests/lab/flood"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/lab/throng"
	"qlbaas/tests/rows"
)

// What is promised while a flood lasts and when it is over.
const (
	visitWithin = 3 * time.Second
	visitShare  = 0.95
	aftermath   = 10 * time.Second
	// What a member receives each second on top of what it receives anyway.
	memberBears = 5000
)

// TestFlood: while somebody sends SYNs by the ten thousands, connections live on, new ones
// are made, another pool loses nothing, and soon after it all is as before.
func TestFlood(t *testing.T) {
	rows.Proves(t, 116, 117, 118)
	kinds := map[string]bool{"SYNs and blind ACKs": true}
	s := siege{long: 4 * time.Second, rate: 50_000, calm: time.Second, idle: 100, busy: 20, visits: 10}
	if long := scaled(0, time.Minute); long > 0 {
		kinds["SYNs"] = false
		// It could be half as much again, if the others had no need of that CPU.
		s = siege{long: long, rate: 120_000, calm: 5 * time.Second, idle: 1000, busy: 200, visits: 20}
	}
	for name, acks := range kinds {
		t.Run(name, func(t *testing.T) {
			one := s
			one.name, one.acks = name, acks
			one.world = newWorld(t, "auto", lab.TutorialOptions{})
			one.endure()
		})
	}
}

// siege is a flood and those who live through it.
type siege struct {
	*world
	name       string
	long, calm time.Duration // of the flood, and before it
	idle, busy int           // connections
	visits     int           // new connections a second: from near, from far, to another pool
	rate       int           // of the flood, in segments a second
	acks       bool          // blind ACKs follow the SYNs

	pool, other           *balancer
	held                  *throng.Held // idle ones
	work, beside          *throng.Work
	near, distant, nearby *throng.Visits
	made                  int  // connections that the pool was asked for
	lost                  int  // busy ones that were lost
	peace                 span // what comes in without a flood

	found numbers
}

// endure builds everything, and asks in three phases how everybody is.
func (s *siege) endure() {
	s.found = numbers{"flood": s.name}
	s.pool = s.balance(balancerOptions{endpoints: s.endpoints(echoPort), vip: object{"flow_limit": 65536}})
	s.other = s.balance(balancerOptions{
		endpoints: s.endpoints(echoPort), at: s.pool.beside(1), vip: object{"flow_limit": 65536},
	})
	s.quietBridge()
	s.gather(s.buildFar())
	s.calmly()
	s.during()
	s.after()
	report(s.t, s.found)
}

// quietBridge keeps the laboratory's bridge from asking firewalls about frames: without
// that a flood is faster by a quarter.
func (s *siege) quietBridge() {
	s.t.Helper()
	for _, family := range []string{"iptables", "ip6tables", "arptables"} {
		if err := s.Node.Sysctl("net.bridge.bridge-nf-call-"+family, "0"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// buildFar adds a client with a round trip of 200 ms, and lets the router drop what is
// for those who never were.
func (s *siege) buildFar() *lab.Host {
	s.t.Helper()
	far, err := s.Lab.Host("far")
	if err != nil {
		s.t.Fatal(err)
	}
	gateway := netip.MustParsePrefix("10.10.20.1/24")
	w, err := distance.Link(
		distance.End{Host: far, Device: "wire0", Address: netip.MustParsePrefix("10.10.20.4/24")},
		distance.End{Host: s.Router, Device: "wire0", Address: gateway}, 100*time.Millisecond)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { w.Close() })
	if err := far.AddRoute(netip.Prefix{}, gateway.Addr()); err != nil {
		s.t.Fatal(err)
	}
	hole := &net.IPNet{IP: spoofed.Masked().Addr().AsSlice(), Mask: net.CIDRMask(spoofed.Bits(), 32)}
	if err := s.Router.Netlink().RouteAdd(&netlink.Route{Dst: hole, Type: unix.RTN_BLACKHOLE}); err != nil {
		s.t.Fatal(err)
	}
	return far
}

// echoPatience is so long that only what never comes back is lost.
const echoPatience = 30 * time.Second

// gather lets everybody come.
func (s *siege) gather(far *lab.Host) {
	s.t.Helper()
	hold := func(b *balancer, n int) *throng.Held {
		h, err := throng.Hold(bounded(s.t, time.Minute), throng.Clients{Host: s.Client, Target: b.at}, n)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(h.Close)
		return h
	}
	s.held = hold(s.pool, s.idle)
	s.work = hold(s.pool, s.busy).Work(100*time.Millisecond, echoPatience)
	s.beside = hold(s.other, s.busy/4).Work(100*time.Millisecond, echoPatience)
	s.made = s.idle + s.busy
	s.near = throng.Visit(throng.Clients{Host: s.Client, Target: s.pool.at}, s.visits, visitWithin)
	s.distant = throng.Visit(throng.Clients{Host: far, Target: s.pool.at}, s.visits, visitWithin)
	s.nearby = throng.Visit(throng.Clients{Host: s.Client, Target: s.other.at}, s.visits, visitWithin)
}

// calmly is how everybody is without a flood.
func (s *siege) calmly() {
	s.t.Helper()
	before := s.look()
	<-time.After(s.calm)
	calm := s.look().since(before)
	s.peace = calm
	s.found["calm_ingress_per_s"], s.found["calm_received_per_s"] = calm.ingress, calm.received
	s.counted("calm")
}

// during starts the flood, looks again and again while it lasts, and then at what became of
// those who lived through it.
func (s *siege) during() {
	s.t.Helper()
	before := s.look() // the first ones get the farthest, and are over soon
	attack := s.pool.flood(flood.Options{Time: s.long, Rate: s.rate, ACKs: s.acks, Seed: seed(s.t)})
	first := s.look()
	last := first
	var handshakes, share float64
	received := first.since(before).received
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for ended := false; !ended; {
		select {
		case <-attack.Ended():
			ended = true
		case <-ticker.C:
		}
		now := s.look()
		handshakes, share = max(handshakes, now.handshakes), max(share, now.fullest())
		if !ended { // whole seconds only
			received = max(received, now.since(last).received)
		}
		last = now
	}
	took, err := attack.Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	all, bear := last.since(first), last.since(before).received
	s.found["seconds"] = took.Seconds()
	s.found["sent_per_s"] = float64(attack.Sent()) / took.Seconds()
	s.found["ingress_per_s"], s.found["flood_cpu_share"] = all.ingress, attack.CPU().Seconds()/took.Seconds()
	s.found["flood_per_s"] = min(float64(attack.Sent())/took.Seconds(), all.ingress-s.peace.ingress)
	s.found["received_per_s"], s.found["received_per_s_worst"] = bear, received
	s.found["handshakes_most"], s.found["ports_share_most"] = handshakes, share
	s.found["drops"] = last.drops
	s.counted("flood")
	if share > 0.5 {
		s.t.Errorf("handshakes took %.0f %% of a member's ports", 100*share)
	}
	if more := bear - s.peace.received; more > memberBears {
		s.t.Errorf("a member received %.0f packets a second more than without the flood", more)
	}
}

// atRest is how many handshakes and ports without a flow are nothing unusual.
const atRest = 64

// after is how long it takes until all is as before, and who is still there then.
func (s *siege) after() {
	s.t.Helper()
	took, err := labtest.Eventually(3*aftermath, func() error {
		if now := s.look(); now.handshakes > atRest || now.extra() > atRest {
			return fmt.Errorf("%v handshakes, %v ports that are no flow's", now.handshakes, now.extra())
		}
		return nil
	})
	s.found["back_to_base_s"] = took.Seconds()
	if err != nil || took > aftermath {
		s.t.Errorf("%s after the flood all is not as before: %v", took, err)
	}
	s.counted("afterwards")
	near, distant, _ := s.near.Stop(), s.distant.Stop(), s.nearby.Stop()
	s.made += near.Tried + distant.Tried
	s.work.Stop()
	s.beside.Stop()
	s.pool.awaitActive(float64(s.idle + s.busy)) // the last ones' words are on the way
	lost, why := s.held.Lost(echoPatience)
	s.found["tries"], s.found["failures"] = s.idle+s.busy, lost+s.lost
	s.found["idle_lost"] = lost
	if lost != 0 {
		s.t.Errorf("of %d idle connections %d are lost: %v", s.idle, lost, why)
	}
	// Whoever was promoted came from a client that is ours.
	promoted := s.look().promoted
	s.found["promoted"], s.found["asked_for"] = promoted, s.made
	if promoted > float64(s.made) {
		s.t.Errorf("%v handshakes were completed, and only %d connections asked for", promoted, s.made)
	}
}

// counted takes from the crowds what they have met in a phase.
func (s *siege) counted(phase string) {
	near, distant, nearby := s.near.Turn(), s.distant.Turn(), s.nearby.Turn()
	work, beside := s.work.Turn(), s.beside.Turn()
	s.made += near.Tried + distant.Tried
	s.lost += work.Lost
	for name, v := range map[string]throng.Visited{"visits": near, "visits_200ms": distant, "other_pool_visits": nearby} {
		s.found[phase+"_"+name] = numbers{
			"tried": v.Tried, "in_time": v.InTime,
			"p50_ms": milliseconds(v.Times.Quantile(0.5)), "p99_ms": milliseconds(v.Times.Quantile(0.99)),
		}
	}
	for name, w := range map[string]throng.Worked{"echoes": work, "other_pool_echoes": beside} {
		s.found[phase+"_"+name] = numbers{
			"n": len(w.Times), "lost": w.Lost,
			"p50_ms": milliseconds(w.Times.Quantile(0.5)), "p99_ms": milliseconds(w.Times.Quantile(0.99)),
		}
	}
	s.judge(phase, near, distant, nearby, work, beside)
}

// judge holds a phase against what is promised.
func (s *siege) judge(phase string, near, distant, nearby throng.Visited, work, beside throng.Worked) {
	s.t.Helper()
	for name, v := range map[string]throng.Visited{"near": near, "200 ms away": distant} {
		if float64(v.InTime) < visitShare*float64(v.Tried) || v.Tried == 0 && phase == "flood" {
			s.t.Errorf("%s: of %d new connections from %s %d were made within %s: %v",
				phase, v.Tried, name, v.InTime, visitWithin, v.Why)
		}
	}
	if nearby.InTime != nearby.Tried || nearby.Tried == 0 && phase == "flood" {
		s.t.Errorf("%s: of %d new connections to the other pool %d were made within %s: %v",
			phase, nearby.Tried, nearby.InTime, visitWithin, nearby.Why)
	}
	for name, w := range map[string]throng.Worked{"the pool": work, "the other pool": beside} {
		if w.Lost != 0 || len(w.Times) == 0 {
			s.t.Errorf("%s: of %s %d busy connections are lost: %v", phase, name, w.Lost, w.Why)
		}
	}
}
