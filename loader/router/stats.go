package router

import (
	"cmp"
	"fmt"
	"slices"
)

// Stats reads what the router's programs have counted. ErrNotDeployed without such a
// router.
func (n *Node) Stats(id string) (Stats, error) {
	r := n.find(id)
	if r == nil {
		return Stats{}, fmt.Errorf("read statistics of router %s: %w", id, ErrNotDeployed)
	}
	r.data.RLock()
	defer r.data.RUnlock()
	if r.tables == nil {
		return Stats{}, fmt.Errorf("read statistics of router %s: %w", id, ErrNotDeployed)
	}
	s, err := r.readStats()
	if err != nil {
		return Stats{}, fmt.Errorf("read statistics of router %s: %w", id, err)
	}
	return s, nil
}

func (r *router) readStats() (s Stats, err error) {
	floating, err := r.tables.Floating()
	if err != nil {
		return s, err
	}
	for id, c := range floating {
		s.Floating = append(s.Floating, FloatingStats{
			ID: id, PacketsIn: c.PacketsIn, BytesIn: c.BytesIn, PacketsOut: c.PacketsOut, BytesOut: c.BytesOut,
		})
	}
	slices.SortFunc(s.Floating, func(a, b FloatingStats) int { return cmp.Compare(a.ID, b.ID) })
	if s.Drops, err = r.tables.ReadDrops(); err != nil {
		return s, err
	}
	s.Verdicts, err = r.tables.ReadVerdicts()
	return s, err
}

// Status says what an operator wants to know of the router. ErrNotDeployed without such
// a router. Of one that was adopted and not applied since only the id is known.
func (n *Node) Status(id string) (Status, error) {
	r := n.find(id)
	if r == nil {
		return Status{}, fmt.Errorf("status of router %s: %w", id, ErrNotDeployed)
	}
	r.data.RLock()
	defer r.data.RUnlock()
	if r.ns == nil {
		return Status{}, fmt.Errorf("status of router %s: %w", id, ErrNotDeployed)
	}
	s := r.status
	s.RouterID, s.Namespace, s.Hook = id, namespaceName(id), n.hook
	return s, nil
}
