package tests

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

func TestDrain(t *testing.T) {
	rows.Proves(t, 107)
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		w.test("removed", drainRemoved)
		w.test("administratively down", drainAdminDown)
		w.test("down", drainDown)
		w.test("deadline", drainDeadline)
		w.test("pool administratively down", drainPool)
	})
}

// elsewhere wants n new connections to avoid a member.
func (b *balancer) elsewhere(name string, n int) {
	b.w.t.Helper()
	for range n {
		f := b.open()
		if f.member == name {
			b.w.t.Errorf("a new connection went to %s", name)
		}
		f.close()
	}
}

// drainRemoved: the member's connections go on, and it is forgotten with the last.
func drainRemoved(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(4)
	gone, id := flows[0], b.members[w.number(flows[0].member)]
	b.dropMember(w.number(gone.member))
	b.elsewhere(gone.member, 6)
	w.mustEcho(flows...)
	b.awaitActive(4)
	for _, f := range flows {
		if f.member == gone.member {
			f.close()
		}
	}
	b.awaitActive(2)
	if n := len(w.scrape().with("qlbaas_member_up", "pool", b.id, "member", id)); n > 1 {
		w.t.Errorf("member %s is counted %d times", id, n)
	}
	// The same endpoint again is another member.
	b.addMember(w.endpoints(echoPort)[w.number(gone.member)], 1)
	b.settle()
	var names []string
	for _, f := range b.openMany(8) {
		names = append(names, f.member)
	}
	if n := tally(names); n[gone.member] != 4 {
		w.t.Errorf("after it was added again: %v", n)
	}
}

func drainAdminDown(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(2)
	leaving := flows[1].member
	b.setMember(w.number(leaving), object{"admin_state_up": false})
	b.elsewhere(leaving, 6)
	w.mustEcho(flows...)
	b.setMember(w.number(leaving), object{"admin_state_up": true})
	w.mustEcho(flows...)
	names := []string{b.open().member, b.open().member}
	if n := tally(names); n[leaving] != 1 {
		w.t.Errorf("up again: %v", n)
	}
}

// drainDown: a member that fails its probes keeps the connections that it has.
func drainDown(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	b.monitor(object{"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1})
	flows := b.openMany(4)
	down := flows[0].member
	mend := w.deaf(w.number(down))
	b.awaitMember(w.number(down), false)
	w.mustEcho(flows...)
	b.elsewhere(down, 6)
	mend()
	b.awaitMember(w.number(down), true)
	w.mustEcho(flows...)
}

// deaf makes a member's host drop every SYN, until mend is called.
func (w *world) deaf(i int) (mend func()) {
	w.t.Helper()
	host := w.Members[i].Host
	ctx := bounded(w.t, 2*patience)
	_, err := host.Run(ctx, "nft", "table inet deaf { chain input { type filter hook input priority 0; tcp flags & (syn|ack) == syn drop; }; }")
	if err != nil {
		w.t.Fatal(err)
	}
	return func() {
		w.t.Helper()
		if _, err := host.Run(ctx, "nft", "delete table inet deaf"); err != nil {
			w.t.Fatal(err)
		}
	}
}

// drainDeadline: when it has passed, both ends are told.
func drainDeadline(w *world) {
	const seconds = 2
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), pool: object{"drain_timeout": seconds}})
	flows := b.openMany(2)
	start := time.Now()
	b.dropMember(w.number(flows[0].member))
	var last error
	until(w.t, patience, func() error {
		if last = flows[0].echo(); last == nil {
			return errors.New("the connection goes on")
		}
		return nil
	})
	if took := time.Since(start); took < seconds*time.Second {
		w.t.Errorf("ended after %s, want no less than %d s", took, seconds)
	}
	if !errors.Is(last, unix.ECONNRESET) && !errors.Is(last, unix.EPIPE) {
		w.t.Errorf("the client saw %v, want a reset", last)
	}
	w.awaitClosed(w.number(flows[0].member))
	if n := b.drops("drained"); n == 0 {
		w.t.Error("no packet was counted as drained")
	}
	w.mustEcho(flows[1])
}

// awaitClosed waits until a member's echo server has no connection.
func (w *world) awaitClosed(i int) {
	w.t.Helper()
	until(w.t, patience, func() error {
		if n := w.echos[i].Active(); n != 0 {
			return fmt.Errorf("%s still holds %d connections", w.echos[i].Name(), n)
		}
		return nil
	})
}

// drainPool: a pool that is down refuses and lets what is established go on.
func drainPool(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(4)
	b.setPool(object{"admin_state_up": false})
	b.refused("no_member")
	w.mustEcho(flows...)
	b.setPool(object{"admin_state_up": true})
	w.mustEcho(append(flows, b.open())...)
}

// awaitExpiry waits until only so many connections are active, while one of them talks, and
// wants the silent ones to have had their seconds since start.
func (b *balancer) awaitExpiry(start time.Time, seconds int, active float64, talking *flow) {
	t := b.w.t
	t.Helper()
	until(t, 2*patience, func() error {
		b.w.mustEcho(talking)
		if n := b.stats().number("active_connections"); n != active {
			return fmt.Errorf("%v connections are active", n)
		}
		return nil
	})
	took := time.Since(start)
	t.Logf("expired after %s", took)
	if took < time.Duration(seconds)*time.Second {
		t.Errorf("a silent connection was ended after %s, want no less than %d s", took, seconds)
	}
}

// TestIdle: what ends without a word is expired, and counted out.
func TestIdle(t *testing.T) {
	rows.Proves(t, 56, 69, 70)
	w := newWorld(t, "auto", lab.TutorialOptions{})
	const seconds = 10 // the least that can be set
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), vip: object{"idle_timeout": seconds}})
	full, sent := b.stuffed()
	silent, talking, kept := b.open(), b.open(), b.keptAlive()
	start := time.Now()
	b.awaitExpiry(start, seconds, 3, talking)
	w.mustEcho(talking, kept)
	if err := full.unstuff(sent); err != nil {
		t.Errorf("%d bytes that nobody has read: %v", sent, err)
	}
	if err := silent.conn.SetDeadline(time.Now().Add(echoTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(silent.conn, "too late\n"); err != nil {
		t.Error(err)
	}
	b.awaitDrops("no_entry", 0)
	if _, err := io.Copy(io.Discard, silent.reader); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client whose connection is gone heard %v, want a RST", err)
	}
}
