package loader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"qlbaas/maps"
)

// Connections end in the tables when their time is over, and nobody but the expiry
// looks. It goes through the NAT ports of every member, because every connection has
// one, in slices: a call of the program looks at sweepWords words of 64 ports (some
// 0.3 ms if all are taken), a Sweep makes up to visitWords/sweepWords calls per member
// and stops after sweepTime. Words without ports are stepped over, so that members
// with few connections are done in one visit. Called four times a second that is a
// whole round in 8 s at most where there are few pools, and at most 2 % of a CPU where
// there are many.
const (
	sweepTime  = 4 * time.Millisecond
	sweepWords = 8
	visitWords = 32
)

// retireAtOnce bounds how many slots one Sweep gives back per pool; each waits for
// the programs that run.
const retireAtOnce = 16

// sweeps remembers where the last Sweep stopped.
type sweeps struct {
	sync.Mutex
	last string
	at   map[string]*sweepCursor
}

// sweepCursor is where the expiry of one pool goes on.
type sweepCursor struct {
	slot uint16
	// words is the next word of the ports of a source address toward a member.
	words map[portsOf]uint32
}

// portsOf are the ports of one source address toward a member.
type portsOf struct {
	slotOwner
	source uint16
}

type slotOwner struct {
	slot   uint16
	serial uint32
}

// Sweep expires one slice of the connections of all pools, and ends drains: a member
// that was removed gives its slot back once its connections are gone, and after the
// drain timeout they are reset. To be called some four times a second; a call takes
// a few milliseconds. Programs expire under pressure by themselves, so that a daemon
// that is dead costs room in the tables, not correctness.
func (n *Node) Sweep(ctx context.Context) error {
	n.sweeps.Lock()
	defer n.sweeps.Unlock()
	ids := after(n.known(), n.sweeps.last)
	n.sweeps.keep(ids)
	end := time.Now().Add(sweepTime)
	var errs []error
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		whole, err := n.sweepPool(ctx, id, end)
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep pool %s: %w", id, err))
		}
		if !whole {
			break // and go on with this pool
		}
		n.sweeps.last = id
	}
	return errors.Join(errs...)
}

// keep forgets the cursors of pools that are gone.
func (s *sweeps) keep(ids []string) {
	kept := make(map[string]*sweepCursor, len(ids))
	for _, id := range ids {
		if kept[id] = s.at[id]; kept[id] == nil {
			kept[id] = &sweepCursor{words: map[portsOf]uint32{}}
		}
	}
	s.at = kept
}

// sweepPool visits every member of the pool once; whole is false if time ran out
// before.
func (n *Node) sweepPool(ctx context.Context, id string, end time.Time) (whole bool, _ error) {
	p := n.find(id)
	if p == nil {
		return true, nil
	}
	drain := p.drainTimeout()
	cursor := n.sweeps.at[id]
	var idle []*member
	for _, m := range p.membersNow() {
		if m.slot < cursor.slot {
			continue
		}
		used, err := p.sweepMember(m, cursor, drain)
		if err != nil {
			return true, err
		}
		if used == 0 && !m.configured && drain != nil {
			idle = append(idle, m)
		}
		cursor.slot = m.slot + 1
		if time.Now().After(end) {
			return false, n.retire(ctx, p, idle)
		}
	}
	cursor.slot = 0
	return true, n.retire(ctx, p, idle)
}

// drainTimeout returns nil before the first Apply, when nobody knows who drains.
func (p *pool) drainTimeout() *time.Duration {
	p.build.Lock()
	defer p.build.Unlock()
	if p.wanted == nil {
		return nil
	}
	return &p.wanted.DrainTimeout
}

// sweepMember looks at one member's next ports, of every source address, and returns how
// many are taken.
func (p *pool) sweepMember(m *member, cursor *sweepCursor, drain *time.Duration) (used uint32, _ error) {
	p.data.RLock()
	defer p.data.RUnlock()
	if p.view == nil || p.programs == nil {
		return 0, nil
	}
	for source := range p.view.Sources() {
		ports, err := p.view.Ports(m.slot, source)
		if errors.Is(err, maps.ErrNotFound) {
			continue // nobody's place, or the member was retired since we were told of it
		}
		if err != nil {
			return used, err
		}
		if ports.Used == 0 {
			continue
		}
		used += ports.Used
		slice := maps.Sweep{
			Slot: m.slot, Place: source,
			Pressure: ports.Used > maps.NATPorts/2,
			Reset:    drain != nil && *drain > 0 && !m.drainSince.IsZero() && time.Since(m.drainSince) >= *drain,
		}
		if err := p.sweepPorts(slice, ports, cursor, slotOwner{m.slot, m.serial}); err != nil {
			return used, err
		}
	}
	return used, nil
}

// sweepPorts goes on through the ports of one source address toward a member.
func (p *pool) sweepPorts(slice maps.Sweep, ports *maps.Ports, cursor *sweepCursor, owner slotOwner) error {
	at := portsOf{owner, slice.Place}
	for range max(1, visitWords/sweepWords/int(p.view.Sources())) {
		word, more := ports.NextTaken(cursor.words[at])
		if !more {
			cursor.words[at] = 0 // the next visit begins another round
			break
		}
		slice.Word, slice.Words = word, min(sweepWords, maps.NATWords-word)
		if _, err := slice.Run(p.programs.sweep); err != nil {
			return err
		}
		cursor.words[at] = word + slice.Words
	}
	return nil
}

// retire gives the slots of members back that have neither configuration nor
// connections.
func (n *Node) retire(ctx context.Context, p *pool, idle []*member) error {
	if len(idle) == 0 {
		return nil
	}
	p.build.Lock()
	defer p.build.Unlock()
	view := p.deployed()
	if view == nil || p.wanted == nil {
		return nil
	}
	conns, err := view.Conns()
	if err != nil {
		return err
	}
	gone, err := n.retireEach(ctx, p, view, idle, conns)
	if len(gone) == 0 {
		return err
	}
	var rest []*member
	for _, m := range p.members {
		if !gone[slotOwner{m.slot, m.serial}] {
			rest = append(rest, m)
		}
	}
	p.publish(rest, p.active)
	if err != nil {
		return err
	}
	_, err = n.writeGeneration(ctx, p, view, p.wanted, rest, p.active)
	return err
}

// retireEach takes the slots away and returns those that are gone. A member whose
// retirement was interrupted comes first, since the table remembers only one.
func (n *Node) retireEach(
	ctx context.Context, p *pool, view *maps.Pool, idle []*member, conns []uint32,
) (gone map[slotOwner]bool, _ error) {
	last, err := view.Retired()
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(idle, func(a, b *member) int {
		return cmp.Compare(btoi(b.serial == last.Serial), btoi(a.serial == last.Serial))
	})
	gone = map[slotOwner]bool{}
	for _, m := range idle[:min(len(idle), retireAtOnce)] {
		owner := slotOwner{m.slot, m.serial}
		if conns[m.slot] != 0 || !p.stillRemoved(owner) {
			continue
		}
		if err := n.step(ctx, "retire member"); err != nil {
			return gone, err
		}
		if err := view.Retire(m.slot, m.serial); err != nil {
			return gone, err
		}
		gone[owner] = true
		if err := p.unpinSlots([]uint16{m.slot}); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// stillRemoved tells whether an Apply has not taken the member back meanwhile.
func (p *pool) stillRemoved(owner slotOwner) bool {
	return slices.ContainsFunc(p.members, func(m *member) bool {
		return m.slot == owner.slot && m.serial == owner.serial && !m.configured
	})
}
