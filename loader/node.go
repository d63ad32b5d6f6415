package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"

	"qlbaas/loader/change"
	"qlbaas/loader/hook"
	"qlbaas/loader/pin"
	"qlbaas/loader/plug"
	"qlbaas/loader/rtnl"
	"qlbaas/maps"
)

// Options of Open; the zero value works on an ordinary host.
type Options struct {
	// BPFFS is the directory of all pins; /sys/fs/bpf/qlbaas if empty.
	BPFFS string
	// RunDir is where a second daemon is kept out; /run/qlbaas if empty.
	RunDir string
	// StateDir gets pools/<pool id>/config.json; /var/lib/qlbaas if empty.
	StateDir string
	// Hook is one of the Hook constants; empty means auto: tcx, or clsact where the
	// kernel has no tcx.
	Hook string
	// NoOutside leaves the outside device alone. Else, with hook tcx and the driver
	// linuxbridge, packets of established flows are turned around there, before they come
	// into the pool's namespace.
	NoOutside bool
	// InterfaceDriver is one of package plug's; empty means linuxbridge.
	InterfaceDriver string
	// OVSDB is the socket of Open vSwitch's database; empty means the usual one.
	OVSDB string
	// MemoryBudget is how many bytes all maps together may come to take; 0 means a
	// quarter of the memory.
	MemoryBudget uint64
	// Log gets what no caller is told; nil is silent.
	Log *slog.Logger

	// Spare keeps maps and programs ready for the next pool, which then need not wait until
	// the kernel has verified them.
	Spare bool

	// fault, in tests, is asked before every change of the kernel's or the file
	// system's state and makes it fail.
	fault func(step string) error
	// compiled, in tests, replaces the programs by ones that load faster.
	compiled func() ([families]objects, error)
}

// Node is this machine's data plane: all pools, their namespaces, devices, maps and
// programs. It is safe for concurrent use; operations on one pool take turns, those
// on different pools run side by side.
type Node struct {
	opts    Options
	log     *slog.Logger
	hook    nodeHook
	objects [families]objects
	budget  *budget
	driver  plug.Driver
	run     *dirLock
	// routes configures the network namespace of the daemon.
	routes *netlink.Handle

	// shared are the tables of handshakes by family; those of IPv6 are there once a
	// pool has needed them. sharedMu is held while they are made.
	shared     [families]atomic.Pointer[maps.Node]
	sharedMu   sync.Mutex
	sharedPins *pin.Pins

	// home guards the place of the pins, which can be unmounted.
	home struct {
		sync.Mutex
		lock *dirLock
	}

	mu     sync.Mutex
	pools  map[string]*pool
	closed bool

	spares spares

	sweeps sweeps
	looks  looks

	// background ends the tasks that outlive an operation.
	background context.Context
	stop       context.CancelFunc
	tasks      sync.WaitGroup
}

// nodeHook is where programs are attached.
type nodeHook struct {
	name string
	// tcx is how tc_lb is attached, with XDP too; else it is a clsact filter.
	tcx bool
	// lane stands in front of tc_lb.
	lane lane
}

// errClosed ends operations after Close.
var errClosed = errors.New("node is closed")

// Open takes the node over: it locks run directory and bpffs against a second
// daemon (ErrLocked), probes the kernel (ErrUnsupported) and adopts all pools that
// an earlier daemon has left, without touching what they do. Pins of an unknown
// layout are ErrLayout. The caller must Close the node.
func Open(ctx context.Context, opts Options) (*Node, error) {
	n := &Node{opts: opts.withDefaults(), pools: map[string]*pool{}}
	n.log = n.opts.Log
	n.background, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := n.open(ctx); err != nil {
		n.Close()
		return nil, fmt.Errorf("open node: %w", err)
	}
	return n, nil
}

