package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/device"
	"qlbaas/loader/rtnl"
)

// wantedAddresses are those that the leg's device shall have: its own, and the floating IPs
// as hosts, so that neither a route nor another address hangs on them.
func (w *wire) wantedAddresses(r *Router) []netip.Prefix {
	wanted := []netip.Prefix{w.leg.Address}
	for _, a := range w.addresses(r)[1:] {
		wanted = append(wanted, netip.PrefixFrom(a, a.BitLen()))
	}
	return wanted
}

// ensureAddresses makes the wanted addresses the device's only ones.
func (n *Node) ensureAddresses(ctx context.Context, r *router, w *Router, wire *wire) error {
	found, err := rtnl.Dump(func() ([]netlink.Addr, error) { return r.ns.Routes.AddrList(wire.inside, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", wire.inside.Attrs().Name, err)
	}
	missing := map[netip.Prefix]bool{}
	for _, a := range wire.wantedAddresses(w) {
		missing[a] = true
	}
	for _, a := range found {
		if at := rtnl.Prefix(a.IPNet); missing[at] && a.Flags&unix.IFA_F_SECONDARY == 0 {
			delete(missing, at)
			continue
		}
		if err := n.step(ctx, "delete address"); err != nil {
			return err
		}
		err := r.ns.Routes.AddrDel(wire.inside, &a)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s from %s: %w", a.IPNet, wire.inside.Attrs().Name, err)
		}
	}
	for _, a := range wire.wantedAddresses(w) {
		if !missing[a] {
			continue
		}
		if err := n.step(ctx, "add address"); err != nil {
			return err
		}
		if err := r.ns.Routes.AddrAdd(wire.inside, &netlink.Addr{IPNet: rtnl.IPNet(a)}); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, wire.inside.Attrs().Name, err)
		}
		r.tell(wire.leg, a.Addr())
	}
	return nil
}

// wantedRoutes are those of the main table. The networks' own come with the addresses, and
// can be flushed.
func wantedRoutes(w *Router, wires []*wire) []netlink.Route {
	var wanted []netlink.Route
	for _, wire := range wires {
		index, l := wire.inside.Attrs().Index, wire.leg
		wanted = append(wanted, netlink.Route{
			LinkIndex: index, Dst: rtnl.IPNet(l.Address.Masked()), Src: l.Address.Addr().AsSlice(),
			Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_KERNEL, Table: unix.RT_TABLE_MAIN,
		})
		if l.external && l.Gateway.IsValid() {
			wanted = append(wanted, netlink.Route{
				LinkIndex: index, Dst: rtnl.IPNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Gw: l.Gateway.AsSlice(),
				Src: l.Address.Addr().AsSlice(), Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN,
			})
		}
		for _, route := range w.Routes {
			if l.Address.Contains(route.NextHop) {
				wanted = append(wanted, netlink.Route{
					LinkIndex: index, Dst: rtnl.IPNet(route.Destination.Masked()), Gw: route.NextHop.AsSlice(),
					Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN,
				})
			}
		}
	}
	return wanted
}

// ensureRoutes makes the wanted routes, and deletes those by next hops that nobody wants.
// The legs must be up.
func (n *Node) ensureRoutes(ctx context.Context, r *router, w *Router, wires []*wire) error {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	found, err := rtnl.Dump(func() ([]netlink.Route, error) {
		return r.ns.Routes.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	wanted := wantedRoutes(w, wires)
	for _, want := range wanted {
		if slices.ContainsFunc(found, func(r netlink.Route) bool { return sameRoute(r, want) }) {
			continue
		}
		if err := n.step(ctx, "set route"); err != nil {
			return err
		}
		if err := r.ns.Routes.RouteReplace(&want); err != nil {
			return fmt.Errorf("set route to %s: %w", want.Dst, err)
		}
	}
	for _, have := range found {
		if slices.ContainsFunc(wanted, func(r netlink.Route) bool { return sameDestination(r, have) }) {
			continue // it is wanted, or was replaced
		}
		if err := n.step(ctx, "delete route"); err != nil {
			return err
		}
		if err := r.ns.Routes.RouteDel(&have); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route to %s: %w", have.Dst, err)
		}
	}
	return nil
}

func sameDestination(a, b netlink.Route) bool { return destinationOf(a) == destinationOf(b) }

func sameRoute(have, want netlink.Route) bool {
	return have.LinkIndex == want.LinkIndex && sameDestination(have, want) && have.Gw.Equal(want.Gw) &&
		have.Flags&unix.RTNH_F_DEAD == 0
}

func destinationOf(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return rtnl.Prefix(r.Dst)
}

// nextHops are the neighbours on the leg's network that programs send to.
func (wire *wire) nextHops(w *Router) map[netip.Addr]bool {
	hops := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if a.IsValid() && wire.leg.Address.Contains(a) {
			hops[a] = true
		}
	}
	for _, f := range w.floating() {
		add(f.Fixed)
	}
	for _, route := range w.Routes {
		add(route.NextHop)
	}
	add(wire.leg.Gateway)
	return hops
}

// ensureNeighbours leaves the next hops to the kernel to look after.
func (n *Node) ensureNeighbours(ctx context.Context, r *router, w *Router, wire *wire) error {
	return device.ManageNeighbours(ctx, n.steps(), r.ns.Routes, wire.inside, netlink.FAMILY_V4, wire.nextHops(w))
}
