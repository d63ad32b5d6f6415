package reconcile

import (
	"sync"
	"time"
)

// The pause after the first failed attempt at a pool; it doubles up to the longest.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 30 * time.Second
)

// queue holds the pools that want an attempt, each at most once, oldest first.
type queue struct {
	mu     sync.Mutex
	items  map[string]*item
	order  []string // queued items, oldest first
	closed bool
	// wake has a token when a worker should look again.
	wake chan struct{}
}

// item is a pool that is queued, running, waiting for its retry, or a mix.
type item struct {
	queued, running bool
	// after names pools whose attempts, queued or running now, come first.
	after    []string
	attempts int // failed ones in a row
	retry    *time.Timer
}

func newQueue() *queue {
	return &queue{items: map[string]*item{}, wake: make(chan struct{}, 1)}
}

// add asks for an attempt at each pool, begun in the given order.
func (q *queue) add(ids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, id := range ids {
		q.push(id)
		if i > 0 {
			q.follow(id, ids[i-1])
		}
	}
	q.signal()
}

// nudge is add for a pool that is not known to the queue already.
func (q *queue) nudge(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.items[id] == nil {
		q.push(id)
		q.signal()
	}
}

// push is called with mu held.
func (q *queue) push(id string) {
	if q.closed {
		return
	}
	it := q.items[id]
	if it == nil {
		it = &item{}
		q.items[id] = it
	}
	if it.retry != nil {
		it.retry.Stop()
		it.retry = nil
	}
	if !it.queued {
		it.queued = true
		q.order = append(q.order, id)
	}
}

// follow lets id wait for the attempt at first, unless first already waits for
// id: then order cannot be had, and retries have to do. mu is held.
func (q *queue) follow(id, first string) {
	seen := map[string]bool{}
	var waits func(a string) bool
	waits = func(a string) bool {
		if a == id {
			return true
		}
		if it := q.items[a]; it != nil && !seen[a] {
			seen[a] = true
			for _, b := range it.after {
				if waits(b) {
					return true
				}
			}
		}
		return false
	}
	if it := q.items[id]; it != nil && !waits(first) {
		it.after = append(it.after, first)
	}
}

// take returns the next pool whose turn it is.
func (q *queue) take() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, id := range q.order {
		it := q.items[id]
		if q.closed || it.running || q.held(it) {
			continue
		}
		q.order = append(q.order[:i:i], q.order[i+1:]...)
		it.queued, it.running, it.after = false, true, nil
		// There may be more for the next worker.
		q.signal()
		return id, true
	}
	return "", false
}

func (q *queue) held(it *item) bool {
	for _, id := range it.after {
		if first := q.items[id]; first != nil && (first.queued || first.running) {
			return true
		}
	}
	return false
}

// done ends an attempt; a failed one is repeated after a pause.
func (q *queue) done(id string, failed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[id]
	it.running = false
	it.attempts++
	if !failed {
		it.attempts = 0
	}
	switch {
	case it.queued || q.closed:
	case failed:
		it.retry = time.AfterFunc(pause(it.attempts), func() { q.add(id) })
	default:
		delete(q.items, id)
	}
	q.signal()
}

func pause(attempts int) time.Duration {
	d := firstPause
	for range attempts - 1 {
		if d *= 2; d >= longestPause {
			return longestPause
		}
	}
	return d
}

// pending tells whether a pool wants an attempt, has one, or awaits a retry.
func (q *queue) pending(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items[id] != nil
}

// close ends retries and empties the queue; attempts under way go on.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, it := range q.items {
		if it.retry != nil {
			it.retry.Stop()
		}
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
