package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/control"
)

const (
	// quiet is how long nobody must have waited to be accepted before a sidecar
	// retires, and patience how long that is waited for.
	quiet    = 300 * time.Millisecond
	patience = 10 * time.Second
	// reports of a sidecar that retires come every second.
	reportTime = 5 * time.Second
)

// retire begins to let the sidecar that serves go.
func (p *place) retire() {
	p.mu.Lock()
	s, begun := p.current, p.retiring
	p.retiring = s != nil
	if s == nil {
		p.wanted = false
	}
	p.mu.Unlock()
	switch {
	case s == nil: // it could not be started
		p.keeper.options.Changed(p.id)
	case !begun:
		p.keeper.running.Go(func() { p.seeOff(s) })
	}
}

// seeOff retires a sidecar and waits until it is gone.
func (p *place) seeOff(s *sidecar) {
	p.awaitQuiet(s)
	if !p.dispatch(s) {
		return
	}
	ctx := p.keeper.ctx
	for {
		late, cancel := context.WithTimeout(ctx, reportTime)
		stats, err := s.client.Final(late)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			if !errors.Is(err, io.EOF) {
				p.keeper.log.Warn("sidecar does not tell how it ends", "pool", p.id, "pid", s.process.pid, "err", err)
			}
			break
		}
		p.mu.Lock()
		s.last = stats
		p.mu.Unlock()
	}
	p.awaitEnd(s)
}

// awaitQuiet waits until no client waits to be accepted.
func (p *place) awaitQuiet(s *sidecar) {
	const step = 20 * time.Millisecond
	still, bound := time.Now(), time.Now().Add(patience)
	for now := time.Now(); now.Sub(still) < quiet && now.Before(bound); now = time.Now() {
		if p.waiting() > 0 {
			still = now
		}
		select {
		case <-p.keeper.ctx.Done():
			return
		case <-s.left:
			return
		case <-time.After(step):
		}
	}
}

// waiting is the number of clients that wait to be accepted.
func (p *place) waiting() (n uint32) {
	p.op.Lock()
	defer p.op.Unlock()
	if p.listener == nil {
		return 0
	}
	raw, err := p.listener.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // a closed one has none
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			n = info.Unacked // of a listening socket: the length of its queue
		}
	})
	return n
}

// dispatch tells the sidecar to retire, unless it is wanted again.
func (p *place) dispatch(s *sidecar) bool {
	p.op.Lock()
	defer p.op.Unlock()
	p.talk.Lock()
	defer p.talk.Unlock()
	p.mu.Lock()
	still := p.current == s && p.retiring
	p.mu.Unlock()
	if !still || p.keeper.ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(p.keeper.ctx, slowness)
	defer cancel()
	stats, err := s.client.Retire(ctx)
	if err != nil {
		s.spoil(err) // whoever watches ends it
		return false
	}
	p.mu.Lock()
	s.last = stats
	p.leaving[s] = true
	p.current, p.wanted, p.retiring, p.learned = nil, false, false, nil
	p.mu.Unlock()
	close(s.left)
	p.closeListener()
	p.keeper.options.Changed(p.id)
	return true
}

// awaitEnd waits for the exit of a sidecar that is done, or of one that finishes and
// answers to somebody else: its successor, or nobody any more.
func (p *place) awaitEnd(s *sidecar) {
	bound := time.After(killTime)
	if s.client == nil {
		bound = nil // it still has clients
	}
	select {
	case <-p.keeper.ctx.Done():
		return
	case <-s.process.exited:
	case <-bound:
		if err := s.process.kill(); err != nil {
			p.keeper.log.Error("sidecar cannot be ended", "pool", p.id, "err", err)
		}
	}
	p.awaitSockets()
	p.mu.Lock()
	if p.leaving[s] {
		delete(p.leaving, s)
		p.past = plus(p.past, s.last)
	}
	last := len(p.leaving) == 0 && !p.wanted
	p.mu.Unlock()
	if s.client != nil {
		_ = s.client.Close() // it is gone
	}
	if last {
		p.keeper.options.Changed(p.id)
	}
}

// lingering bounds how long a connection may take to bring its last bytes to its client
// when the sidecar has ended.
const lingering = time.Minute