func (o Options) withDefaults() Options {
	for field, standard := range map[*string]string{
		&o.BPFFS: systemBPFFS + "/qlbaas", &o.RunDir: "/run/qlbaas", &o.StateDir: "/var/lib/qlbaas",
	} {
		if *field == "" {
			*field = standard
		}
	}
	if o.compiled == nil {
		o.compiled = readObjects
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (n *Node) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(n.opts.RunDir, 0o750); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	if n.run, err = lockDir(n.opts.RunDir); err != nil {
		return err
	}
	if err := n.ensureHome(); err != nil {
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	if err := probeKernel(needed()); err != nil {
		return err
	}
	if n.hook.name, n.hook.tcx, err = hook.Choose(n.opts.Hook); err != nil {
		return err
	}
	if n.driver, err = plug.New(n.opts.InterfaceDriver, n.opts.OVSDB, n.hook.name == HookXDP); err != nil {
		return err
	}
	n.hook.lane = n.opts.chooseLane(n.hook)
	if n.routes, err = rtnl.Open(); err != nil {
		return err
	}
	if n.objects, err = n.opts.compiled(); err != nil {
		return err
	}
	if n.budget, err = newBudget(n.opts.MemoryBudget, n.objects); err != nil {
		return err
	}
	if err := n.checkLayouts(); err != nil {
		return err
	}
	if err := n.openShared(); err != nil {
		return err
	}
	return n.adoptAll(ctx)
}

// adoptAll adopts every pool of which something is there. One that cannot be
// adopted does not keep the others waiting: its next Apply says why.
func (n *Node) adoptAll(ctx context.Context) error {
	ids, err := n.Deployed()
	if err != nil {
		return err
	}
	var numbers [families]map[uint32]bool
	for f := range numbers {
		numbers[f] = map[uint32]bool{}
	}
	sound := true
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := n.acquire(id)
		if err != nil {
			return err
		}
		err = n.adopt(p)
		switch {
		case errors.Is(err, errHalfMade):
			n.log.Warn("a pool was half made", "pool", id, "err", err)
		case err != nil:
			sound = false
			p.note(err)
			n.log.Error("a pool cannot be adopted", "pool", id, "err", err)
		}
		numbers[p.family][p.number] = true
		n.release(p)
	}
	if !sound { // whose number it may be is not known
		return nil
	}
	for f := range families {
		if err := n.dropNumbers(f, numbers[f]); err != nil {
			return err
		}
	}
	return nil
}

// handshakes are the family's tables that all pools share; nil before they are made.
func (n *Node) handshakes(f family) *maps.Node { return n.shared[f].Load() }

// Close lets go of everything and leaves the data plane running. It waits for
// operations that are under way.
func (n *Node) Close() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.stop()
	n.tasks.Wait()
	for _, id := range n.known() {
		p := n.enter(id)
		n.letGo(p)
		n.release(p)
	}
	errs := []error{n.closeSpares()}
	for f := range families {
		if shared := n.handshakes(f); shared != nil {
			errs = append(errs, shared.Close())
		}
	}
	if n.routes != nil {
		n.routes.Close()
	}
	for _, lock := range []*dirLock{n.home.lock, n.run} {
		if lock != nil {
			errs = append(errs, lock.Close())
		}
	}
	return errors.Join(errs...)
}

// spawn runs a task that Close waits for; after Close it runs nothing.
func (n *Node) spawn(task func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.tasks.Go(task)
	return true
}

// Deployed returns the ids of all pools of which anything is on this node: pins, a
// namespace, an outside device, a port of a switch. Sorted.
func (n *Node) Deployed() ([]string, error) {
	pinned, err := pinnedPools(n.opts.BPFFS)
	if err != nil {
		return nil, err
	}
	namespaces, err := namespacePools()
	if err != nil {
		return nil, err
	}
	devices, err := rtnl.Dump(n.routes.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	ids := append(pinned, namespaces...)
	for _, d := range devices {
		if id := poolOfAlias(d.Attrs().Alias); id != "" {
			ids = append(ids, id)
		}
	}
	owners, err := n.driver.Owners(n.background)
	if err != nil {
		// It may come later than we do, and what is on this node is known without it.
		n.log.Warn("ports that are left over in a switch are not known", "err", err)
	}
	for _, owner := range owners {
		if id := poolOfAlias(owner); id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Socket opens a socket in the pool's namespace: non-blocking, closed on exec. The
// arguments are those of socket(2). The caller closes it. ErrNotDeployed without
// such a pool.
func (n *Node) Socket(poolID string, domain, typ, proto int) (int, error) {
	p := n.find(poolID)
	if p == nil {
		return -1, fmt.Errorf("open socket in pool %s: %w", poolID, ErrNotDeployed)
	}
	p.data.RLock()
	defer p.data.RUnlock()
	if p.ns == nil {
		return -1, fmt.Errorf("open socket in pool %s: %w", poolID, ErrNotDeployed)
	}
	return p.ns.Socket(domain, typ, proto)
}

// Inside runs fn on a thread that is inside the pool's network namespace, and so are the
// sockets and processes that fn makes. It returns ErrNotDeployed if there is none.
func (n *Node) Inside(poolID string, fn func() error) error {
	p := n.find(poolID)
	if p == nil {
		return fmt.Errorf("enter pool %s: %w", poolID, ErrNotDeployed)
	}
	p.data.RLock()
	defer p.data.RUnlock()
	if p.ns == nil {
		return fmt.Errorf("enter pool %s: %w", poolID, ErrNotDeployed)
	}
	return p.ns.Do(fn)
}

// step is called before every single change of the kernel's or the file system's state.
func (n *Node) step(ctx context.Context, what string) error { return n.steps().Step(ctx, what) }

// undo takes back what a failed operation has begun.
func (n *Node) undo(fn func() error) error { return n.steps().Undo(fn) }

func (n *Node) steps() change.Steps { return change.Steps{Fault: n.opts.fault} }
