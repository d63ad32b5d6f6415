package bpf_test

import (
	"bytes"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/bpf"
	"qlbaas/tests/packet"
)

// Ages of a route in ticks: good, old for an acknowledgment, and old for data as well (which
// matters at the outside device alone).
const (
	freshRoute = 10
	oldRoute   = 600
	staleRoute = 1100
)

// TestRoutes: a flow's packets go where its last one went, until its route is too old; then
// they go where the neighbours say.
func TestRoutes(t *testing.T) {
	onHooks(t, options{}, func(w *world) {
		w.run("new address of a member", newNeighbour)
		w.run("both directions", routesOfBoth)
		w.run("without a route", noRouteYet)
	})
}

func newNeighbour(w *world) {
	c := w.open(w.client(1), 0, firstPort)
	w.moveNeighbour(0)
	data, ack := seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(10), seg(packet.ACK, c.cseq, c.mseq)
	for _, step := range []struct {
		what   string
		age    uint32
		sent   segment
		moved  bool
		byFast bool // where the short cut is, it takes the packet
	}{
		{"fresh, data", freshRoute, data, false, true},
		{"fresh, acknowledgment", freshRoute, ack, false, true},
		{"old, data", oldRoute, data, w.hook != tapHook, true},
		{"old, acknowledgment", oldRoute, ack, true, false},
		{"fresh again", freshRoute, data, true, true},
		{"stale, data", staleRoute, data, true, false},
	} {
		w.ageRoutes(step.age)
		in, out := c.up(step.sent)
		if step.moved {
			copy(out, otherMAC)
		}
		got := w.expect(step.what, in, forwards(out, toMember(0, in)))
		if took := got.by == tapHook; w.hook == tapHook && took != step.byFast {
			w.Errorf("%s: the short cut took it: %v", step.what, took)
		}
	}
}

// routesOfBoth: who asks for one direction's route asks for the other's as well, so that no
// data has to.
func routesOfBoth(w *world) {
	c := w.open(w.client(1), 0, firstPort)
	w.ageRoutes(staleRoute)
	c.sends("acknowledgment", seg(packet.ACK, c.cseq, c.mseq))
	in, out := c.down(seg(packet.ACK|packet.PSH, c.mseq, c.cseq).with(10))
	if got := w.expect("data", in, forwards(out, toClient(0, in))); w.hook == tapHook && got.by != tapHook {
		w.Errorf("data of the other direction went by %s", got.by)
	}
}

// noRouteYet: an entry that has none asks, whatever its age says.
func noRouteYet(w *world) {
	c := w.open(w.client(1), 0, firstPort)
	w.changeRoutes(func(e *bpf.Lb4FlowEntry) { e.Mtu, e.Dmac, e.Routed = 0, [6]uint8{}, w.ticksNow() })
	c.works()
}

// moveNeighbour gives a member's host another address, until the test ends.
func (w *world) moveNeighbour(slot int) {
	w.Helper()
	host := memberAddress(slot).Addr()
	set := func(mac []byte) error {
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: insideIndex, IP: host.AsSlice(), HardwareAddr: bytes.Clone(mac), State: netlink.NUD_PERMANENT,
		})
	}
	w.must(set(otherMAC))
	w.Cleanup(func() { w.must(set(macOf(host))) })
}

// ageRoutes lets all routes be so many ticks old.
func (w *world) ageRoutes(ticks uint32) {
	w.Helper()
	w.changeRoutes(func(e *bpf.Lb4FlowEntry) { e.Routed = w.ticksNow() - ticks })
}

func (w *world) changeRoutes(change func(*bpf.Lb4FlowEntry)) {
	w.Helper()
	flows := w.pool.Maps().Flows
	var key bpf.Lb4FlowKey
	var entry bpf.Lb4FlowEntry
	changed := map[bpf.Lb4FlowKey]bpf.Lb4FlowEntry{}
	all := flows.Iterate()
	for all.Next(&key, &entry) {
		change(&entry)
		changed[key] = entry
	}
	w.must(all.Err())
	for key, entry := range changed {
		w.must(flows.Put(&key, &entry))
	}
}

// ticksNow is now, as the programs count it.
func (w *world) ticksNow() uint32 {
	w.Helper()
	var now unix.Timespec
	w.must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return uint32(now.Nano() >> 20)
}