// awaitSockets waits until the kernel has brought to an end what ended sidecars have left
// to it: closed connections whose last bytes are still under way.
func (p *place) awaitSockets() {
	const step = 100 * time.Millisecond
	for bound := time.Now().Add(lingering); time.Now().Before(bound); {
		var open bool
		err := p.keeper.options.Spaces.Inside(p.id, func() (err error) {
			open, err = socketsOpen()
			return err
		})
		if err != nil || !open { // without a namespace there are none
			return
		}
		select {
		case <-p.keeper.ctx.Done():
			return
		case <-time.After(step):
		}
	}
}

// dismiss forgets a dead sidecar that was about to retire. op is held.
func (p *place) dismiss(s *sidecar) {
	p.mu.Lock()
	p.past = plus(p.past, s.last)
	p.current, p.wanted, p.retiring, p.learned, p.err = nil, false, false, nil, nil
	p.mu.Unlock()
	close(s.left)
	_ = s.client.Close() // it is gone
	p.closeListener()
	p.keeper.options.Changed(p.id)
}

func (p *place) closeListener() {
	if p.listener != nil {
		_ = p.listener.Close() // nothing was written
		p.listener = nil
	}
}

// remove ends everything and takes its files away.
func (p *place) remove(context.Context) error {
	p.op.Lock()
	defer p.op.Unlock()
	p.mu.Lock()
	p.wanted, p.retiring, p.err = false, false, nil
	p.mu.Unlock()
	if err := p.endAll(); err != nil {
		return err
	}
	for _, kind := range []string{"sock", "log"} {
		if err := os.Remove(p.keeper.path(p.id, kind)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the sidecar's files: %w", err)
		}
	}
	return nil
}

// endAll ends all processes of the pool. The one that serves may finish answers. op is
// held.
func (p *place) endAll() error {
	p.refresh()
	p.mu.Lock()
	s := p.current
	clients := s != nil && s.last.Proxy.Clients > 0
	p.mu.Unlock()
	if clients && !s.process.gone() {
		if err := s.process.signal(unix.SIGTERM); err != nil {
			return err
		}
		_ = s.process.wait(farewell) // what is left is killed below
	}
	if err := p.keeper.killAll(p.id); err != nil {
		return err
	}
	p.closeListener()
	if s == nil {
		return nil
	}
	if err := s.process.wait(killTime); err != nil {
		return err
	}
	p.mu.Lock()
	p.past = plus(p.past, s.last)
	p.current, p.learned = nil, nil
	p.mu.Unlock()
	close(s.left)
	_ = s.client.Close() // it is gone
	return nil
}

// letGo stops caring for the pool's sidecars. The keeper's context has ended.
func (p *place) letGo() {
	p.op.Lock()
	defer p.op.Unlock()
	p.talk.Lock()
	defer p.talk.Unlock()
	p.closeListener()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[*sidecar]bool{}
	for s := range p.leaving {
		all[s] = true
	}
	if p.current != nil {
		all[p.current] = true
	}
	for s := range all {
		_ = s.process.handle.Close() // it was only watched
		if s.client != nil {
			_ = s.client.Close() // the sidecar goes on
		}
	}
}

// refresh asks the sidecar that serves for its counters. One that does not answer is
// replaced by whoever watches.
func (p *place) refresh() {
	p.mu.Lock()
	s := p.current
	p.mu.Unlock()
	if s != nil && !s.process.gone() {
		_ = p.look(s) // see above
	}
}

// stats is what nobody has settled yet.
func (p *place) stats() (s control.Stats, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = p.sum()
	s.Proxy = s.Proxy.Since(p.settled.Proxy)
	learned := s.Pool.Learned
	s.Pool = control.PoolSince(s.Pool, p.settled.Pool)
	s.Pool.Learned = learned
	return s, true
}

// sum is all that was ever counted. mu is held.
func (p *place) sum() control.Stats {
	s := p.past
	for l := range p.leaving {
		s = withLevels(plus(s, l.last), l.last)
	}
	if p.current != nil {
		last := p.current.last
		s = withLevels(plus(s, last), last)
		s.Generation, s.PID, s.Version, s.Pool.Learned = last.Generation, last.PID, last.Version, last.Pool.Learned
	}
	return s
}

// settle notes what the caller keeps now, and tells whether nothing is left here.
func (p *place) settle(s control.Stats) (over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = plus(p.settled, s)
	return !p.wanted && p.current == nil && len(p.leaving) == 0
}
