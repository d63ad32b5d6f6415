package loader

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"qlbaas/loader/device"
	"qlbaas/loader/hook"
)

// Apply makes the pool on this node look as b says: whole, in an order in which
// nothing ever answers wrongly, changing only what differs. Programs see the new
// configuration as one. It can be repeated, also after a crash in the middle; a pool
// that was not there before is taken away again when it fails, one that was keeps
// working as far as it does. Errors are ErrInvalid, ErrOverBudget, or what the
// kernel says.
func (n *Node) Apply(ctx context.Context, b Balancer) error {
	err := b.validate()
	if err == nil {
		err = n.admitsVLAN(b.VIP.VLAN)
	}
	if err != nil {
		return fmt.Errorf("apply pool: %w", err)
	}
	b.Members, b.VIP.MAC, b.SNAT = slices.Clone(b.Members), slices.Clone(b.VIP.MAC), slices.Clone(b.SNAT)
	p, err := n.acquire(b.PoolID)
	if err != nil {
		return fmt.Errorf("apply pool %s: %w", b.PoolID, err)
	}
	defer n.release(p)
	if err := n.apply(ctx, p, &b); err != nil {
		err = fmt.Errorf("apply pool %s: %w", b.PoolID, err)
		if !p.complete {
			err = errors.Join(err, n.remove(context.WithoutCancel(ctx), p))
		}
		p.note(err)
		return err
	}
	p.note(nil)
	return nil
}

