package reconcile

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qlbaas/lbaas"
	"qlbaas/tests/bubble"
)

func memberSays(generation uint64, status lbaas.Status) lbaas.Report {
	return lbaas.Report{Kind: lbaas.KindMember, ID: id('e', 17), PoolID: id('a', 1), Generation: generation, Status: status}
}

// TestStatusesNewestWins among what waits, and an older generation never does.
func TestStatusesNewestWins(t *testing.T) {
	s, state := newStatuses(slog.New(slog.DiscardHandler)), newState()
	cfg := poolConfig(1)
	cfg.Members[0].Generation = 2
	state.put(cfg)
	s.put(memberSays(2, lbaas.StatusActive))
	s.put(memberSays(2, lbaas.StatusInactive))
	s.put(memberSays(1, lbaas.StatusError))
	if !s.flush(t.Context(), state) || state.reports != 1 {
		t.Errorf("%d reports", state.reports)
	}
	if got := state.get(id('a', 1)).Members[0].Status; got != lbaas.StatusInactive {
		t.Errorf("status %s", got)
	}
}

// TestStatusesRetry: what the store refuses is kept, a newer word replaces it,
// and the refusal is logged once.
func TestStatusesRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s, state := newStatuses(slog.New(slog.NewTextHandler(&log, nil))), newState()
		state.put(poolConfig(1))
		state.set(1)
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			s.run(t.Context(), stop, state)
			close(ended)
		}()
		s.put(memberSays(1, lbaas.StatusActive))
		bubble.Pass(10 * time.Second)
		if n := strings.Count(log.String(), "cannot be stored"); n != 1 || state.writes < 5 {
			t.Errorf("%d lines for %d tries", n, state.writes)
		}
		s.put(memberSays(1, lbaas.StatusInactive))
		bubble.Pass(time.Millisecond)
		state.set(0)
		bubble.Pass(2 * statusRetry)
		if got := state.get(id('a', 1)).Members[0].Status; got != lbaas.StatusInactive {
			t.Errorf("status %s", got)
		}
		close(stop)
		<-ended
	})
}
