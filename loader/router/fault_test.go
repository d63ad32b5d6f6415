package router

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"qlbaas/loader/hook"
)

var errFault = fmt.Errorf("injected: %w", syscall.ENOMEM)

// failAt lets the n-th step fail, counted from 1; 0 lets none fail.
type failAt struct {
	n, seen int
	// forGood makes all later steps fail as well: as after a crash, nothing is undone.
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

// plan is a router on bridges that are there, without any host.
func (w *world) plan() *Router {
	w.Helper()
	w.bridge("br-in1")
	w.bridge("br-in2")
	return &Router{
		ID: newUUID(w), AdminUp: true, SNAT: true,
		External: &Leg{
			PortID: newUUID(w), MAC: newMAC(w), Address: netip.MustParsePrefix("10.10.10.101/24"),
			Bridge: externalBridge, Gateway: netip.MustParseAddr("10.10.10.254"),
		},
		Inside: []Leg{
			{PortID: newUUID(w), MAC: newMAC(w), Address: netip.MustParsePrefix("172.16.50.1/24"), Bridge: "br-in1"},
			{PortID: newUUID(w), MAC: newMAC(w), Address: netip.MustParsePrefix("172.16.60.1/24"), Bridge: "br-in2"},
		},
		Floating: []Floating{
			{ID: newUUID(w), Address: netip.MustParseAddr("10.10.10.7"), Fixed: serverAddr},
			{ID: newUUID(w), Address: netip.MustParseAddr("10.10.10.8"), Fixed: netip.MustParseAddr("172.16.60.9")},
		},
	}
}

// changes of a router, from one state to another; nil is none.
func (w *world) changes() map[string][2]*Router {
	plain := w.plan()
	other := plain.clone()
	other.Inside = []Leg{other.Inside[1], {
		PortID: newUUID(w), MAC: newMAC(w), Address: netip.MustParsePrefix("172.16.70.1/24"), Bridge: "br-in1",
	}}
	other.Floating = []Floating{
		{ID: newUUID(w), Address: netip.MustParseAddr("10.10.10.7"), Fixed: netip.MustParseAddr("172.16.70.9")},
		{ID: newUUID(w), Address: netip.MustParseAddr("10.10.10.9"), Fixed: netip.MustParseAddr("172.16.80.9")},
	}
	other.Routes = []Route{{netip.MustParsePrefix("172.16.80.0/24"), netip.MustParseAddr("172.16.60.2")}}
	other.SNAT, other.External.Gateway = false, netip.MustParseAddr("10.10.10.253")
	inner := plain.clone()
	inner.External = nil
	down := plain.clone()
	down.AdminUp = false
	return map[string][2]*Router{
		"create": {nil, plain}, "change": {plain, other}, "and back": {other, plain}, "lose gateway": {plain, inner},
		"gain gateway": {inner, plain}, "down": {plain, down}, "up": {down, plain}, "remove": {plain, nil},
	}
}

func (w *world) become(n *Node, id string, to *Router) error {
	if to == nil {
		return n.Remove(w.Context(), id)
	}
	return n.Apply(w.Context(), *to)
}

// wantAsApplied applies again, which must find nothing to do, and asks for drift.
func (w *world) wantAsApplied(n *Node, at *failAt, id string, wanted *Router) {
	w.Helper()
	*at = failAt{}
	if err := w.become(n, id, wanted); err != nil {
		w.Error(err)
	}
	if len(at.steps) > 0 {
		w.Errorf("the same again changed %q", at.steps)
	}
	if drifted, err := n.Refresh(w.Context()); err != nil || len(drifted) > 0 {
		w.Errorf("Refresh = %q, %v", drifted, err)
	}
	ids, err := n.Deployed()
	if want := []string{id}; err != nil || slices.Equal(ids, want) != (wanted != nil) {
		w.Errorf("Deployed = %q, %v", ids, err)
	}
	if wanted == nil {
		w.wantNothingLeft()
	}
}

// An error, or the daemon's death, at any step of a change is reported, and leaves what the
// next try, or the next daemon, finishes; of a router that is new an error leaves nothing.
func TestEveryStep(t *testing.T) {
	for h, stride := range map[string]int{hook.NameTCX: 23, hook.NameXDP: 61} { // a step takes 0.3 s
		t.Run(h, func(t *testing.T) {
			w := newWorld(t, h)
			at := &failAt{}
			w.opts.fault = func(step string) error { return at.fault(step) }
			for name, change := range w.changes() {
				for _, crash := range []bool{false, true} {
					for step, fired := 1+rand.IntN(stride), true; fired; step += stride {
						fired = w.interrupt(at, change[0], change[1], failAt{n: step, forGood: crash})
						if w.Failed() {
							t.Fatalf("%s, after step %d, crash %t", name, step, crash)
						}
					}
				}
			}
		})
	}
}

// interrupt makes a change that fails at a step, and finishes it.
func (w *world) interrupt(at *failAt, before, after *Router, fault failAt) (fired bool) {
	w.Helper()
	id := idOf(before, after)
	*at = failAt{}
	n := w.open()
	w.must(w.become(n, id, before))
	*at = fault
	err := w.become(n, id, after)
	if fired = at.fired(); fired != errors.Is(err, errFault) {
		w.Fatalf("step %d %q: error %v", fault.n, at.steps, err)
	}
	*at = failAt{}
	if fired && !fault.forGood && before == nil {
		w.wantNothingLeft()
	}
	if fault.forGood {
		w.must(n.Close())
		n = w.open()
	}
	w.must(w.become(n, id, after))
	w.wantAsApplied(n, at, id, after)
	w.must(w.become(n, id, nil))
	w.wantNothingLeft()
	w.must(n.Close())
	return fired
}

func idOf(a, b *Router) string {
	if a != nil {
		return a.ID
	}
	return b.ID
}
