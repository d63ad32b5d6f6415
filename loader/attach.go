package loader

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Names of the pinned links.
const (
	linkTCX  = "tcx"
	linkXDP  = "xdp"
	linkPeer = "xdp_peer"
)

// attachments are the links that keep a pool's programs attached. The open links
// matter besides the pins: with them the programs survive an unmounted bpffs.
type attachments struct {
	tcx, xdp, peer link.Link
}

func (a *attachments) named() map[string]*link.Link {
	return map[string]*link.Link{linkTCX: &a.tcx, linkXDP: &a.xdp, linkPeer: &a.peer}
}

func (a *attachments) none() bool { return a.tcx == nil && a.xdp == nil && a.peer == nil }

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
func (a *attachments) open(from *pins) (err error) {
	for name, l := range a.named() {
		if *l, _, err = openPin[link.Link](from, filepath.Join(linkPins, name)); err != nil {
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
		if err := n.ensureLink(ctx, p, n.tcxLink(p, ps, w)); err != nil {
			return err
		}
	} else if err := n.ensureFilter(ctx, p, ps, w); err != nil {
		return err
	}
	if n.hook.name == HookXDP {
		if err := n.ensureXDP(ctx, p, ps, w); err != nil {
			return err
		}
	} else if err := n.dropXDP(ctx, p, w); err != nil {
		return err
	}
	if n.hook.tcx {
		return n.dropFilter(ctx, p.ns, w.inside)
	}
	return n.dropLink(ctx, p, linkTCX)
}

// wantedLink is one link as it shall be.
type wantedLink struct {
	name    string
	program *ebpf.Program
	// attached tells whether a link is where it should be.
	attached func(link.Link) (bool, error)
	attach   func() (link.Link, error)
}

// ensureLink attaches what is not attached and replaces the program of a link that
// is: the packets of one moment see the old one, those of the next the new one.
func (n *Node) ensureLink(ctx context.Context, p *pool, want wantedLink) error {
	pin := filepath.Join(linkPins, want.name)
	have := p.attached.named()[want.name]
	if *have != nil {
		attached, err := want.attached(*have)
		if err != nil {
			return err
		}
		if attached {
			return n.updateLink(ctx, *have, want)
		}
	}
	if err := n.step(ctx, "attach "+want.name); err != nil {
		return err
	}
	fresh, err := want.attach()
	if err != nil {
		return fmt.Errorf("attach %s: %w", want.name, err)
	}
	if err := n.step(ctx, "pin link "+want.name); err != nil {
		fresh.Close()
		return err
	}
	if err := p.pins.put(pin, fresh); err != nil {
		fresh.Close()
		return err
	}
	if *have != nil {
		(*have).Close()
	}
	*have = fresh
	return nil
}

// updateLink makes the link run the wanted program.
func (n *Node) updateLink(ctx context.Context, have link.Link, want wantedLink) error {
	info, err := have.Info()
	if err != nil {
		return fmt.Errorf("look at link %s: %w", want.name, err)
	}
	id, err := programID(want.program)
	if err != nil || info.Program == id {
		return err
	}
	if err := n.step(ctx, "update "+want.name); err != nil {
		return err
	}
	if err := have.Update(want.program); err != nil {
		return fmt.Errorf("replace program of %s: %w", want.name, err)
	}
	return nil
}

// dropLink detaches and unpins a link; one that is not there is no error.
func (n *Node) dropLink(ctx context.Context, p *pool, name string) error {
	have := p.attached.named()[name]
	if *have == nil {
		return nil
	}
	if err := n.step(ctx, "detach "+name); err != nil {
		return err
	}
	if err := p.pins.drop(filepath.Join(linkPins, name)); err != nil {
		return err
	}
	// The link may be pinned elsewhere, by a stranger, and must not live on there.
	err := (*have).Detach()
	(*have).Close()
	*have = nil
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("detach %s: %w", name, err)
	}
	return nil
}

