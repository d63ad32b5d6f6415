package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"qlbaas/l7/control"
	"qlbaas/l7/pool"
)

const (
	// lookEvery is the pause between two looks at a sidecar.
	lookEvery = 200 * time.Millisecond
	// rememberEvery is that between two copies of learned cookies, which takes no more
	// than a fiftieth of the time.
	rememberEvery = 5 * time.Second
	rememberShare = 50
	// arrived bounds how long what a sidecar has said already takes to be read.
	arrived = 30 * time.Millisecond
)

// falls makes pauses between starts grow when sidecars do not last.
type falls struct {
	born, next time.Time
	row        int
}

const (
	// lasting is how long one must live to count as sound.
	lasting       = 10 * time.Second
	firstPause    = 100 * time.Millisecond
	longestPause  = 10 * time.Second
	fallsForgiven = 2
)

func (f *falls) fell(now time.Time) {
	if now.Sub(f.born) > lasting {
		f.row = 0
	}
	f.row++
	f.next = now
	if over := f.row - fallsForgiven; over > 0 {
		f.next = now.Add(min(longestPause, firstPause<<min(over-1, 10)))
	}
}

// pause is how long nobody should start another one.
func (f *falls) pause(now time.Time) time.Duration { return f.next.Sub(now) }

// watch looks after the sidecar that serves until another one does.
func (p *place) watch(s *sidecar) {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	chores := time.Now().Add(p.keeper.rememberEvery)
	for {
		var err error
		select {
		case <-p.keeper.ctx.Done():
			return
		case <-s.left:
			return
		case <-s.process.exited:
			err = errors.New("it has ended")
		case <-looks.C:
			err = p.look(s)
		}
		if err != nil {
			p.fell(s, err)
			return
		}
		if now := time.Now(); now.After(chores) {
			p.remember()
			p.keeper.trimLog(p.id)
			chores = now.Add(max(p.keeper.rememberEvery, rememberShare*time.Since(now)))
		}
	}
}

// look asks a sidecar how it is, and repairs what it does not have right.
func (p *place) look(s *sidecar) error {
	p.talk.Lock()
	defer p.talk.Unlock()
	select {
	case <-s.left:
		return nil
	default:
	}
	stats, err := p.ask(s)
	if err != nil {
		s.spoil(err)
		return err
	}
	p.mu.Lock()
	s.last = stats
	config := p.config
	p.mu.Unlock()
	if !differs(stats, config) {
		return nil
	}
	p.keeper.log.Warn("sidecar is not configured as it was", "pool", p.id, "generation", stats.Generation)
	ctx, cancel := context.WithTimeout(p.keeper.ctx, slowness)
	defer cancel()
	if err := s.client.Apply(ctx, config); err != nil && !errors.Is(err, control.ErrRefused) {
		s.spoil(err)
		return err
	}
	return nil
}

// ask gets the counters. talk is held.
func (p *place) ask(s *sidecar) (control.Stats, error) {
	if s.broken != nil {
		return control.Stats{}, s.broken
	}
	ctx, cancel := context.WithTimeout(p.keeper.ctx, silence)
	defer cancel()
	stats, err := s.client.Stats(ctx)
	if !errors.Is(err, os.ErrDeadlineExceeded) || p.keeper.ctx.Err() != nil {
		return stats, err
	}
	more := arrived
	if s.process.busy() {
		more = slowness
	}
	late, cancelLate := context.WithTimeout(p.keeper.ctx, more)
	defer cancelLate()
	return s.client.Final(late)
}

// spoil notes that the connection is of no more use: an answer may still come, and would
// be taken for another question's. talk is held.
func (s *sidecar) spoil(err error) {
	if s.broken == nil {
		s.broken = err
	}
}

// differs tells whether a sidecar is configured otherwise.
func differs(s control.Stats, c control.Config) bool {
	up := map[string]bool{}
	for _, m := range s.Pool.Members {
		up[m.ID] = m.Up
	}
	for _, m := range c.Pool.Members {
		if is, there := up[m.ID]; !there || is != m.Up {
			return true
		}
	}
	return s.Generation != c.Generation
}

// remember copies the learned cookies, for the case that the sidecar dies. If that
// fails, the next look says why.
func (p *place) remember() {
	p.mu.Lock()
	wanted := p.config.Pool.Persistence == pool.AppCookie
	p.mu.Unlock()
	if !wanted {
		return
	}
	ctx, cancel := context.WithTimeout(p.keeper.ctx, silence)
	defer cancel()
	client, err := control.Dial(ctx, p.keeper.path(p.id, "sock"))
	if err != nil {
		return
	}
	defer client.Close()
	got, err := client.Inherit(ctx)
	if err != nil {
		return
	}
	got.Clients.Close()
	got.Control.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learned = got.State.Learned
}

// fell replaces a sidecar that has died or hangs, again and again until it succeeds or
// somebody else does.
func (p *place) fell(s *sidecar, cause error) {
	if !p.bury(s, cause) {
		return
	}
	for {
		p.mu.Lock()
		pause := p.falls.pause(time.Now())
		p.mu.Unlock()
		select {
		case <-p.keeper.ctx.Done():
			return
		case <-s.left:
			return
		case <-time.After(pause):
		}
		if p.mend(s) {
			return
		}
	}
}

// bury makes sure that a sidecar is dead, and tells whether it needs to be replaced.
func (p *place) bury(s *sidecar, cause error) bool {
	p.op.Lock()
	defer p.op.Unlock()
	k := p.keeper
	if k.ctx.Err() != nil || !p.serves(s) {
		return false
	}
	if err := s.process.kill(); err != nil {
		k.log.Error("sidecar cannot be ended", "pool", p.id, "err", err)
	}
	said := lastLine(k.path(p.id, "log"))
	p.mu.Lock()
	retiring := p.retiring
	if !retiring {
		p.falls.fell(time.Now())
		p.restarts++
	}
	again := p.falls.pause(time.Now()) > 0
	if again {
		p.err = fmt.Errorf("%w: %w: %s", ErrUnfit, cause, said)
	}
	p.mu.Unlock()
	k.log.Error("sidecar has failed", "pool", p.id, "pid", s.process.pid, "err", cause, "said", said)
	if retiring {
		p.dismiss(s)
		return false
	}
	if again {
		k.options.Changed(p.id)
	}
	return true
}

// mend starts a sidecar in place of s; over means that there is nothing left to do.
func (p *place) mend(s *sidecar) (over bool) {
	p.op.Lock()
	defer p.op.Unlock()
	k := p.keeper
	if k.ctx.Err() != nil || !p.serves(s) {
		return true
	}
	p.mu.Lock()
	failing := p.err != nil
	p.mu.Unlock()
	err := p.start(k.ctx)
	switch {
	case err == nil:
		k.log.Info("sidecar was started anew", "pool", p.id)
	case k.ctx.Err() != nil:
		return true
	default:
		p.mu.Lock()
		p.err = fmt.Errorf("%w: %w", ErrUnfit, err)
		p.falls.fell(time.Now())
		p.mu.Unlock()
		k.log.Error("sidecar cannot be started anew", "pool", p.id, "err", err)
	}
	if failing != (err != nil) {
		k.options.Changed(p.id)
	}
	return err == nil
}

func (p *place) serves(s *sidecar) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current == s
}
