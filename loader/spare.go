package loader

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"qlbaas/maps"
)

// The kernel takes some seventy milliseconds to verify a pool's programs, longer than all the
// rest of a new pool takes. So the node keeps the empty maps and loaded programs of one more
// pool of default sizes for each family that has had a pool, and makes the next ones when
// they are taken. They are pinned nowhere, and end with the daemon.

// spare is what a new pool may have.
type spare struct {
	shared   *maps.Node // that the programs work on beside own
	own      maps.PoolMaps
	number   uint32
	programs *programs
}

// close lets go of what nobody has taken.
func (s *spare) close() error {
	if s == nil {
		return nil
	}
	s.own.Close()
	return s.programs.Close()
}

// spares are a node's.
type spares struct {
	sync.Mutex
	of [families]struct {
		ready *spare
		// made is closed when one is ready that is being made now, or has failed.
		made    chan struct{}
		awaited bool
	}
}

// takeSpare returns maps and programs for a pool of these sizes, or nil if there are none.
// It waits for some that are being made, unless another one does.
func (n *Node) takeSpare(ctx context.Context, f family, flowLimit uint32, sources uint16) *spare {
	if !n.opts.Spare || flowLimit != DefaultFlowLimit || sources != sourcesRoom(1) {
		return nil
	}
	n.spares.Lock()
	at := &n.spares.of[f]
	if made := at.made; at.ready == nil && made != nil && !at.awaited {
		at.awaited = true
		n.spares.Unlock()
		select {
		case <-made:
		case <-ctx.Done():
		}
		n.spares.Lock()
		at.awaited = false
	}
	found := at.ready
	at.ready = nil
	if at.made == nil {
		n.makeNext(f)
	}
	n.spares.Unlock()
	if found != nil && !found.fits(n.handshakes(f)) {
		found.close()
		return nil
	}
	return found
}

// fits tells whether the programs work on the node's tables, with a number that is still
// nobody else's.
func (s *spare) fits(shared *maps.Node) bool {
	if s.shared != shared {
		return false
	}
	used, err := shared.Pools()
	_, taken := used[s.number]
	return err == nil && !taken
}

// makeNext begins to make what the next pool will take. The lock is held.
func (n *Node) makeNext(f family) {
	at, made := &n.spares.of[f], make(chan struct{})
	at.made = made
	started := n.spawn(func() {
		fresh, err := n.makeSpare(f)
		if err != nil {
			n.log.Info("nothing is ready for the next pool", "err", err) // which will say why
		}
		n.spares.Lock()
		defer n.spares.Unlock()
		at.ready, at.made = fresh, nil
		close(made)
	})
	if !started {
		at.made = nil
		close(made)
	}
}

func (n *Node) makeSpare(f family) (*spare, error) {
	s := &spare{shared: n.handshakes(f)}
	var err error
	if s.number, err = n.chooseNumber(f); err != nil {
		return nil, err
	}
	if s.own, err = n.objects[f].makePoolMaps(DefaultFlowLimit, sourcesRoom(1)); err != nil {
		return nil, err
	}
	if s.programs, err = n.loadTC(f, s.number, s.own); err != nil {
		s.own.Close()
		return nil, fmt.Errorf("load programs: %w", err)
	}
	return s, nil
}

// closeSpares lets go of them when no task is left that makes any.
func (n *Node) closeSpares() error {
	n.spares.Lock()
	defer n.spares.Unlock()
	var errs []error
	for f := range n.spares.of {
		errs = append(errs, n.spares.of[f].ready.close())
		n.spares.of[f].ready = nil
	}
	return errors.Join(errs...)
}

// newMaps are the empty maps of a pool that has none. With a spare's come its programs.
func (n *Node) newMaps(ctx context.Context, p *pool, b *Balancer) (maps.PoolMaps, error) {
	sources := sourcesRoom(1 + len(b.SNAT))
	if p.prepared != nil { // an Apply that failed has left them: they are for other maps
		if err := p.prepared.Close(); err != nil {
			return maps.PoolMaps{}, err
		}
		p.prepared = nil
	}
	if p.number == 0 {
		if s := n.takeSpare(ctx, p.family, b.flowLimit(), sources); s != nil {
			p.number, p.prepared = s.number, s.programs
			return s.own, nil
		}
	}
	return n.objects[p.family].makePoolMaps(b.flowLimit(), sources)
}

// newPrograms are programs on the pool's maps: those that came with them, or fresh ones.
func (n *Node) newPrograms(p *pool) (ps *programs, err error) {
	if ps, p.prepared = p.prepared, nil; ps != nil {
		return ps, nil
	}
	if p.number == 0 {
		if p.number, err = n.chooseNumber(p.family); err != nil {
			return nil, err
		}
	}
	return n.loadTC(p.family, p.number, p.view.Maps())
}
