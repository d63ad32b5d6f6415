package router

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/device"
	"qlbaas/loader/plug"
	"qlbaas/loader/rtnl"
	"qlbaas/loader/setting"
)

// wire is a leg's devices as they are now: inside is the router's, outside the bridge's
// port, nil where the interface driver has none. Their attributes are those of the last look.
type wire struct {
	leg             *leg
	inside, outside netlink.Link
	network         plug.Network
}

// port is what is plugged in for a leg.
func (r *router) port(l *leg) plug.Port {
	return plug.Port{
		ID: l.PortID, Owner: deviceAlias(r.id), Inside: l.insideName(), MAC: l.MAC, Network: l.Bridge, VLAN: l.VLAN,
	}
}

// addresses are those that the leg answers for.
func (w *wire) addresses(r *Router) []netip.Addr {
	all := []netip.Addr{w.leg.Address.Addr()}
	if w.leg.external {
		for _, f := range r.floating() {
			all = append(all, f.Address)
		}
	}
	return all
}

// ensureLegs makes the legs' pairs, or mends them, and deletes those of legs that are gone.
// New devices come out down.
func (n *Node) ensureLegs(ctx context.Context, r *router, w *Router) ([]*wire, error) {
	var wires []*wire
	for _, l := range w.legs() {
		wire, err := n.ensureLeg(ctx, r, l)
		if err != nil {
			return nil, fmt.Errorf("leg %s: %w", l.PortID, err)
		}
		wires = append(wires, wire)
	}
	return wires, n.dropStrangers(ctx, r, wires)
}

func (n *Node) ensureLeg(ctx context.Context, r *router, l *leg) (*wire, error) {
	network, err := n.driver.Find(ctx, n.routes, l.Bridge)
	if err != nil {
		return nil, err
	}
	wire, err := n.findWire(r, l)
	if err != nil {
		return nil, err
	}
	if !n.whole(wire, network) {
		if wire, err = n.remakeWire(ctx, r, wire, network); err != nil {
			return nil, err
		}
	}
	if err := n.mendInside(ctx, r, wire, network.MTU); err != nil {
		return nil, err
	}
	if n.driver.Pairs() {
		if err := n.mendOutside(ctx, r, wire, network.MTU); err != nil {
			return nil, err
		}
	}
	if wire, err = n.findWire(r, l); err != nil {
		return nil, err
	}
	wire.network = network
	if network.WholeSums {
		err = n.offload(ctx, r, wire, false)
	}
	return wire, err
}

// whole tells whether the devices are those that the driver makes.
func (n *Node) whole(w *wire, network plug.Network) bool {
	if !n.driver.Pairs() {
		return w.outside == nil && w.inside != nil && plug.OnLAN(w.inside, network)
	}
	return w.inside != nil && w.outside != nil && device.Paired(w.inside, w.outside)
}

// findWire looks for the leg's pair by names and by who is whose peer. What is missing is
// nil.
func (n *Node) findWire(r *router, l *leg) (*wire, error) {
	w := &wire{leg: l}
	var err error
	if w.inside, err = rtnl.LinkByName(r.ns.Routes, l.insideName()); err != nil {
		return nil, err
	}
	if w.outside, err = rtnl.LinkByName(n.routes, l.outsideName()); err != nil {
		return nil, err
	}
	if w.inside == nil && w.outside != nil {
		peer, err := rtnl.LinkByIndex(r.ns.Routes, w.outside.Attrs().ParentIndex)
		if err == nil && peer != nil && device.Paired(peer, w.outside) {
			w.inside = peer
		}
		return w, err
	}
	if w.outside == nil && w.inside != nil {
		peer, err := rtnl.LinkByIndex(n.routes, w.inside.Attrs().ParentIndex)
		if err == nil && peer != nil && device.Paired(w.inside, peer) {
			w.outside = peer
		}
		return w, err
	}
	return w, nil
}

// remakeWire replaces what is left of the devices by new ones.
func (n *Node) remakeWire(ctx context.Context, r *router, old *wire, network plug.Network) (*wire, error) {
	if old.outside != nil {
		if id := old.outside.Attrs().Alias; old.outside.Type() != "veth" || id != "" && id != deviceAlias(r.id) {
			return nil, fmt.Errorf("device %s is there already and is not this router's", old.outside.Attrs().Name)
		}
		if err := device.Delete(ctx, n.steps(), n.routes, old.outside); err != nil {
			return nil, err
		}
	}
	if err := n.driver.Leave(ctx, n.steps(), old.leg.outsideName()); err != nil {
		return nil, err // a switch that knew the old device need not find the new one
	}
	// Its peer may have been the one just deleted, and then it is gone as well.
	inside, err := rtnl.LinkByName(r.ns.Routes, old.leg.insideName())
	if err != nil {
		return nil, err
	}
	if inside != nil {
		if err := device.Delete(ctx, n.steps(), r.ns.Routes, inside); err != nil {
			return nil, err
		}
	}
	if n.driver.Pairs() {
		err = n.makePair(ctx, r, old.leg, network.MTU)
	} else {
		err = plug.MakeMacvlan(ctx, n.steps(), n.routes, r.ns, network, r.port(old.leg))
	}
	if err != nil {
		return nil, err
	}
	return n.findWire(r, old.leg)
}

