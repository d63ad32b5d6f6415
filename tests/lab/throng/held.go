package throng

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Held are connections that stay.
type Held struct {
	clients []*client
}

// atOnce bounds those who connect or answer at the same time: each takes a thread.
const atOnce = 32

// Hold makes n connections. The caller closes them.
func Hold(ctx context.Context, c Clients, n int) (*Held, error) {
	h := &Held{clients: make([]*client, n)}
	errs := make([]error, n)
	each(n, func(i int) { h.clients[i], errs[i] = c.dial(ctx) })
	for i, err := range errs {
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("connect %d of %d to %s: %w", i+1, n, c.Target, err)
		}
	}
	return h, nil
}

// Len is how many there are.
func (h *Held) Len() int { return len(h.clients) }

// Close closes all connections.
func (h *Held) Close() {
	for _, c := range h.clients {
		if c != nil {
			_ = c.conn.Close() // whether it was alive is for others to say
		}
	}
}

// Reset ends all connections with a RST.
func (h *Held) Reset() {
	for _, c := range h.clients {
		if tcp, ok := c.conn.(interface{ SetLinger(int) error }); ok {
			_ = tcp.SetLinger(0) // fails only on a closed one
		}
	}
	h.Close()
}

// Lost lets every connection echo one byte and returns how many cannot within patience,
// and why the first of them could not.
func (h *Held) Lost(patience time.Duration) (lost int, why error) {
	errs := make([]error, len(h.clients))
	each(len(h.clients), func(i int) { _, errs[i] = h.clients[i].echo(patience) })
	for i, err := range errs {
		if err == nil {
			continue
		}
		if lost++; why == nil {
			why = fmt.Errorf("connection %d of %d: %w", i+1, len(errs), err)
		}
	}
	return lost, why
}

// each calls fn for 0..n-1, some at a time.
func each(n int, fn func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, atOnce) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				fn(int(i))
			}
		})
	}
	all.Wait()
}

// Work is what held connections are busy with.
type Work struct {
	stop    chan struct{}
	working sync.WaitGroup

	mu    sync.Mutex
	times Times // guarded by mu
	lost  int   // guarded by mu
	why   error // guarded by mu
}

// Worked is what came of it.
type Worked struct {
	// Times of all echoes; of a byte that was sent again, all of it.
	Times Times
	// Lost connections, and why the first of them was.
	Lost int
	Why  error
}

// Work lets every connection echo one byte each so often, until Stop. A byte that does not
// come back within patience is a lost connection.
func (h *Held) Work(every, patience time.Duration) *Work {
	w := &Work{stop: make(chan struct{})}
	for i, c := range h.clients {
		begin := every * time.Duration(i) / time.Duration(len(h.clients)) // not all at once
		w.working.Go(func() {
			if err := w.work(c, begin, every, patience); err != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.lost++; w.why == nil {
					w.why = fmt.Errorf("busy connection %d of %d: %w", i+1, len(h.clients), err)
				}
			}
		})
	}
	return w
}

func (w *Work) work(c *client, begin, every, patience time.Duration) error {
	timer := time.NewTimer(begin)
	defer timer.Stop()
	for {
		select {
		case <-w.stop:
			return nil
		case <-timer.C:
		}
		took, err := c.echo(patience)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.times = append(w.times, took)
		w.mu.Unlock()
		timer.Reset(max(every-took, 0))
	}
}

// Turn returns what came of the work so far and begins to count anew.
func (w *Work) Turn() Worked {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := Worked{Times: w.times, Lost: w.lost, Why: w.why}
	w.times, w.lost, w.why = nil, 0, nil
	return r
}

// Stop ends the work, waits for those that are at it, and is Turn. Only once.
func (w *Work) Stop() Worked {
	close(w.stop)
	w.working.Wait()
	return w.Turn()
}
