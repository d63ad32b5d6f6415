package loader

import (
	"context"
	"net/netip"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/device"
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

// ensureNeighbours leaves the next hops to the kernel to look after.
func (n *Node) ensureNeighbours(ctx context.Context, p *pool, b *Balancer, inside netlink.Link) error {
	return device.ManageNeighbours(ctx, n.steps(), p.ns.Routes, inside, b.family().number(), nextHops(b))
}