func (n *Node) makePair(ctx context.Context, r *router, l *leg, mtu int) error {
	if err := n.step(ctx, "make device pair"); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = l.outsideName(), mtu
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr = l.insideName(), l.MAC
	pair.PeerMTU, pair.PeerNamespace = uint32(mtu), netlink.NsFd(r.ns.File.Fd())
	if err := n.routes.LinkAdd(pair); err != nil {
		return fmt.Errorf("make device pair %s and %s: %w", attrs.Name, pair.PeerName, err)
	}
	return nil
}

func (n *Node) mendInside(ctx context.Context, r *router, w *wire, mtu int) error {
	if err := device.Rename(ctx, n.steps(), r.ns.Routes, w.inside, w.leg.insideName()); err != nil {
		return err
	}
	if !bytes.Equal(w.inside.Attrs().HardwareAddr, w.leg.MAC) {
		if err := n.step(ctx, "set MAC"); err != nil {
			return err
		}
		if err := r.ns.Routes.LinkSetHardwareAddr(w.inside, w.leg.MAC); err != nil {
			return fmt.Errorf("set MAC of %s: %w", w.inside.Attrs().Name, err)
		}
		r.tell(w.leg, w.leg.Address.Addr())
	}
	return device.SetMTU(ctx, n.steps(), r.ns.Routes, w.inside, mtu)
}

func (n *Node) mendOutside(ctx context.Context, r *router, w *wire, mtu int) error {
	if err := device.Rename(ctx, n.steps(), n.routes, w.outside, w.leg.outsideName()); err != nil {
		return err
	}
	if alias := deviceAlias(r.id); w.outside.Attrs().Alias != alias {
		if err := n.step(ctx, "set alias"); err != nil {
			return err
		}
		if err := n.routes.LinkSetAlias(w.outside, alias); err != nil {
			return fmt.Errorf("set alias of %s: %w", w.outside.Attrs().Name, err)
		}
	}
	// A bridge's port speaks no IP itself.
	quiet := setting.Sysctl{Path: "ipv6/conf/" + w.leg.outsideName() + "/disable_ipv6", Value: "1", Optional: true}
	if err := setting.Write(ctx, n.steps(), []setting.Sysctl{quiet}); err != nil {
		return err
	}
	return device.SetMTU(ctx, n.steps(), n.routes, w.outside, mtu)
}

// dropStrangers deletes the devices of legs that are no more, on either side.
func (n *Node) dropStrangers(ctx context.Context, r *router, wires []*wire) error {
	var ports []string
	inside, outside := map[int]bool{}, map[int]bool{}
	for _, w := range wires {
		inside[w.inside.Attrs().Index] = true
		if w.outside != nil {
			outside[w.outside.Attrs().Index] = true
			ports = append(ports, w.outside.Attrs().Name)
		}
	}
	if err := n.deleteDevices(ctx, r, inside, outside); err != nil {
		return err
	}
	return n.driver.Sweep(ctx, n.steps(), deviceAlias(r.id), ports...)
}

// deleteDevices deletes the router's devices but those to be kept.
func (n *Node) deleteDevices(ctx context.Context, r *router, inside, outside map[int]bool) error {
	devices, err := rtnl.Dump(n.routes.LinkList)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, d := range devices {
		if d.Attrs().Alias != deviceAlias(r.id) || outside[d.Attrs().Index] {
			continue
		}
		if err := device.Delete(ctx, n.steps(), n.routes, d); err != nil {
			return err
		}
		if err := n.driver.Leave(ctx, n.steps(), d.Attrs().Name); err != nil {
			return err
		}
	}
	if r.ns == nil {
		return nil
	}
	if devices, err = rtnl.Dump(r.ns.Routes.LinkList); err != nil {
		return fmt.Errorf("list devices of %s: %w", r.ns.Name, err)
	}
	for _, d := range devices {
		if !device.Ours(d) || inside[d.Attrs().Index] {
			continue
		}
		if err := device.Delete(ctx, n.steps(), r.ns.Routes, d); err != nil {
			return err
		}
	}
	return nil
}

// join makes the outside device, where there is one, a port of the network, and sets it
// up.
func (n *Node) join(ctx context.Context, r *router, w *wire) (came bool, err error) {
	if w.outside == nil {
		return false, nil
	}
	joined, err := n.driver.Join(ctx, n.steps(), n.routes, w.outside, r.port(w.leg))
	if err != nil {
		return false, err
	}
	up, err := device.SetUp(ctx, n.steps(), n.routes, w.outside, true)
	return joined || up, err
}
