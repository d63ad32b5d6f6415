package healthd

import "context"

// slots bounds the probes in flight. Checks whose latest probe timed out ("slow")
// may hold three quarters of them, so that those that answer are still asked while
// any number of members hang. A slow check is one that holds its slot for its
// whole timeout; the others give theirs back within a round trip.
type slots struct {
	all, slow chan struct{}
}

func newSlots(n int) *slots {
	return &slots{
		all:  make(chan struct{}, n),
		slow: make(chan struct{}, max(n-max(n/4, 1), 1)),
	}
}

// take waits for a slot; false means that ctx ended first. What was taken as slow
// is given back as slow.
func (s *slots) take(ctx context.Context, slow bool) bool {
	if slow && !acquire(ctx, s.slow) {
		return false
	}
	if acquire(ctx, s.all) {
		return true
	}
	if slow {
		<-s.slow
	}
	return false
}

func (s *slots) give(slow bool) {
	<-s.all
	if slow {
		<-s.slow
	}
}

func acquire(ctx context.Context, from chan struct{}) bool {
	select {
	case from <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
