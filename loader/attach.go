package loader

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"qlbaas/loader/hook"
	"qlbaas/loader/pin"
)

// Names of the pinned links.
const (
	linkTCX  = "tcx"
	linkXDP  = "xdp"
	linkPeer = "xdp_peer"
	linkTap  = "tap"
)

// attachments are the links that keep a pool's programs attached. The open links
// matter besides the pins: with them the programs survive an unmounted bpffs.
type attachments struct {
	tcx, xdp, peer, tap link.Link
}

func (a *attachments) named() map[string]*link.Link {
	return map[string]*link.Link{linkTCX: &a.tcx, linkXDP: &a.xdp, linkPeer: &a.peer, linkTap: &a.tap}
}

func (a *attachments) none() bool {
	return a.tcx == nil && a.xdp == nil && a.peer == nil && a.tap == nil
}

// Close lets go of the links; pinned ones stay attached.
func (a *attachments) Close() error {
	var errs []error
	for _, l := range a.named() {
		if *l != nil {
			errs = append(errs, (*l).Close())
		}
	}
	return errors.Join(errs...)
}

// open opens the pinned links.
func (a *attachments) open(from *pin.Pins) (err error) {
	for name, l := range a.named() {
		if *l, _, err = pin.Open[link.Link](from, filepath.Join(linkPins, name)); err != nil {
			return err
		}
	}
	return nil
}

// ensureAttached attaches the programs by the node's hook and then detaches what
// another hook needed: for a moment both are attached, at no moment none. (What
// one of them has translated is no news to the other, which lets it pass.)
func (n *Node) ensureAttached(ctx context.Context, p *pool, ps *programs, w wiring) error {
	if n.hook.tcx {
		if err := hook.Ensure(ctx, n.steps(), p.link(linkTCX), hook.TCX(insidePoint(p, w), linkTCX, ps.tc)); err != nil {
			return err
		}
	} else if err := hook.EnsureFilter(ctx, n.steps(), p.ns, w.inside, programTC, ps.tc); err != nil {
		return err
	}
	if err := n.ensureLane(ctx, p, ps, w); err != nil {
		return err
	}
	if n.hook.tcx {
		return hook.DropFilter(ctx, n.steps(), p.ns, w.inside)
	}
	return hook.Drop(ctx, n.steps(), p.link(linkTCX), linkTCX)
}

// insidePoint is where tc_lb sees the pool's packets.
func insidePoint(p *pool, w wiring) hook.Point {
	return hook.Point{Enter: p.ns.Do, Device: w.inside.Attrs().Index, Attach: ebpf.AttachTCXIngress}
}

// link is where the link of that name is kept.
func (p *pool) link(name string) hook.Place {
	return hook.Place{Link: p.attached.named()[name], Pins: p.pins, Pin: filepath.Join(linkPins, name)}
}
