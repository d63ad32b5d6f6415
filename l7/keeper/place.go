package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"qlbaas/l7/control"
	"qlbaas/l7/cookie"
)

// place is one pool's sidecars: the one that serves, and those that only finish.
type place struct {
	keeper *Keeper
	id     string

	// op is held by whoever starts, replaces or ends a sidecar.
	op       sync.Mutex
	listener *net.TCPListener // for clients; guarded by op
	// talk is held during a question to the sidecar that serves, so that the order of
	// changes is the same there and here.
	talk sync.Mutex

	mu     sync.Mutex // guards what follows
	vip    netip.AddrPort
	config control.Config
	// wanted is true from Ensure until the sidecar has retired.
	wanted, retiring bool
	current          *sidecar
	leaving          map[*sidecar]bool
	learned          []cookie.Record // as of the last look
	// past was counted by sidecars that are gone, settled is what nobody needs here.
	past, settled control.Stats
	restarts      uint64
	falls         falls
	err           error
}

// sidecar is a process and the connection to it.
type sidecar struct {
	process *process
	client  *control.Client
	last    control.Stats // guarded by the pool's mu
	broken  error         // of the connection; guarded by the pool's talk
	// left is closed when it is no longer the one that serves.
	left chan struct{}
}

const (
	// silence is how long a sidecar may take to answer.
	silence = 500 * time.Millisecond
	// slowness is how much longer it may take where the machine is slow.
	slowness = 3 * time.Second
	// startTime bounds a start.
	startTime = 10 * time.Second
	// farewell is how long a sidecar that is to end at once may take to finish answers.
	farewell = 500 * time.Millisecond
)

