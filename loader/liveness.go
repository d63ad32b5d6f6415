package loader

import (
	"context"
	"fmt"
	"time"

	"qlbaas/maps"
)

// gatherVerdicts is how long a verdict waits for others before a generation is made
// of them: when a rack goes down, few generations say so. What the verdict itself
// says holds at once, since programs pass over members that are down.
const gatherVerdicts = 2 * time.Millisecond

// SetMemberUp tells the data plane whether a member lives. New connections avoid a
// member that is down with the next packet; within 50 ms the others share its part by
// weight and in order. Established connections are left alone. ErrNotDeployed for a
// pool or a member that is not on this node.
func (n *Node) SetMemberUp(poolID, memberID string, up bool) error {
	p := n.find(poolID)
	if p == nil {
		return fmt.Errorf("set liveness in pool %s: %w", poolID, ErrNotDeployed)
	}
	p.data.RLock()
	defer p.data.RUnlock()
	m := p.byID[memberID]
	if p.view == nil || m == nil {
		return fmt.Errorf("set liveness of member %s in pool %s: %w", memberID, poolID, ErrNotDeployed)
	}
	verdict := maps.Health{Up: up, Serial: m.serial}
	stored, err := p.view.Health(m.slot)
	if err != nil {
		return err
	}
	if !m.present {
		p.aside.set(m.serial, !up)
		return nil
	}
	if stored == verdict {
		return nil
	}
	if err := p.view.SetHealth(m.slot, verdict); err != nil {
		return err
	}
	p.verdicts.Add(1)
	n.rebuildSoon(p)
	return nil
}

// MemberUp reads a member's liveness as the data plane has it, or will have it once
// the member is admin-up again; known is false for a
// pool or a member that is not on this node.
func (n *Node) MemberUp(poolID, memberID string) (up, known bool) {
	p := n.find(poolID)
	if p == nil {
		return false, false
	}
	p.data.RLock()
	defer p.data.RUnlock()
	m := p.byID[memberID]
	if p.view == nil || m == nil {
		return false, false
	}
	if !m.present {
		return !p.aside.get(m.serial), true
	}
	stored, err := p.view.Health(m.slot)
	if err != nil {
		return false, false
	}
	return stored.Up, true
}

// rebuildSoon has a generation made of the verdicts there are, unless one is due
// already.
func (n *Node) rebuildSoon(p *pool) {
	if p.dirty.Swap(true) {
		return
	}
	n.spawn(func() {
		gather := time.NewTimer(gatherVerdicts)
		defer gather.Stop()
		select {
		case <-gather.C:
		case <-n.background.Done(): // the verdict is to be found in place by whoever comes next
		}
		if err := n.rebuild(p); err != nil {
			// The verdicts themselves are in force; the next look for drift ends here.
			p.log.Error("members that went up or down keep their share for now", "err", err)
		}
	})
}

// rebuild writes a generation for the verdicts there are.
func (n *Node) rebuild(p *pool) error {
	p.build.Lock()
	defer p.build.Unlock()
	p.dirty.Store(false) // verdicts from here on want another one
	view := p.deployed()
	if view == nil || p.wanted == nil {
		return nil // before the first Apply, which will find the verdicts
	}
	stored := p.active
	if p.wanted.Method == LeastConnections {
		if err := zeroWeights(view, p.members); err != nil {
			return err
		}
		// A member may be up again by now. Then the generation is the same as before,
		// but not what is left of it in the maps.
		var err error
		if stored, err = storedGeneration(view); err != nil {
			return err
		}
	}
	// The verdicts are in force already, and Close does not undo them.
	ctx := context.WithoutCancel(n.background)
	_, err := n.writeGeneration(ctx, p, view, p.wanted, p.members, stored)
	return err
}

// zeroWeights takes members that are down out of LEAST_CONNECTIONS, ahead of the
// generation, whose swap has to wait for programs that run.
func zeroWeights(view *maps.Pool, members []*member) error {
	up, err := view.Healths()
	if err != nil {
		return err
	}
	for _, m := range members {
		if !m.present || up[m.slot].Up {
			continue
		}
		if err := view.ZeroWeight(m.slot); err != nil {
			return err
		}
	}
	return nil
}
