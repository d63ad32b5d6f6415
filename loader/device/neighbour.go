package device

import (
	"context"
	"fmt"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
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

// ManageNeighbours hands the next hops beyond a device to the kernel, and takes those back
// that are none any more. Others on the network come and go by themselves. The family is
// netlink.FAMILY_V4 or FAMILY_V6.
func ManageNeighbours(ctx context.Context, steps change.Steps, routes *netlink.Handle, link netlink.Link, family int, hops map[netip.Addr]bool) error {
	index, missing := link.Attrs().Index, maps.Clone(hops)
	found, err := rtnl.Dump(func() ([]netlink.Neigh, error) { return routes.NeighList(index, family) })
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, neighbour := range found {
		addr, ok := netip.AddrFromSlice(neighbour.IP)
		managed := neighbour.FlagsExt&netlink.NTF_EXT_MANAGED != 0
		switch addr = addr.Unmap(); {
		case !ok || !managed:
		case missing[addr]:
			delete(missing, addr)
		default:
			if err := steps.Step(ctx, "release neighbour"); err != nil {
				return err
			}
			if err := routes.NeighDel(&neighbour); err != nil {
				return fmt.Errorf("release neighbour %s: %w", addr, err)
			}
		}
	}
	for addr := range missing {
		if err := steps.Step(ctx, "manage neighbour"); err != nil {
			return err
		}
		err := routes.NeighSet(&netlink.Neigh{
			LinkIndex: index, Family: family, IP: addr.AsSlice(),
			Flags: neighbourFlags, FlagsExt: neighbourExtFlags,
		})
		if err != nil {
			return fmt.Errorf("manage neighbour %s: %w", addr, err)
		}
	}
	return nil
}
