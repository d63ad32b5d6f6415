package loader

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"qlbaas/loader/netspace"
	"qlbaas/loader/pin"
	"qlbaas/maps"
)

// pool is what the daemon holds of one pool. Nothing in it is needed to find the
// pool again after a restart: that is all in the kernel.
//
// Locks are taken in this order: operation, build, data.
type pool struct {
	id  string
	log *slog.Logger

	// users counts who holds or waits for the operation lock; guarded by Node.mu.
	users int

	// operation is held by Apply, Remove and whatever else changes the pool as a
	// whole; it may take seconds.
	operation sync.Mutex
	// complete says that the pool was wholly there once, so that a failing Apply
	// leaves it for the next one instead of taking it away.
	complete bool
	pins     *pin.Pins
	attached attachments
	// family is that of the maps, read with the data lock or the operation lock held.
	family family
	// number is the pool's in the node's table of handshakes, 0 before it has one.
	number uint32
	// prepared are programs that came with the maps and wait to be pinned.
	prepared *programs
	// announce is set by what makes the network forget where the VIP is.
	announce bool
	// timer is the program that the pool's expiry timer was handed to.
	timer *ebpf.Program
	// quiet ends announcements that are still to come.
	quiet func()

	// build is held while a generation is made and written, some 20 ms; it guards
	// what generations are made from.
	build sync.Mutex
	// wanted is the balancer as of the last Apply; nil after a restart.
	wanted *Balancer
	// leaving says that the next generation leaves out the source addresses that close.
	leaving bool
	// dirty says that a verdict waits to get into a generation.
	dirty atomic.Bool
	// verdicts counts changes of liveness; compared is how many a look for drift has
	// seen, guarded by data.
	verdicts atomic.Uint64
	compared uint64

	// data is held for moments. It guards what verdicts, statistics and the expiry
	// look at while a long operation runs.
	data     sync.RWMutex
	ns       *netspace.Namespace // written with the operation lock held as well
	view     *maps.Pool          // likewise; nil: not deployed
	programs *programs           // likewise
	// members by slot, and the configured ones by id. Both are replaced, never
	// changed.
	members []*member
	byID    map[string]*member
	// active is the generation that was written last.
	active maps.Generation
	facts  facts

	aside aside
}

// aside keeps the monitors' verdicts that programs are not told: of members that are
// admin-down or drain. To programs such a member is down, whatever its monitor says,
// so that they choose another one for its UDP flows; TCP flows do not ask. After a
// restart those members count as up again, as new ones do.
type aside struct {
	sync.Mutex
	down map[uint32]bool // by serial
}

func (a *aside) set(serial uint32, down bool) {
	a.Lock()
	defer a.Unlock()
	if a.down == nil {
		a.down = map[uint32]bool{}
	}
	if down {
		a.down[serial] = true
	} else {
		delete(a.down, serial)
	}
}

func (a *aside) get(serial uint32) (down bool) {
	a.Lock()
	defer a.Unlock()
	return a.down[serial]
}

// keep forgets members that are gone.
func (a *aside) keep(members []*member) {
	a.Lock()
	defer a.Unlock()
	for serial := range a.down {
		if !slices.ContainsFunc(members, func(m *member) bool { return m.serial == serial }) {
			delete(a.down, serial)
		}
	}
}

// facts are the parts of PoolStatus that cannot be read from the maps.
type facts struct {
	device, hook, tag string
	// failure is why the last Apply failed, alarm what is odd about a pool that is
	// as wanted otherwise.
	failure, alarm string
}

func newPool(id string, log *slog.Logger, dir string) *pool {
	return &pool{id: id, log: log.With("pool", id), pins: pin.New(dir), quiet: func() {}}
}

// acquire returns the pool with its operation lock held, making a record for one
// that is not known. The caller must release it. After Close it returns errClosed.
func (n *Node) acquire(id string) (*pool, error) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, errClosed
	}
	p := n.record(id)
	n.mu.Unlock()
	p.operation.Lock()
	return p, nil
}

// enter is acquire for Close itself.
func (n *Node) enter(id string) *pool {
	n.mu.Lock()
	p := n.record(id)
	n.mu.Unlock()
	p.operation.Lock()
	return p
}

// record returns the pool's record as one more user's.
func (n *Node) record(id string) *pool {
	p := n.pools[id]
	if p == nil {
		p = newPool(id, n.log, poolPins(n.opts.BPFFS, id))
		n.pools[id] = p
	}
	p.users++
	return p
}

// release ends an operation and forgets a pool that is not there.
func (n *Node) release(p *pool) {
	gone := !p.complete && p.ns == nil && p.view == nil
	p.operation.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	p.users--
	if gone && p.users == 0 {
		delete(n.pools, p.id)
	}
}

// find returns a pool without waiting for operations, or nil.
func (n *Node) find(id string) *pool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pools[id]
}

// known returns the ids of all pools that have a record.
func (n *Node) known() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := make([]string, 0, len(n.pools))
	for id := range n.pools {
		ids = append(ids, id)
	}
	return ids
}

// deployed returns the view of the pool's maps, or nil.
func (p *pool) deployed() *maps.Pool {
	p.data.RLock()
	defer p.data.RUnlock()
	return p.view
}

// loaded returns the pool's programs, or nil.
func (p *pool) loaded() *programs {
	p.data.RLock()
	defer p.data.RUnlock()
	return p.programs
}

// publish replaces what readers know of the members and their generation.
func (p *pool) publish(members []*member, active maps.Generation) {
	byID := make(map[string]*member, len(members))
	for _, m := range members {
		if m.configured {
			byID[m.id] = m
		}
	}
	p.data.Lock()
	defer p.data.Unlock()
	p.members, p.byID, p.active = members, byID, active
}

// note keeps the outcome of an operation for PoolStatus.
func (p *pool) note(err error) {
	p.data.Lock()
	defer p.data.Unlock()
	p.facts.failure = ""
	if err != nil {
		p.facts.failure = err.Error()
	}
}

// ensureNamespace opens the pool's namespace, makes it if it is not there, and gives it back
// the name that it may have lost.
func (n *Node) ensureNamespace(ctx context.Context, p *pool) error {
	if p.ns != nil {
		return p.ns.Rename(ctx, n.steps())
	}
	ns, err := netspace.Ensure(ctx, n.steps(), namespaceName(p.id))
	if err != nil {
		return err
	}
	p.setNamespace(ns)
	return nil
}

func (p *pool) setNamespace(ns *netspace.Namespace) {
	p.data.Lock()
	defer p.data.Unlock()
	p.ns = ns
}
