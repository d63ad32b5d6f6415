package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"qlbaas/l7/control"
)

// Spaces are the pools' network namespaces. A loader.Node has them.
type Spaces interface {
	// Inside calls fn on a thread inside the pool's namespace.
	Inside(poolID string, fn func() error) error
}

// Options of New. Log and Changed may be nil.
type Options struct {
	Spaces Spaces
	// RunDir gets the directory l7 with the control sockets and logs.
	RunDir string
	// Command is the sidecar's program and its first arguments. The file is opened once
	// and for all.
	Command []string
	// Version of that program, as its sidecars report it.
	Version string
	Log     *slog.Logger
	// Changed is told of pools whose sidecar has retired, or has gone after that, or could
	// not be kept alive, or is alive again. It must not block.
	Changed func(poolID string)
}

// Keeper keeps one sidecar process for each pool that wants one. It is safe for
// concurrent use; operations on one pool take turns.
type Keeper struct {
	options Options
	log     *slog.Logger
	dir     string
	program *os.File
	// clients is how many a sidecar has file descriptors for.
	clients       int64
	rememberEvery time.Duration

	ctx    context.Context
	cancel context.CancelFunc
	// running are the goroutines that end with ctx.
	running sync.WaitGroup

	mu    sync.Mutex
	pools map[string]*place
}

// ErrUnfit says that the sidecar does not stay alive.
var ErrUnfit = errors.New("sidecar does not stay alive")

// New takes over the sidecars that an earlier keeper has left, and watches them from
// then on. The caller must Close the keeper.
func New(ctx context.Context, o Options) (*Keeper, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func(string) {}
	}
	k := &Keeper{options: o, rememberEvery: rememberEvery, log: o.Log, dir: filepath.Join(o.RunDir, "l7"), pools: map[string]*place{}}
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the sidecars' directory: %w", err)
	}
	if err := os.Chmod(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("guard the sidecars' directory: %w", err)
	}
	var err error
	if k.program, err = os.Open(o.Command[0]); err != nil {
		return nil, fmt.Errorf("open the sidecar's program: %w", err)
	}
	if k.clients, err = raiseLimit(); err != nil {
		k.log.Info("sidecars can have fewer clients than usual", "clients", k.clients, "err", err)
	}
	if err := k.adoptAll(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// adoptAll finds what is there already.
func (k *Keeper) adoptAll() error {
	there, err := k.processes()
	if err != nil {
		return err
	}
	sockets, err := filepath.Glob(filepath.Join(k.dir, "*.sock"))
	if err != nil {
		return fmt.Errorf("list control sockets: %w", err)
	}
	for _, path := range sockets {
		id := strings.TrimSuffix(filepath.Base(path), ".sock")
		there[id] = append(there[id], 0)
	}
	var adopting sync.WaitGroup
	for id, pids := range there {
		p := k.place(id)
		adopting.Go(func() { p.adopt(slices.DeleteFunc(pids, func(pid int) bool { return pid == 0 })) })
	}
	adopting.Wait()
	return nil
}

// Close stops watching. The sidecars go on.
func (k *Keeper) Close() {
	k.cancel()
	k.mu.Lock()
	pools := k.pools
	k.pools = map[string]*place{}
	k.mu.Unlock()
	for _, p := range pools {
		p.letGo()
	}
	k.running.Wait()
	_ = k.program.Close() // it was only read
}

func (k *Keeper) path(poolID, kind string) string { return filepath.Join(k.dir, poolID+"."+kind) }

// place returns the pool's entry, a new one if there is none.
func (k *Keeper) place(id string) *place {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pools[id]
	if p == nil {
		p = &place{keeper: k, id: id, leaving: map[*sidecar]bool{}}
		k.pools[id] = p
	}
	return p
}

func (k *Keeper) known(id string) *place {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pools[id]
}

// forget drops an entry that is of no more use.
func (k *Keeper) forget(p *place) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pools[p.id] == p {
		delete(k.pools, p.id)
	}
}

