package loader

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// Connections go on while their table is changed for a larger and a smaller one.
func TestResize(t *testing.T) {
	for _, hook := range []string{HookTCX, HookClsact, HookXDP} {
		t.Run(hook, func(t *testing.T) {
			const connections = 50
			s, b := newStreet(t, hook)
			at := &failAt{}
			s.opts.fault = func(step string) error { return at.fault(step) }
			n := s.open()
			s.apply(n, b)
			var talks []*talk
			for range connections {
				c, err := s.dial(addrPort(&b), 5*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				talks = append(talks, c)
			}
			stop := s.chat(talks)
			for _, limit := range []uint32{100000, 64, 1000} {
				b.VIP.FlowLimit = limit
				s.apply(n, b)
				if status, err := n.Status(b.PoolID); err != nil || status.FlowsLimit != uint64(limit) || status.FlowsUsed < connections {
					t.Errorf("Status = %+v, %v", status, err)
				}
				s.wantAsApplied(n, at, &b, b.PoolID)
				if _, err := s.ask(addrPort(&b), 5*time.Second); limit != 64 && err != nil {
					t.Errorf("a new connection with a limit of %d: %v", limit, err)
				}
			}
			stop()
			s.wantActive(n, &b, connections)
			for _, c := range talks {
				c.Close()
			}
			s.wantActive(n, &b, 0)
			s.remove(n, b)
		})
	}
}

// chat keeps all connections busy until told to stop, and wants none to break.
func (s *street) chat(talks []*talk) (stop func()) {
	ended := make(chan struct{})
	var wait sync.WaitGroup
	for i, c := range talks {
		wait.Go(func() {
			for round := 0; ; round++ {
				if err := c.say(fmt.Sprintf("connection %d, round %d", i, round), 10*time.Second); err != nil {
					s.Errorf("connection %d after %d rounds: %v", i, round, err)
					return
				}
				select {
				case <-ended:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	return func() { close(ended); wait.Wait() }
}

// A limit below what is there ends nothing: it holds for new connections, and the
// table changes when they fit.
func TestResizeBelowUse(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	n := s.open()
	s.apply(n, b)
	var talks []*talk
	for range minFlowLimit + 10 {
		c, err := s.dial(addrPort(&b), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		talks = append(talks, c)
	}
	b.VIP.FlowLimit = minFlowLimit
	s.apply(n, b)
	if drifted, err := n.Refresh(t.Context()); err != nil || len(drifted) > 0 {
		t.Errorf("Refresh = %q, %v", drifted, err)
	}
	if _, err := s.ask(addrPort(&b), 5*time.Second); err == nil {
		t.Error("a connection above the limit was let in")
	}
	for i, c := range talks {
		if err := c.say("still there", 5*time.Second); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	s.remove(n, b)
}

// wantActive waits until so many connections are active: the last FIN of one that was
// closed may be on its way.
func (w *world) wantActive(n *Node, b *Balancer, connections uint64) {
	w.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		stats, err := n.Stats(b.PoolID)
		if err != nil {
			w.Fatal(err)
		}
		if stats.ActiveConnections == connections {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("%d connections are active, not %d", stats.ActiveConnections, connections)
		}
	}
}
