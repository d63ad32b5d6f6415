package loader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/device"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
)

// addresses returns the addresses of a family that the inside device has.
func addresses(ns *netspace.Namespace, f family, inside netlink.Link) ([]netlink.Addr, error) {
	found, err := rtnl.Dump(func() ([]netlink.Addr, error) { return ns.Routes.AddrList(inside, f.number()) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", inside.Attrs().Name, err)
	}
	return found, nil
}

// wantedAddresses are those that the inside device shall have: the VIP, the further source
// addresses and, for IPv6, a link-local one, from which the kernel asks for neighbours that
// it looks after by itself (device.ManageNeighbours). A device that is down loses that one,
// so it is not wanted there.
func wantedAddresses(b *Balancer) []netip.Prefix {
	wanted := append([]netip.Prefix{b.VIP.Address}, sourcePrefixes(b)...)
	if b.family() == ipv6 && b.VIP.AdminUp {
		wanted = append(wanted, netip.PrefixFrom(linkLocal(b.VIP.MAC), 64))
	}
	return wanted
}

// linkLocal is the address that hosts make of their MAC (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

// ensureAddress makes the wanted addresses the inside device's only ones. The guard
// must be there: from here on the stack would answer for the VIP.
func (n *Node) ensureAddress(ctx context.Context, p *pool, b *Balancer, inside netlink.Link) error {
	found, err := addresses(p.ns, b.family(), inside)
	if err != nil {
		return err
	}
	wanted := wantedAddresses(b)
	// The others go first: an address of a subnet that has one already is bound to it,
	// and goes with it.
	for _, a := range found {
		// Of an IPv6 address, the flag would say that it is a temporary one.
		at := slices.Index(wanted, rtnl.Prefix(a.IPNet))
		if at >= 0 && a.Flags&unix.IFA_F_SECONDARY == 0 {
			wanted = slices.Delete(wanted, at, at+1)
			continue
		}
		if err := n.step(ctx, "delete address"); err != nil {
			return err
		}
		err := p.ns.Routes.AddrDel(inside, &a)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s from %s: %w", a.IPNet, inside.Attrs().Name, err)
		}
	}
	return n.addAddresses(ctx, p, b, inside, wanted)
}

func (n *Node) addAddresses(ctx context.Context, p *pool, b *Balancer, inside netlink.Link, missing []netip.Prefix) error {
	for _, address := range missing {
		if err := n.step(ctx, "add address"); err != nil {
			return err
		}
		add := netlink.Addr{IPNet: rtnl.IPNet(address)}
		if b.family() == ipv6 {
			// Looking for duplicates would keep the VIP from answering for a second
			// or two, each time that its device comes up.
			add.Flags = unix.IFA_F_NODAD
		}
		if err := p.ns.Routes.AddrAdd(inside, &add); err != nil {
			return fmt.Errorf("add address %s to %s: %w", address, inside.Attrs().Name, err)
		}
		p.announce = true
	}
	return nil
}

// ensureSourceAddresses puts further source addresses on the device of a pool that is at
// work, before programs use them: members could not answer. The guard keeps the stack
// from answering them.
func (n *Node) ensureSourceAddresses(ctx context.Context, p *pool, b *Balancer, inside netlink.Link) error {
	if !p.complete || len(b.SNAT) == 0 {
		return nil
	}
	found, err := addresses(p.ns, b.family(), inside)
	if err != nil {
		return err
	}
	there := map[netip.Prefix]bool{}
	for _, a := range found {
		there[rtnl.Prefix(a.IPNet)] = true
	}
	missing := slices.DeleteFunc(sourcePrefixes(b), func(p netip.Prefix) bool { return there[p] })
	return n.addAddresses(ctx, p, b, inside, missing)
}

// ensureRoutes makes the route to the subnet, which goes with the address and can be
// flushed, and the default route. The device must be up.
func (n *Node) ensureRoutes(ctx context.Context, p *pool, b *Balancer, inside netlink.Link) error {
	everywhere := b.family().everywhere()
	found, err := routesOf(p.ns, b.family())
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
		if err := p.ns.Routes.RouteReplace(&want); err != nil {
			return fmt.Errorf("set route to %s: %w", want.Dst, err)
		}
	}
	for _, r := range found {
		if b.VIP.Gateway.IsValid() || rtnl.Prefix(r.Dst) != everywhere {
			continue
		}
		if err := n.step(ctx, "delete default route"); err != nil {
			return err
		}
		if err := p.ns.Routes.RouteDel(&r); err != nil {
			return fmt.Errorf("delete default route: %w", err)
		}
	}
	return nil
}

func routesOf(ns *netspace.Namespace, f family) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	found, err := rtnl.Dump(func() ([]netlink.Route, error) {
		return ns.Routes.RouteListFiltered(f.number(), filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for i := range found {
		if found[i].Dst == nil {
			found[i].Dst = rtnl.IPNet(f.everywhere())
		}
	}
	return found, nil
}

func wantedRoutes(b *Balancer, inside netlink.Link) []netlink.Route {
	device := inside.Attrs().Index
	wanted := []netlink.Route{{
		LinkIndex: device, Dst: rtnl.IPNet(b.VIP.Address.Masked()), Src: b.VIP.Address.Addr().AsSlice(),
		Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_KERNEL, Table: unix.RT_TABLE_MAIN,
	}}
	if b.VIP.Gateway.IsValid() {
		wanted = append(wanted, netlink.Route{
			LinkIndex: device, Dst: rtnl.IPNet(b.family().everywhere()), Gw: b.VIP.Gateway.AsSlice(),
			Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN,
		})
	}
	return wanted
}

func hasRoute(found []netlink.Route, want netlink.Route) bool {
	for _, r := range found {
		if r.LinkIndex == want.LinkIndex && rtnl.Prefix(r.Dst) == rtnl.Prefix(want.Dst) && r.Gw.Equal(want.Gw) &&
			r.Flags&unix.RTNH_F_DEAD == 0 {
			return true
		}
	}
	return false
}

// ensureLoopback sets the namespace's own loopback up, for those who look around in
// it with the usual tools.
func (n *Node) ensureLoopback(ctx context.Context, ns *netspace.Namespace) error {
	lo, err := rtnl.LinkByName(ns.Routes, "lo")
	if err != nil || lo == nil {
		return err
	}
	_, err = device.SetUp(ctx, n.steps(), ns.Routes, lo, true)
	return err
}
