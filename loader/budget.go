package loader

import (
	"fmt"
	"math"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"qlbaas/maps"
)

// budget accounts for the memory that maps take when they are full. It is checked
// when a pool is made, because a table that cannot be filled would be noticed only
// under load, in the middle of some insert.
type budget struct {
	specs [families]*ebpf.CollectionSpec
	limit uint64
	// node is what the shared maps of a family take once they are there.
	node [families]uint64

	mu     sync.Mutex
	shared [families]bool
	pools  map[string]uint64
}

// newBudget takes a quarter of the memory for a limit of 0.
func newBudget(limit uint64, objects [families]objects) (*budget, error) {
	if limit == 0 {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			return nil, fmt.Errorf("read size of memory: %w", err)
		}
		limit = info.Totalram * uint64(info.Unit) / 4
	}
	g := &budget{limit: limit, pools: map[string]uint64{}}
	for f := range families {
		shared, err := maps.NodeCost(objects[f].tc)
		if err != nil {
			return nil, err
		}
		g.specs[f], g.node[f] = objects[f].tc, total(shared)
	}
	return g, nil
}

// addShared accounts for the shared maps of a family.
func (g *budget) addShared(f family) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shared[f] = true
}

func total(tables []maps.TableCost) (bytes uint64) {
	for _, t := range tables {
		bytes += t.Bytes
	}
	return bytes
}

func (g *budget) used() uint64 {
	var bytes uint64
	for f, there := range g.shared {
		if there {
			bytes += g.node[f]
		}
	}
	for _, b := range g.pools {
		bytes += b
	}
	return bytes
}

// charge accounts for a pool's maps in place of what it was charged before. More
// than what is left is ErrOverBudget; what a pool has already is never refused.
func (g *budget) charge(poolID string, f family, limits maps.Limits) error {
	return g.account(poolID, f, limits, true, true)
}

// adopt accounts for maps that are there, whatever the limit says.
func (g *budget) adopt(poolID string, f family, limits maps.Limits) error {
	return g.account(poolID, f, limits, false, true)
}

// admit is charge without accounting.
func (g *budget) admit(poolID string, f family, limits maps.Limits) error {
	return g.account(poolID, f, limits, true, false)
}

func (g *budget) account(poolID string, f family, limits maps.Limits, check, keep bool) error {
	tables, err := maps.PoolCost(g.specs[f], limits)
	if err != nil {
		return err
	}
	needs := total(tables)
	g.mu.Lock()
	defer g.mu.Unlock()
	has := g.pools[poolID]
	others := g.used() - has
	if !g.shared[f] {
		others += g.node[f] // they come with the pool
	}
	if check && needs > has && others+needs > g.limit {
		left := uint64(0)
		if g.limit > others {
			left = g.limit - others
		}
		return fmt.Errorf("%w: table %s takes %s, all tables %s, and %s of %s are left", ErrOverBudget,
			tables[0].Name, size(tables[0].Bytes), size(needs), size(left), size(g.limit))
	}
	if keep {
		g.pools[poolID] = needs
	}
	return nil
}

// release forgets a pool.
func (g *budget) release(poolID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pools, poolID)
}

func (g *budget) of(poolID string) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pools[poolID]
}

// size writes bytes for people.
func size(bytes uint64) string {
	const unit = 1024
	switch {
	case bytes < 10*unit:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 10*unit*unit:
		return fmt.Sprintf("%d KiB", bytes/unit)
	default:
		return fmt.Sprintf("%d MiB", bytes/unit/unit)
	}
}

// limitsOf is what an adopted pool may come to hold.
func limitsOf(view *maps.Pool, active maps.Generation) maps.Limits {
	own := view.Maps()
	limits := maps.Limits{
		Flows: own.Flows.MaxEntries() / maps.FlowEntries(1), Slots: len(active.Members), Schedule: len(active.Schedule),
	}
	limits.Sources = int(view.Sources())
	if active.VIP.Affinity {
		limits.Affinity = affinityEntries
	}
	return limits
}

// limitsFor is what a pool may come to hold once the balancer is applied; draining
// members come on top of the wanted ones.
func limitsFor(b *Balancer, draining int) maps.Limits {
	members := make([]*member, len(b.Members))
	up := make([]maps.Health, len(b.Members))
	for i, m := range b.Members {
		members[i] = &member{slot: uint16(i), id: m.ID, weight: m.Weight, present: true, configured: true}
		up[i].Up = true
	}
	limits := maps.Limits{
		Flows: min(b.flowLimit(), math.MaxUint32/maps.FlowEntries(1)), Slots: len(members) + draining,
		Schedule: len(makeGeneration(b, maps.Sources{}, members, up, 0).Schedule), Sources: int(sourcesRoom(1 + len(b.SNAT))),
	}
	if b.VIP.Persistence == SourceIPPersistence {
		limits.Affinity = affinityEntries
	}
	return limits
}

// Budget returns the node's memory budget for maps and what of it is promised to
// tables, full or not.
func (n *Node) Budget() BudgetStatus {
	n.budget.mu.Lock()
	defer n.budget.mu.Unlock()
	return BudgetStatus{Used: n.budget.used(), Limit: n.budget.limit}
}

// Admit returns ErrOverBudget if Apply would; it promises nothing. It looks at the
// fields that decide about memory only: the VIP's Address for its family, FlowLimit,
// Persistence, SNAT and Members.
func (n *Node) Admit(b Balancer) error {
	if err := n.budget.admit(b.PoolID, b.family(), limitsFor(&b, 0)); err != nil {
		return fmt.Errorf("admit pool %s: %w", b.PoolID, err)
	}
	return nil
}
