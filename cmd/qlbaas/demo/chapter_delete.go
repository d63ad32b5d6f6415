package demo

import (
	"context"
	"fmt"
)

// deleteAll deletes what the first chapters created, and sees that nothing is left.
func (d *demo) deleteAll(ctx context.Context) error {
	if err := d.change(ctx, "vip", "delete", vipName); err != nil {
		return err
	}
	if err := d.mustBeGone(ctx); err != nil {
		return err
	}
	d.saw("gone: the namespace %s, its devices, its pins, its configuration", poolNamespace(d.poolID))
	a := ask(ctx, d.client(), silence)
	if a.err == nil {
		return fmt.Errorf("%s answers at the address of a VIP that is deleted", a.who)
	}
	for _, words := range [][]string{
		{"monitor", "disassociate", d.monitorID, poolName},
		{"monitor", "delete", d.monitorID},
		{"member", "delete", d.memberIDs["WEB1"], d.memberIDs["WEB2"]},
		{"pool", "delete", poolName},
		{"subnet", "delete", subnetName},
		{"net", "delete", networkName},
	} {
		if err := d.change(ctx, words...); err != nil {
			return err
		}
	}
	for _, kind := range []string{"floatingip", "router", "pool", "vip", "member", "monitor", "port", "subnet", "net"} {
		left, err := d.list(ctx, kind, "list")
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("%d objects of kind %s are left: %v", len(left), kind, left)
		}
	}
	d.saw("all lists are empty")
	return d.stopAgent(ctx)
}