func (p *place) ensure(ctx context.Context, vip netip.AddrPort, c control.Config) error {
	p.op.Lock()
	defer p.op.Unlock()
	astray, err := p.astray()
	if err != nil {
		return err
	}
	if astray {
		p.keeper.log.Warn("sidecar is outside of its pool's namespace, and is replaced", "pool", p.id)
	}
	p.mu.Lock()
	moved := p.vip.IsValid() && p.vip != vip
	p.wanted, p.retiring = true, false
	p.mu.Unlock()
	if moved || astray {
		if err := p.endAll(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.vip = vip
	current, version := p.current, ""
	if current != nil {
		version = current.last.Version
	}
	p.mu.Unlock()
	if current == nil || current.process.gone() {
		return p.begin(ctx, c)
	}
	if err := p.apply(ctx, c); err != nil {
		return err
	}
	if version != p.keeper.options.Version {
		return p.succeed(ctx)
	}
	return nil
}

// begin starts a sidecar where there is none, unless the last ones did not last.
func (p *place) begin(ctx context.Context, c control.Config) error {
	p.mu.Lock()
	c.Generation = p.config.Generation + 1
	p.config = c
	pause, err := p.falls.pause(time.Now()), p.err
	p.mu.Unlock()
	if pause <= 0 || err == nil {
		err = p.start(ctx)
	}
	if err != nil {
		p.mu.Lock()
		p.wanted = p.current != nil // nobody looks after one that never was
		p.mu.Unlock()
	}
	return err
}

// apply configures the sidecar that serves if it is not as it should be.
func (p *place) apply(ctx context.Context, c control.Config) error {
	p.talk.Lock()
	defer p.talk.Unlock()
	p.mu.Lock()
	current := p.current
	c.Generation = p.config.Generation
	same := reflect.DeepEqual(c, p.config)
	p.mu.Unlock()
	if same || current == nil {
		return nil
	}
	c.Generation++
	// Not broken off: the answer to a question must be read.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slowness)
	defer cancel()
	if current.broken != nil {
		return current.broken
	}
	if err := current.client.Apply(ctx, c); err != nil {
		if !errors.Is(err, control.ErrRefused) {
			current.spoil(err)
		}
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config = c
	return nil
}

func (p *place) setUp(member string, up bool) error {
	p.talk.Lock()
	defer p.talk.Unlock()
	p.mu.Lock()
	members := slices.Clone(p.config.Pool.Members) // others may hold the old ones
	found := false
	for i := range members {
		if members[i].ID == member {
			members[i].Up, found = up, true
		}
	}
	p.config.Pool.Members = members
	current := p.current
	p.mu.Unlock()
	if !found || current == nil || current.process.gone() || current.broken != nil {
		return nil // the next one is started with it
	}
	ctx, cancel := context.WithTimeout(p.keeper.ctx, silence)
	defer cancel()
	err := current.client.SetUp(ctx, member, up)
	if errors.Is(err, control.ErrRefused) {
		return fmt.Errorf("set liveness of member %s: %w", member, err)
	}
	if err != nil {
		current.spoil(err) // whoever watches replaces it
	}
	return nil
}

// start starts a sidecar that begins where the last one ended. op is held.
func (p *place) start(ctx context.Context) error {
	if err := p.listen(); err != nil {
		return err
	}
	k := p.keeper
	ctl, err := listenUnix(k.path(p.id, "sock"))
	if err != nil {
		return err
	}
	defer ctl.Close() // the sidecar has it
	p.mu.Lock()
	config := p.config
	state := control.State{Config: &config, Learned: p.learned, Stats: p.before()}
	p.mu.Unlock()
	estate, predecessor, err := k.leave(p, state, ctl)
	if err != nil {
		return err
	}
	defer estate.end()
	s, err := p.launch(ctx, predecessor)
	if err != nil {
		return err
	}
	p.install(s)
	estate.settle()
	return nil
}

// before is what the sidecar that is to be replaced has counted, or nothing. mu is held.
func (p *place) before() control.Stats {
	if p.current == nil {
		return control.Stats{}
	}
	return p.current.last
}

// succeed replaces the sidecar by one of this program. op is held.
func (p *place) succeed(ctx context.Context) error {
	k := p.keeper
	predecessor, err := connection(k.path(p.id, "sock"))
	if err != nil {
		return err
	}
	s, err := p.launch(ctx, predecessor)
	if err != nil {
		return fmt.Errorf("hand over to version %s: %w", k.options.Version, err)
	}
	k.log.Info("sidecar has a successor", "pool", p.id, "pid", s.process.pid, "version", k.options.Version)
	p.mu.Lock()
	old := p.current
	p.mu.Unlock()
	p.install(s)
	p.accompany(old.process) // its counters are the successor's
	return nil
}

// install makes s the one that serves, and watches it.
func (p *place) install(s *sidecar) {
	p.talk.Lock()
	p.mu.Lock()
	old := p.current
	p.current, p.err = s, nil
	p.falls.born = time.Now()
	p.mu.Unlock()
	p.talk.Unlock()
	if old != nil {
		close(old.left)
		_ = old.client.Close() // it has nothing more to say here
	}
	p.keeper.running.Go(func() { p.watch(s) })
}

// launch starts a process behind a predecessor and waits until it answers.
func (p *place) launch(ctx context.Context, predecessor *os.File) (*sidecar, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	k := p.keeper
	p.mu.Lock()
	from := p.vip.Addr().String()
	p.mu.Unlock()
	proc, err := k.spawn(p, from, predecessor)
	if err != nil {
		return nil, err
	}
	go func() {
		select {
		case <-proc.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	s := &sidecar{process: proc, left: make(chan struct{})}
	if s.client, s.last, err = k.meet(ctx, p.id, proc.pid); err == nil {
		return s, nil
	}
	if proc.gone() {
		return nil, fmt.Errorf("start sidecar: it has ended: %s", lastLine(k.path(p.id, "log")))
	}
	return nil, errors.Join(fmt.Errorf("start sidecar: %w", err), proc.kill())
}

// meet connects to the sidecar with this process id: its predecessor may still answer at
// the same socket.
func (k *Keeper) meet(ctx context.Context, poolID string, pid int) (*control.Client, control.Stats, error) {
	for {
		client, err := control.Dial(ctx, k.path(poolID, "sock"))
		if err == nil {
			stats, err := client.Stats(ctx)
			if err == nil && stats.PID == pid {
				return client, stats, nil
			}
			_ = client.Close() // it was another's
		}
		select {
		case <-ctx.Done():
			return nil, control.Stats{}, errors.Join(ctx.Err(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
