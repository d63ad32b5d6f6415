package demo

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"qlbaas/tests/lab"
)

// load is a crowd of clients that ask without end and note what becomes of each
// request. Safe for concurrent use.
type load struct {
	asked atomic.Int64
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu sync.Mutex
	// doing is what was changed last, for the note on a lost request; guarded by
	// mu, as all below.
	doing   string
	who     []string
	slowest time.Duration // of the answered
	lost    []error
}

const (
	crowd = 4
	// between two requests of one client.
	between = 4 * time.Millisecond
)

// startLoad starts the crowd at a host.
func startLoad(ctx context.Context, from *lab.Host) *load {
	l := &load{}
	ctx, l.stop = context.WithCancel(ctx)
	for range crowd {
		l.done.Go(func() { l.run(ctx, from) })
	}
	return l
}

func (l *load) run(ctx context.Context, from *lab.Host) {
	for pause(ctx, between) == nil {
		// Without ctx's end: a request that was begun is waited for.
		a := ask(context.WithoutCancel(ctx), from, patience)
		l.asked.Add(1)
		l.note(a)
	}
}

func (l *load) note(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.err != nil {
		l.lost = append(l.lost, fmt.Errorf("began %s, failed after %s; the last change was %q: %w", a.began.Format(clock), a.took.Round(time.Millisecond), l.doing, a.err))
		return
	}
	l.who = append(l.who, a.who)
	l.slowest = max(l.slowest, a.took)
}

// does notes what is about to be changed.
func (l *load) does(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doing = time.Now().Format(clock) + " " + what
}

// clock is the format of a time in a note.
const clock = "15:04:05.000"

// await waits until n more requests have been asked.
func (l *load) await(ctx context.Context, n int64) error {
	want := l.asked.Load() + n
	return until(ctx, time.Minute, func() error {
		if got := l.asked.Load(); got < want {
			return fmt.Errorf("%d requests were asked, want %d", got, want)
		}
		return nil
	})
}

// end lets the crowd finish its requests.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}
