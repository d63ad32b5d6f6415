// Package device changes network devices, and whom the kernel looks after behind them.
package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
	"qlbaas/loader/rtnl"
)

// Paired tells whether two devices of different namespaces are each other's peer.
func Paired(inside, outside netlink.Link) bool {
	return inside.Type() == "veth" && outside.Type() == "veth" &&
		inside.Attrs().ParentIndex == outside.Attrs().Index &&
		outside.Attrs().ParentIndex == inside.Attrs().Index
}

// Ours tells whether a device in a namespace of ours is of a kind that drivers put there.
func Ours(link netlink.Link) bool { return link.Type() == "veth" || link.Type() == "macvlan" }

// Delete deletes the device.
func Delete(ctx context.Context, steps change.Steps, routes *netlink.Handle, link netlink.Link) error {
	if err := steps.Step(ctx, "delete device"); err != nil {
		return err
	}
	if err := routes.LinkDel(link); err != nil {
		return fmt.Errorf("delete device %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// Rename takes the device down for a moment where the kernel wants that (before
// Linux 6.2).
func Rename(ctx context.Context, steps change.Steps, routes *netlink.Handle, link netlink.Link, name string) error {
	if link.Attrs().Name == name {
		return nil
	}
	if err := steps.Step(ctx, "rename device"); err != nil {
		return err
	}
	err := routes.LinkSetName(link, name)
	if errors.Is(err, unix.EBUSY) {
		if err := routes.LinkSetDown(link); err != nil {
			return fmt.Errorf("set %s down: %w", link.Attrs().Name, err)
		}
		err = routes.LinkSetName(link, name)
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", link.Attrs().Name, name, err)
	}
	return nil
}

// SetMTU sets the device's MTU.
func SetMTU(ctx context.Context, steps change.Steps, routes *netlink.Handle, link netlink.Link, mtu int) error {
	if link.Attrs().MTU == mtu {
		return nil
	}
	if err := steps.Step(ctx, "set MTU"); err != nil {
		return err
	}
	if err := routes.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set MTU of %s to %d: %w", link.Attrs().Name, mtu, err)
	}
	return nil
}

// IsUp tells whether the device is set up.
func IsUp(link netlink.Link) bool { return link.Attrs().RawFlags&unix.IFF_UP != 0 }

// SetUp makes a device's administrative state as wanted and tells whether it came up.
func SetUp(ctx context.Context, steps change.Steps, routes *netlink.Handle, link netlink.Link, up bool) (cameUp bool, err error) {
	if IsUp(link) == up {
		return false, nil
	}
	change, word := routes.LinkSetDown, "down"
	if up {
		change, word = routes.LinkSetUp, "up"
	}
	if err := steps.Step(ctx, "set device "+word); err != nil {
		return false, err
	}
	if err := change(link); err != nil {
		return false, fmt.Errorf("set %s %s: %w", link.Attrs().Name, word, err)
	}
	return up, nil
}

// carrierPatience bounds the wait for a device's carrier; the kernel may take a
// second over such news.
const carrierPatience = 2 * time.Second

// AwaitCarrier waits until a device that was set up is in operation. The kernel
// finishes that in the background: until then a bridge takes no frames from its
// port, so that announcements and the first answers to ARP would be lost. A device
// that does not get there is reported and no error: it may yet come.
func AwaitCarrier(ctx context.Context, log *slog.Logger, routes *netlink.Handle, device int) error {
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
	log.Warn("device has no carrier", "index", device, "after", carrierPatience)
	return nil
}
