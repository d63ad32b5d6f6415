package router

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"qlbaas/loader/hook"
)

// Kinds of links; a link's name is that of its leg's port and its kind.
const (
	kindTCX  = "_tcx"
	kindXDP  = "_xdp"
	kindPeer = "_xdp_peer"
)

func (r *router) place(name string) hook.Place {
	return hook.Place{Link: r.linkOf(name), Pins: r.pins, Pin: filepath.Join(linkPins, name)}
}

// ensureAttached attaches the programs to a leg by the node's hook and then detaches what
// another hook needed: at no moment is none attached. (What one of them has translated is no
// news to another: it has left by another device.)
func (n *Node) ensureAttached(ctx context.Context, r *router, w *wire) error {
	port, inside := w.leg.PortID, w.inside
	if n.tcx {
		name := port + kindTCX
		want := hook.TCX(hook.Point{Enter: r.ns.Do, Device: inside.Attrs().Index, Attach: ebpf.AttachTCXIngress}, name, r.programs.tc)
		if err := hook.Ensure(ctx, n.steps(), r.place(name), want); err != nil {
			return err
		}
	} else if err := hook.EnsureFilter(ctx, n.steps(), r.ns, inside, programTC, r.programs.tc); err != nil {
		return err
	}
	if err := n.ensureXDP(ctx, r, w); err != nil {
		return err
	}
	if n.tcx {
		return hook.DropFilter(ctx, n.steps(), r.ns, inside)
	}
	return hook.Drop(ctx, n.steps(), r.place(port+kindTCX), port+kindTCX)
}

// ensureXDP attaches the fast path, or takes it away. What it sends by another leg arrives
// only if that leg's peer runs a program; so that comes first and goes last.
func (n *Node) ensureXDP(ctx context.Context, r *router, w *wire) error {
	fast, peer := r.place(w.leg.PortID+kindXDP), r.place(w.leg.PortID+kindPeer)
	if n.hook == hook.NameXDP {
		if err := n.offload(ctx, r, w, false); err != nil {
			return err
		}
		here := func(fn func() error) error { return fn() }
		if err := hook.Ensure(ctx, n.steps(), peer, hook.XDP(w.leg.PortID+kindPeer, r.programs.pass, w.outside, here)); err != nil {
			return err
		}
		return hook.Ensure(ctx, n.steps(), fast, hook.XDP(w.leg.PortID+kindXDP, r.programs.xdp, w.inside, r.ns.Do))
	}
	if *fast.Link == nil && *peer.Link == nil {
		return nil
	}
	if err := hook.Drop(ctx, n.steps(), fast, w.leg.PortID+kindXDP); err != nil {
		return err
	}
	if !w.network.WholeSums {
		if err := n.offload(ctx, r, w, true); err != nil {
			return err
		}
	}
	return hook.Drop(ctx, n.steps(), peer, w.leg.PortID+kindPeer)
}

// offload switches the checksum offload of both ends, where there are two: XDP needs whole
// sums.
func (n *Node) offload(ctx context.Context, r *router, w *wire, on bool) error {
	if w.outside == nil {
		return nil
	}
	if err := hook.SetOffloads(ctx, n.steps(), w.outside.Attrs().Name, on); err != nil {
		return err
	}
	return r.ns.Do(func() error {
		return hook.SetOffloads(ctx, n.steps(), w.inside.Attrs().Name, on)
	})
}

// dropLinks unpins the links of legs that are gone, whose devices are gone with them.
func (n *Node) dropLinks(ctx context.Context, r *router, wires []*wire) error {
	ports := map[string]bool{}
	for _, w := range wires {
		ports[w.leg.PortID] = true
	}
	for name, l := range r.links {
		port, _, _ := strings.Cut(name, "_")
		if *l != nil && !ports[port] {
			if err := hook.Drop(ctx, n.steps(), r.place(name), name); err != nil {
				return err
			}
		}
		if *l == nil {
			delete(r.links, name)
		}
	}
	return nil
}
