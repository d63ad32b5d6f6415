package loader

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// chooseNumber picks the number under which a pool keeps its handshakes in the
// node's table. It is random, because handshakes of a pool that is gone may stay
// in the table for a while, under a number that must not come back soon.
func (n *Node) chooseNumber(f family) (uint32, error) {
	used, err := n.handshakes(f).Pools()
	if err != nil {
		return 0, err
	}
	for {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("choose pool number: %w", err)
		}
		number := binary.NativeEndian.Uint32(b[:])
		if _, taken := used[number]; !taken && number != 0 {
			return number, nil
		}
	}
}

// ensureNumber makes the pool's account of handshakes. The programs, which keep the
// number, are pinned before that: so it is never there without an owner.
func (n *Node) ensureNumber(ctx context.Context, p *pool) error {
	shared := n.handshakes(p.family)
	accounts, err := shared.Pools()
	if err != nil {
		return err
	}
	if _, there := accounts[p.number]; there {
		return nil
	}
	if err := n.step(ctx, "add pool to the node's handshakes"); err != nil {
		return err
	}
	return shared.AddPool(p.number)
}

// dropNumbers removes a family's accounts of pools that are not there.
func (n *Node) dropNumbers(f family, owned map[uint32]bool) error {
	shared := n.handshakes(f)
	if shared == nil {
		return nil
	}
	accounts, err := shared.Pools()
	if err != nil {
		return err
	}
	for number := range accounts {
		if owned[number] {
			continue
		}
		if err := shared.RemovePool(number); err != nil {
			return err
		}
	}
	return nil
}
