package throng

import (
	"context"
	"sync"
	"time"
)

// Visits are connections that come at a steady rate, exchange a byte and go.
type Visits struct {
	stop    chan struct{}
	ticking sync.WaitGroup
	under   sync.WaitGroup

	mu      sync.Mutex
	visited Visited // guarded by mu
}

// Visited is what came of visits.
type Visited struct {
	// Tried connections, and those that were made, named and echoed within the time.
	Tried, InTime int
	// Times of those.
	Times Times
	// Why the first of the others was not.
	Why error
}

// Visit lets so many new connections a second come, until Stop. Each has to be made and
// echo a byte within the time.
func Visit(c Clients, perSecond int, within time.Duration) *Visits {
	v := &Visits{stop: make(chan struct{})}
	v.ticking.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for {
			select {
			case <-v.stop:
				return
			case <-ticker.C:
				v.under.Go(func() { v.visit(c, within) })
			}
		}
	})
	return v
}

func (v *Visits) visit(c Clients, within time.Duration) {
	begin := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), begin.Add(within))
	defer cancel()
	one, err := c.dial(ctx)
	if err == nil {
		_, err = one.echo(time.Until(begin.Add(within)))
		_ = one.conn.Close() // it has said all
	}
	took := time.Since(begin)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.visited.Tried++
	switch {
	case err == nil:
		v.visited.InTime++
		v.visited.Times = append(v.visited.Times, took)
	case v.visited.Why == nil:
		v.visited.Why = err
	}
}

// Turn returns what came of the visits that have ended, and begins to count anew.
func (v *Visits) Turn() Visited {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.visited
	v.visited = Visited{}
	return r
}

// Stop lets nobody come any more, waits for those that are there, and is Turn. Only once.
func (v *Visits) Stop() Visited {
	close(v.stop)
	v.ticking.Wait()
	v.under.Wait()
	return v.Turn()
}
