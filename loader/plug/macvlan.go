package plug

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/change"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
)

// macvlans is the driver macvlan.
type macvlans struct{ noBooks }

func (macvlans) Pairs() bool { return false }

func (macvlans) Check(vlan uint16) error { return untagged(Macvlan, vlan) }

func (macvlans) Find(_ context.Context, routes *netlink.Handle, name string) (Network, error) {
	lan, err := rtnl.LinkByName(routes, name)
	if err != nil {
		return Network{}, err
	}
	if lan == nil {
		return Network{}, fmt.Errorf("LAN device %q is not in the network namespace of the daemon", name)
	}
	return Network{Index: lan.Attrs().Index, MTU: lan.Attrs().MTU}, nil
}

func (macvlans) Join(context.Context, change.Steps, *netlink.Handle, netlink.Link, Port) (bool, error) {
	return false, errors.New("a macvlan has no outside device") // nobody asks
}

// OnLAN tells whether a device is a macvlan in bridge mode on the LAN device.
func OnLAN(inside netlink.Link, lan Network) bool {
	m, ok := inside.(*netlink.Macvlan)
	return ok && m.Mode == netlink.MACVLAN_MODE_BRIDGE && m.ParentIndex == lan.Index
}

// MakeMacvlan makes a macvlan on the LAN device, right in the namespace, down.
func MakeMacvlan(ctx context.Context, steps change.Steps, routes *netlink.Handle, ns *netspace.Namespace, lan Network, p Port) error {
	if err := steps.Step(ctx, "make macvlan"); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = p.Inside, lan.MTU, p.MAC
	attrs.ParentIndex, attrs.Namespace = lan.Index, netlink.NsFd(ns.File.Fd())
	if err := routes.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return fmt.Errorf("make macvlan %s on %s: %w", p.Inside, p.Network, err)
	}
	return nil
}
