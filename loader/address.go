package loader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// defaultRoute is how netlink describes the destination of a default route.
var everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// addresses returns the IPv4 addresses of the inside device.
func addresses(ns *namespace, inside netlink.Link) ([]netlink.Addr, error) {
	found, err := dump(func() ([]netlink.Addr, error) { return ns.routes.AddrList(inside, unix.AF_INET) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", inside.Attrs().Name, err)
	}
	return found, nil
}

// ensureAddress makes the VIP the inside device's only address. The guard must be
// there: from here on the stack would answer for it.
func (n *Node) ensureAddress(ctx context.Context, p *pool, b *Balancer, inside netlink.Link) error {
	found, err := addresses(p.ns, inside)
	if err != nil {
		return err
	}
	present := false
	// The others go first: an address of a subnet that has one already is bound to it,
	// and goes with it.
	for _, a := range found {
		if prefixOf(a.IPNet) == b.VIP.Address && a.Flags&unix.IFA_F_SECONDARY == 0 {
			present = true
			continue
		}
		if err := n.step(ctx, "delete address"); err != nil {
			return err
		}
		err := p.ns.routes.AddrDel(inside, &a)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s from %s: %w", a.IPNet, inside.Attrs().Name, err)
		}
	}
	if present {
		return nil
	}
	if err := n.step(ctx, "add address"); err != nil {
		return err
	}
	if err := p.ns.routes.AddrAdd(inside, &netlink.Addr{IPNet: ipNet(b.VIP.Address)}); err != nil {
		return fmt.Errorf("add address %s to %s: %w", b.VIP.Address, inside.Attrs().Name, err)
	}
	p.announce = true
	return nil
}

// ensureRoutes makes the route to the subnet, which goes with the address and can be
// flushed, and the default route. The device must be up.
func (n *Node) ensureRoutes(ctx context.Context, p *pool, b *Balancer, inside netlink.Link) error {
	found, err := routesOf(p.ns)
	if err != nil {
		return err
	}
	for _, want := range wantedRoutes(b, inside) {
		if hasRoute(found, want) {
			continue
		}
		if err := n.step(ctx, "set route"); err != nil {
			return err
		}
		if err := p.ns.routes.RouteReplace(&want); err != nil {
			return fmt.Errorf("set route to %s: %w", want.Dst, err)
		}
	}
	for _, r := range found {
		if b.VIP.Gateway.IsValid() || prefixOf(r.Dst) != everywhere {
			continue
		}
		if err := n.step(ctx, "delete default route"); err != nil {
			return err
		}
		if err := p.ns.routes.RouteDel(&r); err != nil {
			return fmt.Errorf("delete default route: %w", err)
		}
	}
	return nil
}

func routesOf(ns *namespace) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	found, err := dump(func() ([]netlink.Route, error) {
		return ns.routes.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return found, nil
}

func wantedRoutes(b *Balancer, inside netlink.Link) []netlink.Route {
	device := inside.Attrs().Index
	wanted := []netlink.Route{{
		LinkIndex: device, Dst: ipNet(b.VIP.Address.Masked()), Src: b.VIP.Address.Addr().AsSlice(),
		Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_KERNEL, Table: unix.RT_TABLE_MAIN,
	}}
	if b.VIP.Gateway.IsValid() {
		wanted = append(wanted, netlink.Route{
			LinkIndex: device, Dst: ipNet(everywhere), Gw: b.VIP.Gateway.AsSlice(),
			Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN,
		})
	}
	return wanted
}

func hasRoute(found []netlink.Route, want netlink.Route) bool {
	for _, r := range found {
		if r.LinkIndex == want.LinkIndex && prefixOf(r.Dst) == prefixOf(want.Dst) && r.Gw.Equal(want.Gw) &&
			r.Flags&unix.RTNH_F_DEAD == 0 {
			return true
		}
	}
	return false
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf converts what netlink says; a nil network is a default route's.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return everywhere
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

// ensureLoopback sets the namespace's own loopback up, for those who look around in
// it with the usual tools.
func (n *Node) ensureLoopback(ctx context.Context, ns *namespace) error {
	lo, err := linkByName(ns.routes, "lo")
	if err != nil || lo == nil {
		return err
	}
	_, err = n.setUp(ctx, ns.routes, lo, true)
	return err
}
