package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/control"
)

// adoptTime bounds how long a sidecar may take to tell all that it knows.
const adoptTime = 1500 * time.Millisecond

// adopt takes over what an earlier keeper has left of a pool: the sidecar that answers at
// the control socket, and those that only finish, which answer nowhere.
func (p *place) adopt(pids []int) {
	p.op.Lock()
	defer p.op.Unlock()
	k := p.keeper
	err := p.takeOver()
	for tries := 0; err != nil && tries < 3 && !isGone(err) && !errors.Is(err, os.ErrDeadlineExceeded); tries++ {
		err = p.takeOver() // it has retired in between, or another one has succeeded it
	}
	switch {
	case err == nil:
		k.log.Info("sidecar adopted", "pool", p.id, "pid", p.current.process.pid, "version", p.current.last.Version)
	case isGone(err):
	default:
		k.log.Error("sidecar cannot be adopted; it is ended", "pool", p.id, "err", err)
		if err := k.killAll(p.id); err != nil {
			k.log.Error("sidecar cannot be ended", "pool", p.id, "err", err)
		}
		pids = nil
	}
	for _, pid := range pids {
		if p.current == nil || p.current.process.pid != pid {
			p.adoptLeaving(pid)
		}
	}
	if p.current == nil && len(p.leaving) == 0 {
		_ = os.Remove(k.path(p.id, "sock")) // the next one makes its own
		k.forget(p)
	}
}

// isGone tells whether nobody listens for questions.
func isGone(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
}

func (p *place) adoptLeaving(pid int) {
	proc, err := p.keeper.adoptProcess(pid, p.id)
	if err != nil {
		return // it has just gone
	}
	p.accompany(proc)
}

// accompany waits for the end of a process that takes no new clients.
func (p *place) accompany(proc *process) {
	s := &sidecar{process: proc, left: make(chan struct{})}
	close(s.left)
	p.mu.Lock()
	p.leaving[s] = true
	p.mu.Unlock()
	p.keeper.running.Go(func() { p.awaitEnd(s) })
}

// takeOver makes the sidecar that answers the one that serves.
func (p *place) takeOver() error {
	ctx, cancel := context.WithTimeout(p.keeper.ctx, adoptTime)
	defer cancel()
	client, err := control.Dial(ctx, p.keeper.path(p.id, "sock"))
	if err != nil {
		return err
	}
	s := &sidecar{client: client, left: make(chan struct{})}
	if err := p.inherit(ctx, s); err != nil {
		client.Close()
		p.closeListener()
		return err
	}
	p.mu.Lock()
	p.wanted = true
	p.mu.Unlock()
	p.install(s)
	return nil
}

func (p *place) inherit(ctx context.Context, s *sidecar) error {
	got, err := s.client.Inherit(ctx)
	if err != nil {
		return err
	}
	defer got.Control.Close()
	defer got.Clients.Close()
	l, err := net.FileListener(got.Clients)
	if err != nil {
		return fmt.Errorf("adopt clients' socket: %w", err)
	}
	listener, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return fmt.Errorf("adopt clients' socket: it is a %T", l)
	}
	p.listener = listener
	stats, err := s.client.Stats(ctx)
	if err != nil {
		return err
	}
	if s.process, err = p.keeper.adoptProcess(stats.PID, p.id); err != nil {
		return err
	}
	s.last = stats
	at := listener.Addr().(*net.TCPAddr).AddrPort()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vip = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	p.learned = got.State.Learned
	if got.State.Config != nil {
		p.config = *got.State.Config
	}
	return nil
}
