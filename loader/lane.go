package loader

import (
	"context"

	"github.com/cilium/ebpf"

	"qlbaas/loader/hook"
	"qlbaas/loader/plug"
)

// lane is what stands in front of tc_lb and forwards what needs no thought; everything
// else it leaves to that program as it came.
type lane string

const (
	laneNone lane = ""
	// laneXDP is XDP on the inside device.
	laneXDP lane = "xdp"
	// laneTap is the outside device's egress: a packet is turned around there, into the
	// bridge, and crosses the veth pair in neither direction.
	laneTap lane = "tap"
)

// lanePrograms are the programs of all lanes, by name: a lane's first one is that which
// knows the inside device's address.
var lanePrograms = map[lane][]string{laneXDP: {programXDP, programPass}, laneTap: {programTap}}

func (l lane) programs() []string { return lanePrograms[l] }

// chooseLane returns the lane that goes with a hook and an interface driver. Only the
// kernel's bridge is known to take a packet back from the port that it gave it to.
func (o *Options) chooseLane(h nodeHook) lane {
	bridged := o.InterfaceDriver == "" || o.InterfaceDriver == plug.LinuxBridge
	switch {
	case h.name == HookXDP:
		return laneXDP
	case h.name == HookTCX && bridged && !o.NoOutside:
		return laneTap
	}
	return laneNone
}

// has tells whether all of these programs are there.
func (ps *programs) has(names []string) bool {
	all := ps.named()
	for _, name := range names {
		if *all[name] == nil {
			return false
		}
	}
	return true
}

// ensureLane attaches the node's fast lane and detaches every other.
func (n *Node) ensureLane(ctx context.Context, p *pool, ps *programs, w wiring) error {
	if n.hook.lane == laneXDP {
		if err := n.ensureXDP(ctx, p, ps, w); err != nil {
			return err
		}
	} else if err := n.dropXDP(ctx, p, w); err != nil {
		return err
	}
	if n.hook.lane == laneTap && !w.silent {
		if ps.tap == nil {
			return nil // see ensureShortCut
		}
		at := hook.Point{Enter: hook.Here, Device: w.outside.Attrs().Index, Attach: ebpf.AttachTCXEgress}
		return hook.Ensure(ctx, n.steps(), p.link(linkTap), hook.TCX(at, linkTap, ps.tap))
	}
	return hook.Drop(ctx, n.steps(), p.link(linkTap), linkTap)
}

// ensureXDP attaches the fast path to the inside device. A veth device delivers
// what was sent by XDP_TX only if its peer polls, which a program on the peer
// makes it do; so that program comes first.
func (n *Node) ensureXDP(ctx context.Context, p *pool, ps *programs, w wiring) error {
	if err := n.offload(ctx, p, w, false); err != nil {
		return err
	}
	peer := hook.XDP(linkPeer, ps.pass, w.outside, hook.Here)
	if err := hook.Ensure(ctx, n.steps(), p.link(linkPeer), peer); err != nil {
		return err
	}
	return hook.Ensure(ctx, n.steps(), p.link(linkXDP), hook.XDP(linkXDP, ps.xdp, w.inside, p.ns.Do))
}

// ensureShortCut loads and attaches what stands at the outside device. It comes last, for the
// pool serves without it.
func (n *Node) ensureShortCut(ctx context.Context, p *pool, b *Balancer, w wiring) error {
	if n.hook.lane != laneTap {
		return nil
	}
	if err := n.ensureFastLane(ctx, p, [6]byte(b.VIP.MAC)); err != nil {
		return err
	}
	return n.ensureLane(ctx, p, p.loaded(), w)
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
