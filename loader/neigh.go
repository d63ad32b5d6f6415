package loader

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/rtnl"
)

// Packets that a program forwards never confirm a neighbour: to the stack a member
// that is busy looks like one nobody talks to, and one that changed its MAC would be
// missed for minutes. So the addresses that programs forward to are handed to the
// kernel as managed neighbours (Linux 5.16): it resolves them, probes them again
// whenever they grow old, and does so without the daemon. "Learned" keeps them out of
// the neighbour table's garbage collection, whose limit of 1,024 entries is the
// machine's and not the namespace's.
const (
	neighbourFlags    = netlink.NTF_EXT_LEARNED | unix.NTF_USE
	neighbourExtFlags = netlink.NTF_EXT_MANAGED
)

// nextHops are the addresses on the VIP's subnet that packets are sent to.
func nextHops(b *Balancer) map[netip.Addr]bool {
	hops := map[netip.Addr]bool{}
	for _, m := range b.Members {
		if b.VIP.Address.Contains(m.Address.Addr()) {
			hops[m.Address.Addr()] = true
		}
	}
	if b.VIP.Gateway.IsValid() {
		hops[b.VIP.Gateway] = true
	}
	return hops
}

// ensureNeighbours hands the next hops to the kernel and takes those back that are
// none any more. Clients on the subnet come and go by themselves.
func (n *Node) ensureNeighbours(ctx context.Context, p *pool, b *Balancer, inside netlink.Link) error {
	device := inside.Attrs().Index
	found, err := rtnl.Dump(func() ([]netlink.Neigh, error) { return p.ns.Routes.NeighList(device, b.family().number()) })
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	hops := nextHops(b)
	for _, neighbour := range found {
		addr, ok := netip.AddrFromSlice(neighbour.IP)
		managed := neighbour.FlagsExt&netlink.NTF_EXT_MANAGED != 0
		switch addr = addr.Unmap(); {
		case !ok || !managed:
		case hops[addr]:
			delete(hops, addr)
		default:
			if err := n.step(ctx, "release neighbour"); err != nil {
				return err
			}
			if err := p.ns.Routes.NeighDel(&neighbour); err != nil {
				return fmt.Errorf("release neighbour %s: %w", addr, err)
			}
		}
	}
	for addr := range hops {
		if err := n.step(ctx, "manage neighbour"); err != nil {
			return err
		}
		err := p.ns.Routes.NeighSet(&netlink.Neigh{
			LinkIndex: device, Family: b.family().number(), IP: addr.AsSlice(),
			Flags: neighbourFlags, FlagsExt: neighbourExtFlags,
		})
		if err != nil {
			return fmt.Errorf("manage neighbour %s: %w", addr, err)
		}
	}
	return nil
}
