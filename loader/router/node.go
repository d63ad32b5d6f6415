package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	stdmaps "maps"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"

	"qlbaas/bpf"
	"qlbaas/loader/change"
	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/loader/pin"
	"qlbaas/loader/plug"
	"qlbaas/loader/rtnl"
)

// Options of Open; the zero value works on an ordinary host.
type Options struct {
	// BPFFS is the directory of all pins, the loader's own; /sys/fs/bpf/qlbaas if empty.
	BPFFS string
	// Hook is one of the loader's Hook constants; empty means auto.
	Hook string
	// InterfaceDriver and OVSDB are the loader's own.
	InterfaceDriver, OVSDB string
	// Log gets what no caller is told; nil is silent.
	Log *slog.Logger

	// fault, in tests, is asked before every change and makes it fail.
	fault func(step string) error
}

// Node is all routers of this machine. It is safe for concurrent use; operations on one
// router take turns, those on different routers run side by side.
type Node struct {
	opts Options
	log  *slog.Logger
	// hook is where programs are attached; tcx is how tc_fip is, with XDP too.
	hook   string
	tcx    bool
	driver plug.Driver

	tc, xdp *ebpf.CollectionSpec
	build   string
	// routes configures the network namespace of the daemon.
	routes *netlink.Handle

	mu      sync.Mutex
	routers map[string]*router
	closed  bool
	// looked is the router that Refresh looked at last.
	looked string

	// background ends the tasks that outlive an operation.
	background context.Context
	stop       context.CancelFunc
	tasks      sync.WaitGroup
}

// errClosed ends operations after Close.
var errClosed = errors.New("node is closed")

// Open adopts all routers that an earlier daemon has left, without touching what they
// do. The caller holds the node's lock (loader.Open) and must Close the node before. Pins of
// an unknown layout are ErrLayout.
func Open(ctx context.Context, opts Options) (*Node, error) {
	if opts.BPFFS == "" {
		opts.BPFFS = "/sys/fs/bpf/qlbaas"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{opts: opts, log: opts.Log, routers: map[string]*router{}}
	n.background, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := n.open(ctx); err != nil {
		n.Close()
		return nil, fmt.Errorf("open routers: %w", err)
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) (err error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	if n.hook, n.tcx, err = hook.Choose(n.opts.Hook); err != nil {
		return err
	}
	if n.driver, err = plug.New(n.opts.InterfaceDriver, n.opts.OVSDB, n.hook == hook.NameXDP); err != nil {
		return err
	}
	if n.tc, err = bpf.LoadFip4(); err != nil {
		return fmt.Errorf("read embedded programs: %w", err)
	}
	if n.xdp, err = bpf.LoadXdpFip4(); err != nil {
		return fmt.Errorf("read embedded programs: %w", err)
	}
	hook.ForgetLines(n.tc, n.xdp)
	n.build = hook.Build(n.tc, n.xdp)
	if n.routes, err = rtnl.Open(); err != nil {
		return err
	}
	if err := n.checkLayouts(); err != nil {
		return err
	}
	return n.adoptAll(ctx)
}

// Close lets go of everything and leaves the routers running. It waits for operations that
// are under way.
func (n *Node) Close() error {
	n.mu.Lock()
	n.closed = true
	all := make([]*router, 0, len(n.routers))
	for _, r := range n.routers {
		all = append(all, r)
	}
	n.mu.Unlock()
	n.stop()
	n.tasks.Wait()
	for _, r := range all {
		r.operation.Lock()
		r.letGo()
		r.operation.Unlock()
	}
	if n.routes != nil {
		n.routes.Close()
	}
	return nil
}

// acquire returns the router's record with its operation lock held; the caller must
// release it.
func (n *Node) acquire(id string) (*router, error) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, errClosed
	}
	r := n.routers[id]
	if r == nil {
		r = newRouter(id, n.log, pinsDir(n.opts.BPFFS, id))
		n.routers[id] = r
	}
	r.users++
	n.mu.Unlock()
	r.operation.Lock()
	return r, nil
}

// release ends an operation and forgets a router that is not there.
func (n *Node) release(r *router) {
	gone := r.ns == nil && r.tables == nil
	r.operation.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	r.users--
	if gone && r.users == 0 {
		delete(n.routers, r.id)
	}
}

func (n *Node) find(id string) *router {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.routers[id]
}

// Deployed returns the ids of all routers of which anything is on this node, sorted.
func (n *Node) Deployed() ([]string, error) {
	ids, err := n.pinned()
	if err != nil {
		return nil, err
	}
	names, err := netspace.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		ids = append(ids, routerAfter(name, namespacePrefix))
	}
	devices, err := rtnl.Dump(n.routes.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, d := range devices {
		ids = append(ids, routerAfter(d.Attrs().Alias, aliasPrefix))
	}
	owners, err := n.driver.Owners(n.background)
	if err != nil {
		n.log.Warn("ports that are left over in a switch are not known", "err", err)
	}
	for _, owner := range owners {
		ids = append(ids, routerAfter(owner, aliasPrefix))
	}
	slices.Sort(ids)
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == "" })
	return slices.Compact(ids), nil
}

// pinned lists the routers that have pins, of whatever layout.
func (n *Node) pinned() ([]string, error) {
	names, err := pin.Names(routersDir(n.opts.BPFFS))
	return slices.DeleteFunc(names, func(name string) bool { return !isUUID(name) }), err
}

// lookTime bounds one Refresh.
const lookTime = 100 * time.Millisecond

// Refresh compares routers with what was applied to them and returns the ids of those
// that differ and need Apply. It looks at some routers per call, those that were not looked
// at for longest; those that an operation is at work on are left to it.
func (n *Node) Refresh(ctx context.Context) (drifted []string, err error) {
	end := time.Now().Add(lookTime)
	for _, r := range n.inTurn() {
		if err := ctx.Err(); err != nil {
			return drifted, fmt.Errorf("refresh routers: %w", err)
		}
		if n.differs(ctx, r) {
			drifted = append(drifted, r.id)
		}
		n.mu.Lock()
		n.looked = r.id
		n.mu.Unlock()
		if time.Now().After(end) {
			break
		}
	}
	return drifted, nil
}

// inTurn returns all routers by id, those first that come after the one looked at last.
func (n *Node) inTurn() []*router {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.SortedFunc(stdmaps.Values(n.routers), func(a, b *router) int { return cmp.Compare(a.id, b.id) })
	at := slices.IndexFunc(all, func(r *router) bool { return r.id > n.looked })
	if at < 0 {
		return all
	}
	return append(slices.Clone(all[at:]), all[:at]...)
}

func (n *Node) differs(ctx context.Context, r *router) bool {
	if !r.operation.TryLock() {
		return false
	}
	defer r.operation.Unlock()
	if r.wanted == nil {
		return false
	}
	err := n.ensureAll(change.DryRun(ctx), r, r.wanted)
	var drift change.Drift
	switch {
	case errors.As(err, &drift):
		r.log.Info("the router is not as wanted", "mend", drift.Change)
	case err != nil:
		r.log.Info("the router cannot be compared with what is wanted", "err", err)
	}
	return err != nil
}

func (n *Node) steps() change.Steps { return change.Steps{Fault: n.opts.fault} }

func (n *Node) step(ctx context.Context, what string) error { return n.steps().Step(ctx, what) }

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
