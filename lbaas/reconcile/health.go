package reconcile

import (
	"errors"
	"fmt"

	"qlbaas/healthd"
	"qlbaas/loader"
)

// SetUp writes a verdict to the data plane at once, and its record to the store
// in the background. healthd calls it.
func (r *Reconciler) SetUp(v healthd.Verdict) {
	r.counts.verdicts.Add(1)
	p := r.known(v.Pool)
	if p == nil {
		return
	}
	if err := r.setMemberUp(p, v.Member, v.Up); err != nil && !errors.Is(err, loader.ErrNotDeployed) {
		// The next look for drift writes it again; what is not deployed is written
		// when it is.
		r.log.Warn("liveness cannot be written", "pool", v.Pool, "member", v.Member, "up", v.Up, "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reasons[v.Member] = ""
	if !v.Up {
		p.reasons[v.Member] = clip(v.Reason)
	}
	if _, ok := p.members[v.Member]; ok { // else the attempt under way reports it
		r.statuses.put(r.memberReport(p, v.Member))
	}
}

func (r *Reconciler) setMemberUp(p *pool, member string, up bool) error {
	p.health.Lock()
	defer p.health.Unlock()
	return r.writeMemberUp(p, member, up)
}

// writeMemberUp tells the data plane, and the sidecar if there is one. The pool's health
// lock is held.
func (r *Reconciler) writeMemberUp(p *pool, member string, up bool) error {
	err := r.node.SetMemberUp(p.id, member, up)
	if r.sidecars != nil {
		err = errors.Join(err, r.sidecars.SetMemberUp(p.id, member, up))
	}
	return err
}

// alignHealth writes the checker's verdicts where the data plane has another one:
// after a failed write, a rebuilt map, a foreign hand. It returns the members
// that it changed.
func (r *Reconciler) alignHealth(p *pool) (changed []string, err error) {
	for _, h := range r.checker.Members(p.id) {
		if up, known := r.node.MemberUp(p.id, h.Member); known && up == h.Up {
			continue
		}
		err := r.realign(p, h.Member)
		if errors.Is(err, loader.ErrNotDeployed) {
			return changed, nil // it has just been removed
		}
		if err != nil {
			return changed, fmt.Errorf("write liveness of member %s: %w", h.Member, err)
		}
		changed = append(changed, h.Member)
	}
	return changed, nil
}

// realign asks for the verdict again under the lock that orders writes: an older
// one can't overwrite it then.
func (r *Reconciler) realign(p *pool, member string) error {
	p.health.Lock()
	defer p.health.Unlock()
	for _, h := range r.checker.Members(p.id) {
		if h.Member == member {
			return r.writeMemberUp(p, member, h.Up)
		}
	}
	return nil
}
