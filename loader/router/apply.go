package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf/link"

	"qlbaas/loader/change"
	"qlbaas/loader/device"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
)

// Apply makes the router on this node look as r says, changing only what differs. It can
// be repeated, also after a crash in the middle; a router that was not there before is taken
// away again when it fails. Errors are ErrInvalid or what the kernel says.
func (n *Node) Apply(ctx context.Context, r Router) error {
	err := r.validate()
	if err == nil {
		err = n.admitsVLANs(&r)
	}
	if err != nil {
		return fmt.Errorf("apply router: %w", err)
	}
	have, err := n.acquire(r.ID)
	if err != nil {
		return fmt.Errorf("apply router %s: %w", r.ID, err)
	}
	defer n.release(have)
	wanted := r.clone()
	if err := n.ensureAll(ctx, have, wanted); err != nil {
		err = fmt.Errorf("apply router %s: %w", r.ID, err)
		if !have.complete {
			err = errors.Join(err, n.remove(context.WithoutCancel(ctx), have))
		}
		have.note(err)
		return err
	}
	have.wanted, have.complete = wanted, true
	have.note(nil)
	return nil
}

// admitsVLANs returns ErrInvalid for a network that the node's interface driver cannot join.
func (n *Node) admitsVLANs(r *Router) error {
	for _, l := range r.legs() {
		if err := n.driver.Check(l.VLAN); err != nil {
			return fmt.Errorf("leg %s: %w: %w", l.PortID, ErrInvalid, err)
		}
	}
	return nil
}

// ensureAll compares the router with what is wanted and mends what differs. Every change
// goes through step; so with a dry run's context this is the comparison.
//
// Rules come before packets, so that nothing crosses that may not, and the programs before
// the addresses that only they, and the rules, are to answer for.
func (n *Node) ensureAll(ctx context.Context, r *router, w *Router) error {
	if err := n.ensureNamespace(ctx, r); err != nil {
		return err
	}
	if err := n.ensureRules(ctx, r, w); err != nil {
		return err
	}
	wires, err := n.ensureLegs(ctx, r, w)
	if err != nil {
		return err
	}
	if err := n.ensureSettings(ctx, r, wires); err != nil {
		return err
	}
	if err := n.ensurePrograms(ctx, r); err != nil {
		return err
	}
	if err := n.ensureTables(ctx, r, w, wires); err != nil {
		return err
	}
	for _, wire := range wires {
		if err := n.ensureAttached(ctx, r, wire); err != nil {
			return err
		}
	}
	if err := n.dropLinks(ctx, r, wires); err != nil {
		return err
	}
	if err := n.dropOldPrograms(ctx, r); err != nil {
		return err
	}
	if err := r.pins.Repair(ctx, n.steps(), r.wantedPins()); err != nil {
		return err
	}
	if err := n.ensureTraffic(ctx, r, w, wires); err != nil {
		return err
	}
	return n.recordStatus(r, w, wires)
}

func (n *Node) ensureNamespace(ctx context.Context, r *router) error {
	if r.ns != nil {
		if err := r.ns.Rename(ctx, n.steps()); err != nil {
			return err
		}
	} else {
		ns, err := netspace.Ensure(ctx, n.steps(), namespaceName(r.id))
		if err != nil {
			return err
		}
		r.setNamespace(ns)
	}
	lo, err := rtnl.LinkByName(r.ns.Routes, "lo")
	if err != nil || lo == nil {
		return err
	}
	_, err = device.SetUp(ctx, n.steps(), r.ns.Routes, lo, true)
	return err
}

// wantedPins are all pins that the router shall have, by name.
func (r *router) wantedPins() map[string]any {
	wanted := map[string]any{}
	for name, m := range r.tables.Names() {
		wanted[filepath.Join(mapPins, name)] = m
	}
	for name, program := range r.programs.named() {
		if *program != nil {
			wanted[filepath.Join(programPins, r.programs.build, name)] = *program
		}
	}
	for name, l := range r.links {
		if *l != nil {
			wanted[filepath.Join(linkPins, name)] = *l
		}
	}
	return wanted
}

// ensureTraffic lets packets in, or keeps them out while the router is admin-down.
func (n *Node) ensureTraffic(ctx context.Context, r *router, w *Router, wires []*wire) error {
	if !change.IsDryRun(ctx) {
		r.quieten(shouts(w, wires))
	}
	for _, wire := range wires {
		if err := n.ensureLegUp(ctx, r, w, wire); err != nil {
			return err
		}
	}
	if !w.AdminUp {
		clear(r.announce)
		return nil
	}
	if err := n.ensureRoutes(ctx, r, w, wires); err != nil {
		return err
	}
	for _, wire := range wires {
		if err := n.ensureNeighbours(ctx, r, w, wire); err != nil {
			return err
		}
	}
	return n.announceAll(ctx, r, wires)
}

// ensureLegUp plugs the leg in, gives it its addresses and sets it up or down.
func (n *Node) ensureLegUp(ctx context.Context, r *router, w *Router, wire *wire) error {
	joined, err := n.join(ctx, r, wire)
	if err != nil {
		return err
	}
	if err := n.ensureAddresses(ctx, r, w, wire); err != nil {
		return err
	}
	came, err := device.SetUp(ctx, n.steps(), r.ns.Routes, wire.inside, w.AdminUp)
	if err != nil {
		return err
	}
	if !w.AdminUp || !joined && !came {
		return nil
	}
	r.tell(wire.leg, wire.addresses(w)...)
	if wire.outside != nil {
		if err := device.AwaitCarrier(ctx, r.log, n.routes, wire.outside.Attrs().Index); err != nil {
			return err
		}
	}
	return device.AwaitCarrier(ctx, r.log, r.ns.Routes, wire.inside.Attrs().Index)
}

func (n *Node) recordStatus(r *router, w *Router, wires []*wire) error {
	info, err := r.programs.tc.Info()
	if err != nil {
		return fmt.Errorf("look at program: %w", err)
	}
	r.data.Lock()
	defer r.data.Unlock()
	r.status = Status{
		RouterID: r.id, Namespace: namespaceName(r.id), Tag: info.Tag, Hook: n.hook,
		Floating: len(w.floating()), LastError: r.status.LastError,
	}
	for _, wire := range wires {
		if wire.leg.external {
			r.status.External = wire.inside.Attrs().Name
		}
	}
	return nil
}

// linkOf is the place of one of the router's links.
func (r *router) linkOf(name string) *link.Link {
	if r.links[name] == nil {
		r.links[name] = new(link.Link)
	}
	return r.links[name]
}
