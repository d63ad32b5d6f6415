package plug

import (
	"context"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/change"
	"qlbaas/loader/ovsdb"
	"qlbaas/loader/rtnl"
)

// ownerKey is the external id that says whose a port is.
const ownerKey = "qlbaas-owner"

// standardMTU is that of a switch without a device of its own.
const standardMTU = 1500

// switches is the driver openvswitch.
type switches struct{ db ovsdb.DB }

func (*switches) Pairs() bool { return true }

func (*switches) Check(uint16) error { return nil }

func (s *switches) Find(ctx context.Context, routes *netlink.Handle, name string) (Network, error) {
	userspace, err := s.db.Userspace(ctx, name)
	if err != nil {
		return Network{}, err
	}
	found := Network{MTU: standardMTU, WholeSums: userspace}
	local, err := rtnl.LinkByName(routes, name)
	if err == nil && local != nil {
		found.Index, found.MTU = local.Attrs().Index, local.Attrs().MTU
	}
	return found, err
}

// Join sets the ids by which agents of the network know a port.
func (s *switches) Join(ctx context.Context, steps change.Steps, routes *netlink.Handle, outside netlink.Link, p Port) (bool, error) {
	if err := s.leaveBridge(ctx, steps, routes, outside); err != nil {
		return false, err
	}
	wanted := &ovsdb.Port{
		Name: outside.Attrs().Name, Bridge: p.Network, VLAN: p.VLAN,
		IDs: map[string]string{
			"iface-id": p.ID, "iface-status": "active", "attached-mac": p.MAC.String(), ownerKey: p.Owner,
		},
	}
	state, err := s.db.Look(ctx, wanted.Name)
	if err != nil {
		return false, err
	}
	if state.Is(wanted) && state.OFPort > 0 {
		return false, nil
	}
	if err := steps.Step(ctx, "join Open vSwitch bridge"); err != nil {
		return false, err
	}
	if state.Error != "" { // the switch tries again with a port that comes anew
		if err := s.db.Drop(ctx, wanted.Name); err != nil {
			return false, err
		}
	}
	if err := s.db.Put(ctx, wanted); err != nil {
		return false, fmt.Errorf("join %s to Open vSwitch bridge %s: %w", wanted.Name, p.Network, err)
	}
	return true, s.db.Await(ctx, wanted.Name)
}

// leaveBridge takes the device off a Linux bridge, where another driver had put it.
func (s *switches) leaveBridge(ctx context.Context, steps change.Steps, routes *netlink.Handle, outside netlink.Link) error {
	index := outside.Attrs().MasterIndex
	if index == 0 {
		return nil
	}
	master, err := rtnl.LinkByIndex(routes, index)
	if err != nil || master == nil || master.Type() != "bridge" {
		return err
	}
	if err := steps.Step(ctx, "leave bridge"); err != nil {
		return err
	}
	if err := routes.LinkSetNoMaster(outside); err != nil {
		return fmt.Errorf("take %s off bridge %s: %w", outside.Attrs().Name, master.Attrs().Name, err)
	}
	return nil
}

func (s *switches) Leave(ctx context.Context, steps change.Steps, device string) error {
	state, err := s.db.Look(ctx, device)
	if err != nil || !state.Found {
		return err
	}
	if err := steps.Step(ctx, "leave Open vSwitch bridge"); err != nil {
		return err
	}
	return s.db.Drop(ctx, device)
}

func (s *switches) Sweep(ctx context.Context, steps change.Steps, owner string, keep ...string) error {
	devices, err := s.db.With(ctx, ownerKey, owner)
	if err != nil {
		return err
	}
	for device := range devices {
		if slices.Contains(keep, device) {
			continue
		}
		if err := s.Leave(ctx, steps, device); err != nil {
			return err
		}
	}
	return nil
}

func (s *switches) Owners(ctx context.Context) ([]string, error) {
	devices, err := s.db.With(ctx, ownerKey, "")
	if err != nil {
		return nil, err
	}
	var owners []string
	for _, owner := range devices {
		owners = append(owners, owner)
	}
	return owners, nil
}