// Ensure makes the pool have a sidecar of this keeper's version that listens on vip and
// is configured as c says. c's generation does not matter. The pool's namespace must be
// there, the address need not.
func (k *Keeper) Ensure(ctx context.Context, poolID string, vip netip.AddrPort, c control.Config) error {
	if err := c.Pool.Validate(); err != nil {
		return fmt.Errorf("configure sidecar of pool %s: %w", poolID, err)
	}
	if err := k.ctx.Err(); err != nil {
		return fmt.Errorf("keep sidecar of pool %s: %w", poolID, err)
	}
	if c.Limits.Connections < 0 || c.Limits.Connections > k.clients {
		c.Limits.Connections = k.clients // the others wait
	}
	if err := k.place(poolID).ensure(ctx, vip, c); err != nil {
		return fmt.Errorf("keep sidecar of pool %s: %w", poolID, err)
	}
	return nil
}

// SetMemberUp tells the sidecar, if there is one, of a member's liveness.
func (k *Keeper) SetMemberUp(poolID, memberID string, up bool) error {
	if p := k.known(poolID); p != nil {
		return p.setUp(memberID, up)
	}
	return nil
}

// Stats is what the pool's sidecars have counted that was not settled; ok is false where
// there is none, nor was.
func (k *Keeper) Stats(poolID string) (s control.Stats, ok bool) {
	p := k.known(poolID)
	if p == nil {
		return s, false
	}
	p.refresh()
	return p.stats()
}

// Settle says that these counters, which came from Stats, were added to what the caller
// keeps: Stats begins behind them. Their levels do not matter. Not for pools with a
// sidecar that serves: the next keeper would find these counters there again.
func (k *Keeper) Settle(poolID string, s control.Stats) {
	if p := k.known(poolID); p != nil && p.settle(s) {
		k.forget(p)
	}
}

// State tells whether the pool has a sidecar that serves new clients, until it has really
// retired, and whether it has any that only finish with their last ones.
func (k *Keeper) State(poolID string) (serving, leaving bool) {
	p := k.known(poolID)
	if p == nil {
		return false, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current != nil, len(p.leaving) > 0
}

// Pools lists the pools that have or had a sidecar, sorted.
func (k *Keeper) Pools() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := make([]string, 0, len(k.pools))
	for id := range k.pools {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Info is a pool's sidecar as an operator wants to see it.
type Info struct {
	// PID is 0 while there is no process.
	PID     int
	Version string
	// Restarts counts how often this keeper had to start it anew.
	Restarts uint64
	// Err is why there is none, though there should be.
	Err error
}

// Info tells of the sidecar that serves; ok is false where none is wanted.
func (k *Keeper) Info(poolID string) (info Info, ok bool) {
	p := k.known(poolID)
	if p == nil {
		return info, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	info = Info{Restarts: p.restarts, Err: p.err}
	if s := p.current; s != nil {
		info.PID, info.Version = s.process.pid, s.last.Version
	}
	return info, p.wanted
}

// Process is the short form of Info.
func (k *Keeper) Process(poolID string) (pid int, restarts uint64, ok bool) {
	info, ok := k.Info(poolID)
	return info.PID, info.Restarts, ok
}

// Retire lets the pool's sidecar go once its clients are done. Nothing must lead new
// connections to it any more; those that wait to be accepted are still served. Changed
// tells when all of the pool's sidecars have gone.
func (k *Keeper) Retire(poolID string) {
	if p := k.known(poolID); p != nil {
		p.retire()
	}
}

// Remove ends all of the pool's sidecars now, whatever their clients do, and forgets what
// they counted.
func (k *Keeper) Remove(ctx context.Context, poolID string) error {
	p := k.known(poolID)
	if p == nil {
		return nil
	}
	if err := p.remove(ctx); err != nil {
		return fmt.Errorf("remove sidecar of pool %s: %w", poolID, err)
	}
	k.forget(p)
	return nil
}