// tcxLink attaches tc_lb ahead of whatever else there is.
func (n *Node) tcxLink(p *pool, ps *programs, w wiring) wantedLink {
	device := w.inside.Attrs().Index
	return wantedLink{
		name: linkTCX, program: ps.tc,
		attached: func(l link.Link) (bool, error) {
			order, err := tcxOrder(p.ns, device)
			if err != nil {
				return false, err
			}
			info, err := l.Info()
			if err != nil {
				return false, fmt.Errorf("look at link %s: %w", linkTCX, err)
			}
			for _, id := range order {
				if id == info.ID {
					return true, nil
				}
			}
			return false, nil
		},
		attach: func() (l link.Link, err error) {
			err = p.ns.do(func() error {
				l, err = link.AttachTCX(link.TCXOptions{
					Interface: device, Program: ps.tc, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
				})
				return err
			})
			return l, err
		},
	}
}

// tcxOrder returns the links that are attached to the device's ingress, in the
// order in which they see a packet. 0 is a program without a link.
func tcxOrder(ns *namespace, device int) (order []link.ID, err error) {
	err = ns.do(func() error {
		found, err := link.QueryPrograms(link.QueryOptions{Target: device, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("look at tcx: %w", err)
		}
		for _, program := range found.Programs {
			id, _ := program.LinkID()
			order = append(order, id)
		}
		return nil
	})
	return order, err
}

// The filter's place among those of the device. The handle is what makes replacing
// it atomic: the kernel then swaps the program in place.
const (
	filterPriority = 1
	filterHandle   = 1
)

func newFilter(program *ebpf.Program, device int) *netlink.BpfFilter {
	const everyProtocol = 0x0003 // ETH_P_ALL
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: device, Parent: netlink.HANDLE_MIN_INGRESS,
			Handle: filterHandle, Priority: filterPriority, Protocol: everyProtocol,
		},
		Name: programTC, DirectAction: true,
	}
	if program != nil {
		f.Fd = program.FD()
	}
	return f
}

// ensureFilter attaches tc_lb as a classic tc filter.
func (n *Node) ensureFilter(ctx context.Context, p *pool, ps *programs, w wiring) error {
	id, err := programID(ps.tc)
	if err != nil {
		return err
	}
	has, attached, err := findFilter(p.ns, w.inside)
	if err != nil || attached == id {
		return err
	}
	device := w.inside.Attrs().Index
	if !has {
		if err := n.step(ctx, "add clsact"); err != nil {
			return err
		}
		if err := p.ns.routes.QdiscAdd(newClsact(device)); err != nil {
			return fmt.Errorf("add clsact to %s: %w", w.inside.Attrs().Name, err)
		}
	}
	if err := n.step(ctx, "attach filter"); err != nil {
		return err
	}
	if err := p.ns.routes.FilterReplace(newFilter(ps.tc, device)); err != nil {
		return fmt.Errorf("attach filter to %s: %w", w.inside.Attrs().Name, err)
	}
	return nil
}

func newClsact(device int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: device, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// findFilter tells whether the device has a clsact qdisc and which program our
// filter there runs, 0 if there is none.
func findFilter(ns *namespace, inside netlink.Link) (clsact bool, _ ebpf.ProgramID, _ error) {
	qdiscs, err := dump(func() ([]netlink.Qdisc, error) { return ns.routes.QdiscList(inside) })
	if err != nil {
		return false, 0, fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range qdiscs {
		clsact = clsact || q.Type() == "clsact"
	}
	if !clsact {
		return false, 0, nil
	}
	filters, err := dump(func() ([]netlink.Filter, error) {
		return ns.routes.FilterList(inside, netlink.HANDLE_MIN_INGRESS)
	})
	if err != nil {
		return true, 0, fmt.Errorf("list filters: %w", err)
	}
	for _, f := range filters {
		bpf, ok := f.(*netlink.BpfFilter)
		if ok && bpf.Handle == filterHandle && bpf.Priority == filterPriority && bpf.DirectAction {
			return true, ebpf.ProgramID(bpf.Id), nil
		}
	}
	return true, 0, nil
}

// dropFilter removes the filter together with its qdisc: the device is ours.
func (n *Node) dropFilter(ctx context.Context, ns *namespace, inside netlink.Link) error {
	clsact, _, err := findFilter(ns, inside)
	if err != nil || !clsact {
		return err
	}
	if err := n.step(ctx, "remove clsact"); err != nil {
		return err
	}
	if err := ns.routes.QdiscDel(newClsact(inside.Attrs().Index)); err != nil {
		return fmt.Errorf("remove clsact from %s: %w", inside.Attrs().Name, err)
	}
	return nil
}
