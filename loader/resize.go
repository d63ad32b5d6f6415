package loader

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
)

// A flow table has the size that it was made with. Another limit means another
// table, to which the connections move while they go on. For that time, some ten
// milliseconds and about 2 µs per connection, no new connections are let in: their
// SYNs are dropped as over a connection limit, and come again a second later. Else a
// connection that is opened between two looks at the old table would be reset.
//
// What a daemon that dies in the middle leaves is a pool that works on one of the
// tables and lets no new connections in until the next daemon has applied it.

// ensureFlowTable changes the size of the flow table if the limit wants that. A limit
// below the connections that there are holds for new ones at once, and the table
// changes when they fit.
func (n *Node) ensureFlowTable(ctx context.Context, p *pool, b *Balancer, w wiring) error {
	connections, err := flowsToHold(p.view, b)
	if err != nil || maps.FlowEntries(connections) == p.view.Maps().Flows.MaxEntries() {
		return err
	}
	if err := n.step(ctx, "change size of flow table"); err != nil {
		return err
	}
	n.sweeps.Lock()
	defer n.sweeps.Unlock()
	p.build.Lock()
	defer p.build.Unlock()
	open := p.active
	err = n.moveFlows(ctx, p, w, connections)
	// Whatever came of it: new connections are let in again.
	return errors.Join(err, n.undo(func() error { return p.rewrite(open) }))
}

// flowsToHold is for how many connections the table is to be: the limit, or what the
// table holds now if the connections that there are would not fit.
func flowsToHold(view *maps.Pool, b *Balancer) (uint32, error) {
	limit, holds := b.flowLimit(), view.Maps().Flows.MaxEntries()/maps.FlowEntries(1)
	if limit >= holds {
		return limit, nil
	}
	used, err := view.FlowsUsed()
	if err != nil || used > limit {
		return holds, err
	}
	return limit, nil
}

// rewrite makes a generation the active one again under the next number.
func (p *pool) rewrite(gen maps.Generation) error {
	gen.Number = p.active.Number + 1
	made, err := p.view.Write(gen)
	if err != nil {
		return err
	}
	p.publish(p.members, gen)
	return p.pinInner(made)
}

// moveFlows does the work while nobody opens, expires or rebuilds.
func (n *Node) moveFlows(ctx context.Context, p *pool, w wiring, limit uint32) error {
	closed := p.active
	closed.VIP.ConnectionLimit = 0
	if err := p.rewrite(closed); err != nil {
		return err
	}
	spec := n.objects[p.family].tc.Maps["flows"].Copy()
	spec.MaxEntries = maps.FlowEntries(limit)
	table, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("make flow table: %w", err)
	}
	if err := p.view.CopyFlows(table); err != nil {
		return errors.Join(err, table.Close())
	}
	own := p.view.Maps()
	own.Flows = table
	var former *ebpf.Map
	old, err := n.exchange(ctx, p, w, own, func() { former = p.view.ReplaceFlows(table) })
	if old == nil {
		return errors.Join(err, table.Close())
	}
	// Writing waits until the last packet has left the old programs.
	err = errors.Join(err, p.rewrite(closed))
	if err == nil {
		err = p.view.SettleFlows(former)
	}
	return errors.Join(err, former.Close(), old.Close())
}

// exchange attaches programs that work on other tables in place of those that there are,
// which it returns; replace makes these tables the pool's. After an error all is as
// before; but if old programs come with it, only the timer is not handed over yet.
func (n *Node) exchange(
	ctx context.Context, p *pool, w wiring, own maps.PoolMaps, replace func(),
) (old *programs, _ error) {
	fresh, err := n.loadAll(p.family, p.number, w.inside.Attrs().HardwareAddr, own)
	if err != nil {
		return nil, err
	}
	old = p.loaded()
	if err := n.ensureAttached(ctx, p, fresh, w); err != nil {
		back := n.undo(func() error { return n.ensureAttached(context.WithoutCancel(ctx), p, old, w) })
		return nil, errors.Join(err, back, fresh.Close())
	}
	p.data.Lock()
	replace()
	p.programs = fresh
	p.data.Unlock()
	// At once: to the old programs, whose table may be another, connections from now on
	// would be ports of nobody.
	return old, p.startExpiry(fresh)
}

// growSources makes room for more source addresses: another outer map for the ports,
// with the same inner maps in it. Both work alike, so nothing has to be moved, and no
// connection notices.
func (n *Node) growSources(ctx context.Context, p *pool, w wiring, room uint16) error {
	p.build.Lock()
	defer p.build.Unlock()
	spec := n.objects[p.family].tc.Maps["member_states"].Copy()
	spec.MaxEntries = maps.StateEntries(uint32(room))
	table, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("make table of ports: %w", err)
	}
	if err := p.view.CopyStates(table); err != nil {
		return errors.Join(err, table.Close())
	}
	own := p.view.Maps()
	own.MemberStates = table
	var former *ebpf.Map
	old, err := n.exchange(ctx, p, w, own, func() { former = p.view.ReplaceStates(table) })
	if old == nil {
		return errors.Join(err, table.Close())
	}
	return errors.Join(err, former.Close(), old.Close())
}

// loadAll loads what the node's hook needs.
func (n *Node) loadAll(f family, number uint32, mac net.HardwareAddr, own maps.PoolMaps) (*programs, error) {
	ps, err := n.loadTC(f, number, own)
	if err != nil {
		return nil, err
	}
	if err := n.loadLane(f, number, [6]byte(mac), own, ps); err != nil {
		return nil, errors.Join(err, ps.Close())
	}
	return ps, nil
}
