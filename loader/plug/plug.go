// Package plug holds the interface drivers: how the device of a port joins its network.
//
//	linuxbridge   bridge ── tap<port> ┄┄ veth ┄┄ inside device
//	openvswitch   OVS bridge ── tap<port> ┄┄ veth ┄┄ inside device; VLANs by the port's tag
//	macvlan       LAN device ┄┄ macvlan, bridge mode ┄┄ inside device; nothing outside
//
// The bridge or LAN device is in the network namespace of the daemon and named by the
// network.
//
// Open vSwitch keeps its ports in a database that outlives devices and reboots. So
// every port says there whose it is, by which it is found when nothing else is left.
//
// A macvlan's frames go out by the LAN device beside the host's own stack: the host
// itself cannot reach what is behind it, nor the other way round.
//
// Where the driver is changed, devices are made anew by the next Apply. Only leaving
// openvswitch needs a hand: no other driver asks its database, so that its pools and
// routers are to be removed before.
package plug

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/change"
	"qlbaas/loader/ovsdb"
	"qlbaas/loader/rtnl"
)

// Names of the drivers.
const (
	LinuxBridge = "linuxbridge"
	OpenVSwitch = "openvswitch"
	Macvlan     = "macvlan"
)

// Names lists the drivers.
func Names() []string { return []string{LinuxBridge, OpenVSwitch, Macvlan} }

// ErrUnknown says that there is no driver of a name.
var ErrUnknown = errors.New("unknown interface driver")

// Port is what is plugged in.
type Port struct {
	// ID is the port's UUID, Owner the alias of its outside device.
	ID, Owner string
	// Inside names the device in the namespace, MAC is its address.
	Inside string
	MAC    net.HardwareAddr
	// Network names the bridge or LAN device.
	Network string
	VLAN    uint16
}

// Network is a network as it is found on this node.
type Network struct {
	// Index is that of the bridge or LAN device, 0 where the switch has none.
	Index int
	// MTU is what its devices carry.
	MTU int
	// WholeSums: a switch in userspace passes frames on as they are, so that nothing may
	// be left to a device to finish.
	WholeSums bool
}

// Driver joins devices to networks.
type Driver interface {
	// Pairs tells whether a port is a veth pair, whose outside end joins the network; else
	// the inside device is all there is.
	Pairs() bool
	// Check refuses what the driver can never do.
	Check(vlan uint16) error
	// Find looks for a network.
	Find(ctx context.Context, routes *netlink.Handle, name string) (Network, error)
	// Join makes the outside device a port of its network, and tells whether it was none.
	Join(ctx context.Context, steps change.Steps, routes *netlink.Handle, outside netlink.Link, p Port) (joined bool, err error)
	// Leave takes the port of that name out of the switch's own books.
	Leave(ctx context.Context, steps change.Steps, device string) error
	// Sweep does so with all ports of an owner but those to be kept.
	Sweep(ctx context.Context, steps change.Steps, owner string, keep ...string) error
	// Owners lists who has ports in these books.
	Owners(ctx context.Context) ([]string, error)
}

// New returns the driver of that name, linuxbridge for none; database is the socket of
// Open vSwitch's, empty for the usual one. xdp refuses drivers without a place for it.
func New(name, database string, xdp bool) (Driver, error) {
	switch name {
	case "", LinuxBridge:
		return bridges{}, nil
	case OpenVSwitch:
		if database == "" {
			database = ovsdb.Socket
		}
		return &switches{ovsdb.DB{Path: strings.TrimPrefix(database, "unix:")}}, nil
	case Macvlan:
		if xdp {
			return nil, errors.New("interface driver macvlan has no XDP: take hook tcx or clsact")
		}
		return macvlans{}, nil
	}
	return nil, fmt.Errorf("%w %q: known are %s", ErrUnknown, name, strings.Join(Names(), ", "))
}

// noBooks is for drivers whose devices are all there is to know.
type noBooks struct{}

func (noBooks) Leave(context.Context, change.Steps, string) error            { return nil }
func (noBooks) Sweep(context.Context, change.Steps, string, ...string) error { return nil }
func (noBooks) Owners(context.Context) ([]string, error)                     { return nil, nil }

// bridges is the driver linuxbridge.
type bridges struct{ noBooks }

func (bridges) Pairs() bool { return true }

func (bridges) Check(vlan uint16) error { return untagged(LinuxBridge, vlan) }

func untagged(driver string, vlan uint16) error {
	if vlan != 0 {
		return fmt.Errorf("interface driver %s joins untagged networks only, and provider:segmentation_id is %d; %s joins VLANs",
			driver, vlan, OpenVSwitch)
	}
	return nil
}

func (bridges) find(routes *netlink.Handle, name string) (netlink.Link, error) {
	bridge, err := rtnl.LinkByName(routes, name)
	if err != nil {
		return nil, err
	}
	if bridge == nil {
		return nil, fmt.Errorf("bridge %q is not in the network namespace of the daemon", name)
	}
	if bridge.Type() != "bridge" {
		return nil, fmt.Errorf("device %q is not a bridge but %s", name, bridge.Type())
	}
	return bridge, nil
}

func (b bridges) Find(_ context.Context, routes *netlink.Handle, name string) (Network, error) {
	bridge, err := b.find(routes, name)
	if err != nil {
		return Network{}, err
	}
	return Network{Index: bridge.Attrs().Index, MTU: bridge.Attrs().MTU}, nil
}

func (b bridges) Join(ctx context.Context, steps change.Steps, routes *netlink.Handle, outside netlink.Link, p Port) (bool, error) {
	bridge, err := b.find(routes, p.Network)
	if err != nil || outside.Attrs().MasterIndex == bridge.Attrs().Index {
		return false, err
	}
	if err := steps.Step(ctx, "join bridge"); err != nil {
		return false, err
	}
	if err := routes.LinkSetMaster(outside, bridge); err != nil {
		return false, fmt.Errorf("join %s to bridge %s: %w", outside.Attrs().Name, p.Network, err)
	}
	return true, nil
}
