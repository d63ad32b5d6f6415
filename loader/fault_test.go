package loader

import (
	"errors"
	"fmt"
	stdmaps "maps"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
)

// errFault is what the kernel is made to say.
var errFault = fmt.Errorf("injected: %w", syscall.ENOMEM)

// failAt lets the n-th step fail, counted from 1; 0 lets none fail. It tells whether
// it has come to that.
type failAt struct {
	n, seen int
	// forGood makes all later steps fail as well: as after a crash, nothing is
	// undone.
	forGood bool
	steps   []string
}

func (f *failAt) fault(step string) error {
	f.seen++
	f.steps = append(f.steps, step)
	if f.seen == f.n || f.forGood && f.seen > f.n {
		return errFault
	}
	return nil
}

func (f *failAt) fired() bool { return f.n > 0 && f.seen >= f.n }

// changes are the operations that are interrupted at every step, from a pool as
// before(), to one as after().
func changes(w *world) map[string]struct{ before, after *Balancer } {
	plain := w.balancer()
	other := plain
	other.Members = append([]Member{{
		ID: newUUID(w), Address: netip.MustParseAddrPort("172.16.100.13:8080"), Weight: 3, AdminUp: true,
	}}, plain.Members[1:]...)
	other.Method = LeastConnections
	other.VIP.Persistence, other.VIP.PersistenceTimeout = SourceIPPersistence, time.Hour
	other.VIP.Address = netip.MustParsePrefix("172.16.100.12/24")
	other.VIP.MAC = append([]byte{}, plain.VIP.MAC...)
	other.VIP.MAC[5]++
	other.VIP.Port = 8080
	larger := plain
	larger.VIP.FlowLimit = 2 * DefaultFlowLimit
	wide := plain
	wide.SNAT = sourceAddresses(2)
	moved := wide
	moved.SNAT = append(sourceAddresses(4)[3:], wide.SNAT[1])
	silent := plain
	silent.VIP.AdminUp = false
	return map[string]struct{ before, after *Balancer }{
		"create":    {nil, &plain},
		"change":    {&plain, &other},
		"and back":  {&other, &plain},
		"resize":    {&plain, &larger},
		"widen":     {&plain, &wide},
		"move":      {&wide, &moved},
		"narrow":    {&wide, &plain},
		"silence":   {&plain, &silent},
		"unsilence": {&silent, &plain},
		"remove":    {&plain, nil},
	}
}

// become makes the node's pool as wanted, or removes it.
func become(w *world, n *Node, wanted *Balancer, poolID string) error {
	if wanted == nil {
		return n.Remove(w.Context(), poolID)
	}
	return n.Apply(w.Context(), *wanted)
}

// eachChange runs a test for every change, each in a world of its own.
func eachChange(t *testing.T, test func(w *world, before, after *Balancer)) {
	for _, name := range slices.Sorted(stdmaps.Keys(changes(&world{T: t}))) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.opts.compiled, w.opts.Spare = lightObjects, true
			change := changes(w)[name]
			test(w, change.before, change.after)
		})
	}
}

// An error at any step of a change is reported, leaves nothing of a pool that is new,
// and nothing that keeps the same change from succeeding next time.
func TestErrorAtEveryStep(t *testing.T) {
	eachChange(t, func(w *world, before, after *Balancer) {
		pool := poolOf(before, after)
		at := &failAt{}
		w.opts.fault = func(step string) error { return at.fault(step) }
		n := w.open()
		for step, fired := 1, true; fired; step++ {
			w.become(n, before, pool)
			*at = failAt{n: step}
			err := become(w, n, after, pool)
			if fired = at.fired(); fired != errors.Is(err, errFault) {
				w.Fatalf("step %d %q: error %v", step, at.steps, err)
			}
			if fired && before == nil {
				w.wantNothingLeft() // and the next round tries again
			} else {
				*at = failAt{}
				w.become(n, after, pool)
				w.wantAsApplied(n, at, after, pool)
			}
			if w.Failed() {
				w.Fatalf("after an error at step %d", step)
			}
			if !fired {
				w.Logf("%d steps", step-1)
			}
		}
		w.become(n, nil, pool)
		w.wantNothingLeft()
	})
}

// A daemon that dies at any step of a change leaves what the next one can finish, or
// remove without a trace.
func TestCrashAtEveryStep(t *testing.T) {
	eachChange(t, func(w *world, before, after *Balancer) {
		pool := poolOf(before, after)
		at := &failAt{}
		w.opts.fault = func(step string) error { return at.fault(step) }
		for step, fired := 1, true; fired; step++ {
			n := w.open()
			w.become(n, before, pool)
			*at = failAt{n: step, forGood: true}
			_ = become(w, n, after, pool)
			fired = at.fired()
			*at = failAt{}
			w.close(n)

			n = w.open()
			wanted := after
			if before == nil && step%2 == 0 {
				wanted = nil // what is half made can be removed as well
			}
			w.become(n, wanted, pool)
			w.wantAsApplied(n, at, wanted, pool)
			if w.Failed() {
				w.Fatalf("after a crash at step %d", step)
			}
			w.close(n)
		}
		n := w.open()
		w.become(n, nil, pool)
		w.wantNothingLeft()
	})
}

func (w *world) become(n *Node, wanted *Balancer, poolID string) {
	w.Helper()
	if err := become(w, n, wanted, poolID); err != nil {
		w.Fatal(err)
	}
}

func poolOf(a, b *Balancer) string {
	if a != nil {
		return a.PoolID
	}
	return b.PoolID
}

// wantAsApplied applies again, which must find nothing to do, and asks for drift.
func (w *world) wantAsApplied(n *Node, at *failAt, wanted *Balancer, pool string) {
	w.Helper()
	*at = failAt{}
	if err := become(w, n, wanted, pool); err != nil {
		w.Error(err)
	}
	if len(at.steps) > 0 {
		w.Errorf("the same again changed %q", at.steps)
	}
	if drifted, err := n.Refresh(w.Context()); err != nil || len(drifted) > 0 {
		w.Errorf("Refresh = %q, %v", drifted, err)
	}
	if wanted != nil {
		return
	}
	w.wantNothingLeft()
	if accounts, err := n.handshakes(ipv4).Pools(); err != nil || len(accounts) > 0 {
		w.Errorf("accounts of handshakes of no pool: %v, %v", accounts, err)
	}
}
