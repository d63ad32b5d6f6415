package lbaas

import "context"

// Stats shows what a pool has carried since it was made: the node's live
// counters on top of what earlier deployments left.
func (s *Service) Stats(ctx context.Context, c Caller, poolID string) (Counters, error) {
	// A deployment that is closed between the two readings would be counted twice
	// or not at all, so that base and live are taken again then.
	for range maxStatsReads - 1 {
		sum, before, after, err := s.readStats(ctx, c, poolID)
		if err != nil || before == after {
			return sum, err
		}
	}
	sum, _, _, err := s.readStats(ctx, c, poolID)
	return sum, err
}

// maxStatsReads bounds how often counters are read again.
const maxStatsReads = 3

// readStats returns the sum, and the base before and after asking the node.
func (s *Service) readStats(ctx context.Context, c Caller, poolID string) (sum Counters, before, after StatsBase,
	err error) {
	if before, err = s.statsBase(ctx, c, poolID); err != nil {
		return sum, before, after, err
	}
	sum, after = before.Counters, before
	if s.opts.Stats == nil || before.Closed {
		return sum, before, after, nil
	}
	if live, ok := s.opts.Stats.PoolStats(ctx, poolID); ok {
		sum = sum.plus(live)
		sum.ActiveConnections = live.ActiveConnections
	}
	after, err = s.statsBase(ctx, c, poolID)
	return sum, before, after, err
}

func (s *Service) statsBase(ctx context.Context, c Caller, poolID string) (base StatsBase, err error) {
	err = s.view(ctx, c, func(v view) error {
		pool, err := poolResource().find(v, poolID)
		if err == nil {
			base = pool.Stats
		}
		return err
	})
	return base, err
}

// plus adds what only grows; active connections end with their deployment.
func (c Counters) plus(d Counters) Counters {
	return Counters{
		BytesIn:          c.BytesIn + d.BytesIn,
		BytesOut:         c.BytesOut + d.BytesOut,
		TotalConnections: c.TotalConnections + d.TotalConnections,
	}
}

// CloseStats adds the last counters of a deployment to the pool's base before
// the deployment is removed from the node; from then on live counters are
// ignored until OpenStats. A second call changes nothing, so that a crash
// between CloseStats and the removal counts nothing twice. Unknown pools are
// ignored.
func (s *Service) CloseStats(ctx context.Context, poolID string, last Counters) error {
	return s.setStats(ctx, poolID, true, last)
}

// OpenStats lets live counters count again. It is to be called before a pool is
// deployed whose PoolConfig says Stats.Closed, and after whatever was left of
// the closed deployment has been removed.
func (s *Service) OpenStats(ctx context.Context, poolID string) error {
	return s.setStats(ctx, poolID, false, Counters{})
}

// AddStats adds what a part of a deployment has counted, of which that part is taken away
// while the rest stays. Unknown pools, and those whose counters are closed, are ignored.
// Who adds must see to it that nobody finds the part in the base and in live counters.
func (s *Service) AddStats(ctx context.Context, poolID string, part Counters) error {
	return s.opts.Store.Update(ctx, func(tx Tx) error {
		pool, err := poolRecords().get(tx, poolID)
		if err != nil || pool == nil || pool.Stats.Closed {
			return err
		}
		pool.Stats.Counters = pool.Stats.plus(part)
		return poolRecords().save(tx, pool)
	})
}

func (s *Service) setStats(ctx context.Context, poolID string, closed bool, last Counters) error {
	return s.opts.Store.Update(ctx, func(tx Tx) error {
		pool, err := poolRecords().get(tx, poolID)
		if err != nil || pool == nil || pool.Stats.Closed == closed {
			return err
		}
		pool.Stats = StatsBase{Counters: pool.Stats.plus(last), Closed: closed}
		return poolRecords().save(tx, pool)
	})
}
