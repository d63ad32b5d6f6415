package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
)

// TestMacvlan: the agent puts a VIP onto a device of its node, and says why it cannot join a
// VLAN.
func TestMacvlan(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{}, "--interface-driver", "macvlan")
	w.lan("lan0")
	w.network, w.subnet = w.declare("lan0")
	b := w.balance(balancerOptions{})
	if err := inTurn(b.ask(4), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.kill9()
	w.start()
	if err := inTurn(b.ask(4), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.expect("interface driver macvlan joins untagged networks only")
	network := w.create(networks, object{
		"name": "tagged", "provider:physical_network": "lan0", "provider:network_type": "vlan", "provider:segmentation_id": 5,
	}).text("id")
	subnet := w.create(subnets, object{"network_id": network, "ip_version": 4, "cidr": "192.0.2.0/24"}).text("id")
	pool := w.create(pools, object{"name": "tagged", "subnet_id": subnet, "protocol": "TCP", "lb_method": "ROUND_ROBIN"}).text("id")
	w.create(vips, object{"name": "tagged", "pool_id": pool, "subnet_id": subnet, "protocol": "TCP", "protocol_port": 80})
	until(t, patience, func() error {
		seen := w.show(pools, pool)
		if said := seen.text("status_description"); seen.text("status") != "ERROR" || !strings.Contains(said, "openvswitch joins VLANs") {
			return fmt.Errorf("status %s: %s", seen.text("status"), said)
		}
		return nil
	})
}

// lan gives the node a device whose other end is on its bridge.
func (w *world) lan(name string) {
	w.t.Helper()
	node := w.Node.Netlink()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	pair := netlink.NewVeth(attrs)
	pair.PeerName = name + "-far"
	err := node.LinkAdd(pair)
	for _, device := range []string{name, pair.PeerName} {
		if err == nil {
			err = w.Node.SetUp(device)
		}
	}
	bridge, found := node.LinkByName(lab.BridgeName)
	far, there := node.LinkByName(pair.PeerName)
	for _, failed := range []error{err, found, there} {
		if failed != nil {
			w.t.Fatal(failed)
		}
	}
	if err := node.LinkSetMaster(far, bridge); err != nil {
		w.t.Fatal(err)
	}
}
