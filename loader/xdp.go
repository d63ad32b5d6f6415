package loader

import (
	"context"

	"qlbaas/loader/hook"
)

// ensureXDP attaches the fast path to the inside device. A veth device delivers
// what was sent by XDP_TX only if its peer polls, which a program on the peer
// makes it do; so that program comes first.
func (n *Node) ensureXDP(ctx context.Context, p *pool, ps *programs, w wiring) error {
	if err := n.offload(ctx, p, w, false); err != nil {
		return err
	}
	peer := hook.XDP(linkPeer, ps.pass, w.outside, func(fn func() error) error { return fn() })
	if err := hook.Ensure(ctx, n.steps(), p.link(linkPeer), peer); err != nil {
		return err
	}
	return hook.Ensure(ctx, n.steps(), p.link(linkXDP), hook.XDP(linkXDP, ps.xdp, w.inside, p.ns.Do))
}

// dropXDP takes the fast path away, if it is there, in the reverse order.
func (n *Node) dropXDP(ctx context.Context, p *pool, w wiring) error {
	if p.attached.xdp == nil && p.attached.peer == nil {
		return nil
	}
	if err := hook.Drop(ctx, n.steps(), p.link(linkXDP), linkXDP); err != nil {
		return err
	}
	if !w.network.WholeSums {
		if err := n.offload(ctx, p, w, true); err != nil {
			return err
		}
	}
	return hook.Drop(ctx, n.steps(), p.link(linkPeer), linkPeer)
}

// offload switches the offloads of both ends, where there are two.
func (n *Node) offload(ctx context.Context, p *pool, w wiring, on bool) error {
	if w.outside == nil {
		return nil
	}
	if err := hook.SetOffloads(ctx, n.steps(), w.outside.Attrs().Name, on); err != nil {
		return err
	}
	return p.ns.Do(func() error { return hook.SetOffloads(ctx, n.steps(), w.inside.Attrs().Name, on) })
}