// admitsVLAN returns ErrInvalid for a network that the node's interface driver cannot join.
func (n *Node) admitsVLAN(vlan uint16) error {
	if err := n.driver.Check(vlan); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func (n *Node) apply(ctx context.Context, p *pool, b *Balancer) error {
	if err := n.ensureHome(); err != nil {
		return err
	}
	if err := n.readopt(p); err != nil && !errors.Is(err, errHalfMade) {
		return err
	}
	if p.complete && (p.activeVIP() != b.VIP.ID || p.family != b.family()) {
		// Another VIP is another balancer: its connections and counters start at nothing.
		if err := n.remove(ctx, p); err != nil {
			return err
		}
	}
	if err := n.charge(p, b); err != nil {
		return err
	}
	if p.view == nil {
		p.setFamily(b.family())
	}
	if err := n.ensureAll(ctx, p, b); err != nil {
		return err
	}
	p.complete = true
	return nil
}

// readopt adopts a pool that Open could not adopt, or that appeared later: what is
// there must be known before anything is put beside it.
func (n *Node) readopt(p *pool) error {
	if p.complete || p.view != nil {
		return nil
	}
	if p.ns != nil {
		p.ns.Close()
	}
	return n.adopt(p)
}

// charge accounts for the pool's maps, draining members included.
func (n *Node) charge(p *pool, b *Balancer) error {
	wanted := map[string]bool{}
	for _, m := range b.Members {
		wanted[m.ID] = true
	}
	draining := 0
	for _, m := range p.membersNow() {
		if !wanted[m.id] {
			draining++
		}
	}
	limits := limitsFor(b, draining)
	if p.view != nil {
		var err error
		if limits.Flows, err = flowsToHold(p.view, b); err != nil {
			return err
		}
		limits.Sources = max(limits.Sources, int(p.view.Sources()))
	}
	return n.budget.charge(p.id, b.family(), limits)
}

// ensureAll compares the pool with what is wanted and mends what differs. Every
// change goes through step; so with a dry run's context this is the comparison.
//
// The order is what keeps the stack from ever answering for the VIP: the guard comes
// before the address, the program before packets.
func (n *Node) ensureAll(ctx context.Context, p *pool, b *Balancer) error {
	if err := n.ensureNamespace(ctx, p); err != nil {
		return err
	}
	if err := p.ns.Do(func() error { return n.setSysctls(ctx, namespaceSysctls(b.family())) }); err != nil {
		return err
	}
	if err := n.ensurePorts(ctx, p, b); err != nil {
		return err
	}
	if err := n.ensureLoopback(ctx, p.ns); err != nil {
		return err
	}
	guarded, err := n.beginGuard(ctx, p, b)
	if err != nil {
		return err
	}
	defer func() { _ = guarded() }() // whoever leaves early has an error already
	if p.complete {                  // it may have addresses, and get further ones
		if err := guarded(); err != nil {
			return err
		}
	}
	w, err := n.ensureDevices(ctx, p, b)
	if err != nil {
		return err
	}
	if err := n.ensureState(ctx, p, b); err != nil {
		return err
	}
	if err := guarded(); err != nil {
		return err
	}
	return n.ensureForwarding(ctx, p, b, w)
}

// ensureDevices makes the pool's devices, with what must be set before they carry anything.
func (n *Node) ensureDevices(ctx context.Context, p *pool, b *Balancer) (wiring, error) {
	w, err := n.ensureWiring(ctx, p, b)
	if err != nil {
		return w, err
	}
	inside := w.inside.Attrs().Name
	if err := p.ns.Do(func() error { return n.setSysctls(ctx, deviceSysctls(b.family(), inside)) }); err != nil {
		return w, err
	}
	return w, n.ensureSourceAddresses(ctx, p, b, w.inside)
}

// ensureState makes tables and programs.
func (n *Node) ensureState(ctx context.Context, p *pool, b *Balancer) error {
	if err := n.ensureShared(ctx, p.family); err != nil {
		return err
	}
	if err := n.ensureTables(ctx, p, b); err != nil {
		return err
	}
	if err := n.ensurePrograms(ctx, p, b.VIP.MAC); err != nil {
		return err
	}
	return n.ensureNumber(ctx, p)
}

// ensureForwarding attaches the programs and lets packets in.
func (n *Node) ensureForwarding(ctx context.Context, p *pool, b *Balancer, w wiring) error {
	if err := n.ensureAttached(ctx, p, p.loaded(), w); err != nil {
		return err
	}
	if err := n.ensureFlowTable(ctx, p, b, w); err != nil {
		return err
	}
	if err := n.ensureSources(ctx, p, b, w); err != nil {
		return err
	}
	if err := n.ensureExpiry(ctx, p); err != nil {
		return err
	}
	if err := n.dropOldPrograms(ctx, p); err != nil {
		return err
	}
	if err := n.ensurePins(ctx, p); err != nil {
		return err
	}
	if err := n.ensureTraffic(ctx, p, b, w); err != nil {
		return err
	}
	if err := n.ensureShortCut(ctx, p, b, w); err != nil {
		return err
	}
	if err := n.leaveSources(ctx, p, b); err != nil {
		return err
	}
	if err := n.ensureConfig(ctx, p, b); err != nil {
		return err
	}
	return n.recordFacts(p, w)
}

// ensureTraffic lets packets in, or keeps them out while the VIP is admin-down.
func (n *Node) ensureTraffic(ctx context.Context, p *pool, b *Balancer, w wiring) error {
	joined, err := n.join(ctx, w, b)
	if err != nil {
		return err
	}
	if err := n.ensureAddress(ctx, p, b, w.inside); err != nil {
		return err
	}
	came, err := device.SetUp(ctx, n.steps(), p.ns.Routes, w.inside, b.VIP.AdminUp)
	if err != nil {
		return err
	}
	p.announce = p.announce || joined || came
	if !b.VIP.AdminUp {
		p.announce = false
		return nil
	}
	if joined || came {
		if w.outside != nil {
			if err := device.AwaitCarrier(ctx, n.log, n.routes, w.outside.Attrs().Index); err != nil {
				return err
			}
		}
		if err := device.AwaitCarrier(ctx, n.log, p.ns.Routes, w.inside.Attrs().Index); err != nil {
			return err
		}
	}
	if err := n.ensureRoutes(ctx, p, b, w.inside); err != nil {
		return err
	}
	if err := n.ensureNeighbours(ctx, p, b, w.inside); err != nil {
		return err
	}
	if !p.announce {
		return nil
	}
	if err := n.announce(ctx, p, b, w.inside.Attrs().Index); err != nil {
		return err
	}
	p.announce = false
	return nil
}

// recordFacts notes for PoolStatus what cannot be read from the maps.
func (n *Node) recordFacts(p *pool, w wiring) error {
	alarm, err := n.orderAlarm(p, w)
	if err != nil {
		return err
	}
	info, err := p.loaded().tc.Info()
	if err != nil {
		return fmt.Errorf("look at program: %w", err)
	}
	p.data.Lock()
	defer p.data.Unlock()
	if alarm != "" && alarm != p.facts.alarm {
		p.log.Warn("the pool is as wanted, but", "alarm", alarm)
	}
	p.facts.alarm = alarm
	p.facts.device, p.facts.hook, p.facts.tag = w.inside.Attrs().Name, n.hook.name, info.Tag
	return nil
}

// orderAlarm says so when a program that is not ours sees packets before ours does.
// It is left there: whoever attached it had reasons.
func (n *Node) orderAlarm(p *pool, w wiring) (string, error) {
	if !n.hook.tcx {
		return "", nil
	}
	order, err := hook.TCXOrder(insidePoint(p, w))
	if err != nil {
		return "", err
	}
	info, err := p.attached.tcx.Info()
	if err != nil {
		return "", fmt.Errorf("look at link %s: %w", linkTCX, err)
	}
	if len(order) > 0 && order[0] != info.ID {
		return "a program that is not the balancer's is attached before it", nil
	}
	return "", nil
}

func (p *pool) setFamily(f family) {
	p.data.Lock()
	defer p.data.Unlock()
	p.family = f
}

func (p *pool) activeVIP() string {
	p.data.RLock()
	defer p.data.RUnlock()
	return p.active.VIP.ID
}

func (p *pool) membersNow() []*member {
	p.data.RLock()
	defer p.data.RUnlock()
	return p.members
}
