package maps

import (
	"errors"
	"fmt"
	"iter"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// Node is the view of the maps that all pools share. It owns them. Safe for
// concurrent use, but for Close.
type Node struct {
	own   NodeMaps
	words family
}

// NewNode views m and owns it on success. ErrInvalid if a map is absent.
func NewNode(m NodeMaps) (*Node, error) {
	if err := complete(&m); err != nil {
		return nil, fmt.Errorf("view node: %w", err)
	}
	words, err := nodeFamilyOf(m.HalfOpen)
	if err != nil {
		return nil, fmt.Errorf("view node: %w", err)
	}
	return &Node{m, words}, nil
}

// Maps returns the maps, which stay the node's.
func (n *Node) Maps() NodeMaps { return n.own }

// Close closes every map; pinned ones live on. Nothing may use the node during or
// after it.
func (n *Node) Close() error { return n.own.Close() }

// AddPool makes the pool's account of handshakes; a present one is left as it is.
// ErrFull when the node has no room for another pool.
func (n *Node) AddPool(number uint32) error {
	err := n.own.HalfOpenUse.Update(number, &bpf.Lb4HalfOpenUse{}, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return wrap(err, "add pool %d to the node", number)
}

// RemovePool removes the pool's handshakes and its account. Detach its programs
// first. A pool that is not there is fine.
func (n *Node) RemovePool(number uint32) error {
	if err := n.words.purge(n.own.HalfOpen, number); err != nil {
		return fmt.Errorf("remove pool %d from the node: %w", number, err)
	}
	return wrap(remove(n.own.HalfOpenUse, number), "remove pool %d from the node", number)
}

// Pools returns handshakes in flight by pool number.
func (n *Node) Pools() (map[uint32]uint32, error) {
	pools := make(map[uint32]uint32)
	for entry, err := range batches[uint32, bpf.Lb4HalfOpenUse](n.own.HalfOpenUse) {
		if err != nil {
			return nil, wrap(err, "read pools")
		}
		pools[entry.key] = entry.value.Handshakes
	}
	return pools, nil
}

// HalfOpenEntry is one direction of a handshake in flight.
type HalfOpenEntry struct {
	FlowEntry
	// Pool is the number of the pool.
	Pool uint32
	// Place in the ring, which gives the order of arrival.
	Place uint32
}

// HalfOpen iterates over both directions of a pool's handshakes; an error ends it.
// Entries that come or go meanwhile may or may not be seen.
func (n *Node) HalfOpen(pool uint32) iter.Seq2[HalfOpenEntry, error] {
	return func(yield func(HalfOpenEntry, error) bool) {
		for found, err := range n.words.halfOpen(n.own.HalfOpen) {
			if err == nil && found.Pool != pool {
				continue
			}
			if !yield(found, err) {
				return
			}
		}
	}
}

// Ring is how full the table of handshakes is.
type Ring struct {
	// Size is how many handshakes the node can hold, Used how many all pools have.
	Size, Used uint32
	// Evicted counts handshakes that gave way to newer ones, modulo 2^32.
	Evicted uint32
}

// Ring reads the state of the handshakes' ring.
func (n *Node) Ring() (Ring, error) {
	var stored bpf.Lb4HalfOpenNode
	if err := n.own.HalfOpenNode.Lookup(uint32(0), &stored); err != nil {
		return Ring{}, wrap(err, "read ring")
	}
	pools, err := n.Pools()
	if err != nil {
		return Ring{}, err
	}
	ring := Ring{Size: n.own.HalfOpenRing.MaxEntries(), Evicted: stored.Evicted}
	for _, handshakes := range pools {
		ring.Used += handshakes
	}
	return ring, nil
}
