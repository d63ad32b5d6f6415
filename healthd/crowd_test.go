package healthd

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// crowd counts verdicts by member.
type crowd struct {
	mu   sync.Mutex
	up   map[string]bool
	told chan struct{}
}

func (s *crowd) SetUp(v Verdict) {
	s.mu.Lock()
	s.up[v.Member] = v.Up
	s.mu.Unlock()
	s.told <- struct{}{}
}

// Of a thousand members with real sockets one half hangs, in three ways; those go
// down, and not one of the others does, nor is it forgotten.
func TestHalfOfAThousandMembersHang(t *testing.T) {
	const members = 1000
	ns := newNetns(t)
	ns.serve(t, "0.0.0.0:8000", reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	ns.serve(t, "0.0.0.0:8001", readAll)
	ns.full(t, "127.0.0.1:8002")
	sink := &crowd{up: map[string]bool{}, told: make(chan struct{}, members)}
	c := New(ns, sink, Options{})
	defer c.Close()
	check := Check{ID: "c", Type: HTTP, Delay: time.Second, Timeout: time.Second, MaxRetries: 2}
	var targets []Target
	hanging := map[string]bool{}
	for i := range members {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(i / 250), byte(1 + i%250)}), 8000)
		id := fmt.Sprintf("m%d", i)
		switch i % 4 {
		case 0:
			addr, hanging[id] = netip.AddrPortFrom(addr.Addr(), 8001), true
		case 1:
			addr, hanging[id] = netip.MustParseAddrPort("127.0.0.1:8002"), true
		}
		targets = append(targets, Target{Member: id, Address: addr, Checks: []Check{check}, Up: true})
	}
	begin := time.Now()
	c.Set("p", targets)
	for range hanging {
		<-sink.told
	}
	bound := (check.Delay+check.Timeout)*time.Duration(check.MaxRetries) + time.Second
	if took := time.Since(begin); took > bound {
		t.Errorf("the last was down after %v, bound is %v", took, bound)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	for id, up := range sink.up {
		if up || !hanging[id] {
			t.Errorf("%s: up = %v, hanging = %v", id, up, hanging[id])
		}
	}
	for _, m := range c.Members("p") {
		checkMember(t, m, !hanging[m.Member])
	}
}

func checkMember(t *testing.T, m MemberHealth, healthy bool) {
	t.Helper()
	probes := m.Checks[0].Probes
	if m.Up != healthy || len(probes) < 2 {
		t.Errorf("%s: up = %v after %d probes, want %v", m.Member, m.Up, len(probes), healthy)
	}
	for _, p := range probes {
		if (p.Result == Passed) != healthy {
			t.Errorf("%s: %v", m.Member, p)
		}
	}
}
