package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"qlbaas/tests/lab"
)

// Names of what joins the subnet with the external network.
const (
	externalBridge  = "br-ex"
	externalNetwork = "ext-net"
	externalSubnet  = "ext-subnet"
	routerName      = "gate"
)

// floatingIP gives the VIP an address on the external network, by a router of the
// service's own, and takes all of it away again.
func (d *demo) floatingIP(ctx context.Context) error {
	d.say("So far a ready-made router has led to the subnet. One of the service's own takes its\n"+
		"place, between the subnet and an external network on another bridge, %s.", externalBridge)
	outside, err := d.goOutside()
	if err != nil {
		return err
	}
	routerID, err := d.createRouter(ctx)
	if err != nil {
		return err
	}
	floating, err := d.show(ctx, "floatingip", "create", externalNetwork)
	if err != nil {
		return err
	}
	address := floating.text("floating_ip_address")
	d.saw("floating IP %s, %s", address, floating.text("status"))
	if err := d.change(ctx, "floatingip", "associate", floating.text("id"), d.portID); err != nil {
		return err
	}
	at := address + ":80"
	if err := until(ctx, patience, func() error { return askAt(ctx, outside, at, impatience).err }); err != nil {
		return err
	}
	const n = 20
	d.typed("ip", "netns", "exec", outsideHost, "curl", "http://"+address+"/")
	var who []string
	for range n {
		a := askAt(ctx, outside, at, patience)
		if a.err != nil {
			return a.err
		}
		who = append(who, a.who)
	}
	if err := alternate(who, "WEB1", "WEB2"); err != nil {
		return err
	}
	d.saw("%d requests from %s to %s: %s, strictly in turn", n, d.net.ClientAddress, address, tally(who))
	if err := d.change(ctx, "floatingip", "disassociate", floating.text("id")); err != nil {
		return err
	}
	err = until(ctx, patience, func() error {
		if a := askAt(ctx, outside, at, impatience); a.err == nil {
			return fmt.Errorf("%s still answers at %s", a.who, address)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.saw("nobody answers at %s", address)
	return d.leaveOutside(ctx, routerID, floating.text("id"))
}

// goOutside takes the ready-made router off the subnet and puts a host onto the external
// network, with the client's address.
func (d *demo) goOutside() (*lab.Host, error) {
	if err := d.net.Router.SetDown("inside"); err != nil {
		return nil, err
	}
	if err := d.net.Node.Bridge(externalBridge); err != nil {
		return nil, err
	}
	outside, err := d.lab.Host("outside")
	if err != nil {
		return nil, err
	}
	return outside, d.lab.Link(
		lab.End{Host: outside, Device: lab.Uplink, Addresses: []netip.Prefix{netip.PrefixFrom(d.net.ClientAddress, 24)}},
		lab.End{Host: d.net.Node, Device: "port-outside", Bridge: externalBridge}, 0)
}

func (d *demo) createRouter(ctx context.Context) (id string, err error) {
	for _, words := range [][]string{
		{"net", "create", externalNetwork, "--router:external", "True", "--provider:physical_network", externalBridge},
		{
			"subnet", "create", externalNetwork, "10.10.10.0/24", "--name", externalSubnet, "--gateway", "10.10.10.1",
			"--allocation-pool", "start=10.10.10.6,end=10.10.10.99",
		},
	} {
		if err := d.change(ctx, words...); err != nil {
			return "", err
		}
	}
	router, err := d.show(ctx, "router", "create", routerName)
	if err != nil {
		return "", err
	}
	id = router.text("id")
	if !uuid.MatchString(id) {
		return "", fmt.Errorf("the router's id is %q, want a UUID", id)
	}
	if err := remember(d.place.routers, id); err != nil {
		return "", err
	}
	for _, words := range [][]string{
		{"router", "gateway-set", routerName, externalNetwork},
		{"router", "interface-add", routerName, subnetName},
	} {
		if err := d.change(ctx, words...); err != nil {
			return "", err
		}
	}
	return id, until(ctx, patience, func() error { return d.routerIs(ctx, "ACTIVE") })
}

func (d *demo) routerIs(ctx context.Context, want string) error {
	out, err := d.quietly(ctx, "router", "show", routerName, "-o", "json")
	if err != nil {
		return fatal(err)
	}
	router, err := decode[object](out)
	if err != nil {
		return fatal(err)
	}
	if got := router.text("status"); got != want {
		return fmt.Errorf("router is %s (%v), want %s", got, router["status_description"], want)
	}
	return nil
}

// leaveOutside deletes the router and its networks, and puts the ready-made one back.
func (d *demo) leaveOutside(ctx context.Context, routerID, floatingID string) error {
	for _, words := range [][]string{
		{"floatingip", "delete", floatingID},
		{"router", "interface-delete", routerName, subnetName},
		{"router", "gateway-clear", routerName},
		{"router", "delete", routerName},
		{"subnet", "delete", externalSubnet},
		{"net", "delete", externalNetwork},
	} {
		if err := d.change(ctx, words...); err != nil {
			return err
		}
	}
	name := routerNamespace(routerID)
	err := until(ctx, patience, func() error {
		if _, err := os.Lstat("/run/netns/" + name); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("namespace %s is left (%w)", name, orNone(err))
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.saw("the namespace %s is gone", name)
	if err := d.net.Router.SetUp("inside"); err != nil {
		return err
	}
	return until(ctx, patience, func() error { return ask(ctx, d.client(), impatience).err })
}
