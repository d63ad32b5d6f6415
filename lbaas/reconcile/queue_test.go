package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qlbaas/tests/bubble"
)

// drain takes everything that may run now, without ending it.
func drain(q *queue) []string {
	var out []string
	for {
		id, ok := q.take()
		if !ok {
			return out
		}
		out = append(out, id)
	}
}

func want(t *testing.T, q *queue, ids ...string) {
	t.Helper()
	if diff := cmp.Diff(ids, drain(q)); diff != "" {
		t.Fatal(diff)
	}
}

func TestQueueCoalesces(t *testing.T) {
	q := newQueue()
	q.add("a")
	q.add("a")
	q.nudge("a")
	want(t, q, "a")
	// While it runs, all further events become one further attempt.
	q.add("a")
	q.add("a")
	want(t, q)
	q.done("a", false)
	want(t, q, "a")
	q.done("a", false)
	want(t, q)
	if q.pending("a") || len(q.items) != 0 {
		t.Error("an idle pool is remembered")
	}
}

func TestQueueKeepsOrder(t *testing.T) {
	q := newQueue()
	q.add("new") // asked for before, and must wait all the same
	q.add("old", "new")
	want(t, q, "old")
	q.add("old") // again, while it runs
	q.done("old", true)
	want(t, q, "old")
	q.done("old", true)
	// The failure does not hold the other up.
	want(t, q, "new")
}

// TestQueueCircle: two moves in opposite directions must not wait for each other.
func TestQueueCircle(t *testing.T) {
	q := newQueue()
	q.add("a", "b", "c")
	q.add("c", "a")
	want(t, q, "a")
	q.done("a", false)
	want(t, q, "b")
	q.done("b", false)
	want(t, q, "c")
}

func TestQueueRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.add("a")
		var pauses []time.Duration
		for range 12 {
			want(t, q, "a")
			q.done("a", true)
			since := time.Now()
			want(t, q)
			q.nudge("a") // drift does not end the pause
			want(t, q)
			<-drained(q)
			pauses = append(pauses, time.Since(since))
		}
		if !slices.IsSorted(pauses) || pauses[0] != firstPause || pauses[11] != longestPause {
			t.Errorf("pauses %v", pauses)
		}
		// An event does, and success forgets the failures.
		want(t, q, "a")
		q.done("a", true)
		q.add("a")
		want(t, q, "a")
		q.done("a", false)
		q.add("a")
		want(t, q, "a")
		q.done("a", true)
		since := time.Now()
		<-drained(q)
		if d := time.Since(since); d != firstPause {
			t.Errorf("pause after a success: %v", d)
		}
		q.close()
	})
}

// drained empties stale wake-ups and returns the channel of the next one.
func drained(q *queue) <-chan struct{} {
	select {
	case <-q.wake:
	default:
	}
	return q.wake
}

func TestQueueClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.add("a", "b")
		want(t, q, "a")
		q.close()
		q.done("a", true)
		q.add("c")
		want(t, q)
		bubble.Pass(time.Hour) // no timer may be left
		want(t, q)
	})
}

// TestQueueLongChain: one monitor on a thousand pools.
func TestQueueLongChain(t *testing.T) {
	q := newQueue()
	var ids []string
	for i := range 1000 {
		ids = append(ids, fmt.Sprint(i))
	}
	q.add(ids...)
	q.add(ids...)
	var got []string
	for {
		id, ok := q.take()
		if !ok {
			break
		}
		got = append(got, id)
		q.done(id, false)
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Error(diff)
	}
}
