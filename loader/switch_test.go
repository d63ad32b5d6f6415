package loader

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// The hook is changed under traffic, and not one packet finds no program: the guard
// has nothing to drop.
func TestHookSwitch(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	at := &failAt{}
	s.opts.fault = func(step string) error { return at.fault(step) }
	n := s.open()
	s.apply(n, b)
	stop, failures := s.askOn(&b)
	hooks := []string{HookTCX, HookClsact, HookXDP, HookClsact, HookTCX, HookXDP, HookTCX}
	for i, hook := range hooks[1:] {
		s.close(n)
		s.opts.Hook = hook
		n = s.open()
		s.apply(n, b)
		s.wantAsApplied(n, at, &b, b.PoolID)
		if status, err := n.Status(b.PoolID); err != nil || status.Hook != hook {
			t.Errorf("hook of %+v is not %s, %v", status, hook, err)
		}
		if dropped := s.guardDrops(&b); dropped != 0 {
			t.Errorf("%s to %s: %d packets reached the guard", hooks[i], hook, dropped)
		}
	}
	close(stop)
	if failed := <-failures; len(failed) > 0 {
		t.Errorf("%d requests failed: %q", len(failed), failed)
	}
	s.remove(n, b)
}

// A daemon that dies in the middle of changing the hook leaves traffic flowing, and
// the next one ends up with one program attached.
func TestHookSwitchCrash(t *testing.T) {
	for _, hooks := range [][2]string{{HookTCX, HookClsact}, {HookClsact, HookXDP}, {HookXDP, HookTCX}} {
		t.Run(fmt.Sprintf("%s to %s", hooks[0], hooks[1]), func(t *testing.T) {
			s, b := newStreet(t, hooks[0])
			at := &failAt{}
			s.opts.fault = func(step string) error { return at.fault(step) }
			for step, fired := 1, true; fired; step++ {
				s.opts.Hook = hooks[0]
				n := s.open()
				s.apply(n, b)
				s.close(n)

				s.opts.Hook = hooks[1]
				n = s.open()
				*at = failAt{n: step, forGood: true}
				_ = n.Apply(t.Context(), b)
				fired = at.fired()
				*at = failAt{}
				s.close(n)
				if _, err := s.ask(addrPort(&b), 5*time.Second); err != nil {
					t.Errorf("after a crash at step %d: %v", step, err)
				}
				n = s.open()
				s.apply(n, b)
				s.wantAsApplied(n, at, &b, b.PoolID)
				if _, err := s.ask(addrPort(&b), 5*time.Second); err != nil {
					t.Errorf("mended after a crash at step %d: %v", step, err)
				}
				s.close(n)
			}
			if dropped := s.guardDrops(&b); dropped != 0 {
				t.Errorf("%d packets reached the guard", dropped)
			}
			s.remove(s.open(), b)
		})
	}
}

// askOn asks until told to stop, and then tells what failed.
func (s *street) askOn(b *Balancer) (stop chan struct{}, failures chan []string) {
	stop, failures = make(chan struct{}), make(chan []string, 1)
	go func() {
		var failed []string
		for {
			select {
			case <-stop:
				failures <- failed
				return
			default:
			}
			if _, err := s.ask(addrPort(b), 5*time.Second); err != nil {
				failed = append(failed, err.Error())
			}
		}
	}()
	return stop, failures
}

// guardDrops sums what the guard has counted: packets that no program took.
func (w *world) guardDrops(b *Balancer) (packets uint64) {
	w.Helper()
	site := w.site(b)
	err := site.ns.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		input := newGuard(ownAddresses(&pool{}, b), b.VIP.Port, false).Chains[0]
		rules, err := c.GetRules(input.Table, input.Chain)
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					packets += counter.Packets
				}
			}
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return packets
}
