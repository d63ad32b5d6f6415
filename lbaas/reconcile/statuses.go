package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"qlbaas/lbaas"
)

// The store is written at most once per statusGap, and again after statusRetry
// when it refused.
const (
	statusGap   = 50 * time.Millisecond
	statusRetry = time.Second
)

// statuses carries reports to the store: of one object only the newest, all that
// came up meanwhile in one transaction. Nobody who reports waits for a disk.
type statuses struct {
	log *slog.Logger

	mu      sync.Mutex
	waiting map[statusKey]lbaas.Report
	wake    chan struct{}
	// refused is what the store said last, so that it is logged once.
	refused string
}

type statusKey struct {
	kind       lbaas.Kind
	poolID, id string
}

func newStatuses(log *slog.Logger) *statuses {
	return &statuses{log: log, waiting: map[statusKey]lbaas.Report{}, wake: make(chan struct{}, 1)}
}

// put queues reports. One that speaks of an older generation than what waits
// already is dropped.
func (s *statuses) put(reports ...lbaas.Report) {
	if len(reports) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range reports {
		key := statusKey{r.Kind, r.PoolID, r.ID}
		if old, ok := s.waiting[key]; !ok || old.Generation <= r.Generation {
			s.waiting[key] = r
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes until stop is closed, and then once more.
func (s *statuses) run(ctx context.Context, stop <-chan struct{}, state State) {
	for {
		select {
		case <-s.wake:
		case <-stop:
			s.flush(ctx, state)
			return
		}
		gap := statusGap
		if !s.flush(ctx, state) {
			gap = statusRetry
		}
		select {
		case <-time.After(gap):
		case <-stop:
		}
	}
}

// flush writes what waits; refused reports wait on, unless newer ones came.
func (s *statuses) flush(ctx context.Context, state State) bool {
	s.mu.Lock()
	batch := make([]lbaas.Report, 0, len(s.waiting))
	for _, r := range s.waiting {
		batch = append(batch, r)
	}
	clear(s.waiting)
	s.mu.Unlock()
	if len(batch) == 0 {
		return true
	}
	err := state.SetStatuses(ctx, batch...)
	if err == nil {
		s.refused = ""
		return true
	}
	if text := err.Error(); text != s.refused {
		s.refused = text
		s.log.Error("statuses cannot be stored; trying again", "err", err, "reports", len(batch))
	}
	s.back(batch)
	return false
}

// back puts refused reports behind what came up meanwhile.
func (s *statuses) back(batch []lbaas.Report) {
	s.mu.Lock()
	newer := s.waiting
	s.waiting = map[statusKey]lbaas.Report{}
	s.mu.Unlock()
	s.put(batch...)
	for _, r := range newer {
		s.put(r)
	}
}
