package loader

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/rtnl"
)

// carrierPatience bounds the wait for a device's carrier; the kernel may take a
// second over such news.
const carrierPatience = 2 * time.Second

// awaitCarrier waits until a device that was set up is in operation. The kernel
// finishes that in the background: until then a bridge takes no frames from its
// port, so that announcements and the first answers to ARP would be lost. A device
// that does not get there is reported and no error: it may yet come.
func (n *Node) awaitCarrier(ctx context.Context, routes *netlink.Handle, device int) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(carrierPatience); time.Now().Before(end); {
		link, err := rtnl.LinkByIndex(routes, device)
		if err != nil {
			return err
		}
		if link == nil || link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	n.log.Warn("device has no carrier", "index", device, "after", carrierPatience)
	return nil
}
