package loader

import (
	"bytes"
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/device"
	"qlbaas/loader/netspace"
	"qlbaas/loader/plug"
	"qlbaas/loader/rtnl"
)

// wiring is a pool's devices as they are now: a veth pair, or what else the interface
// driver puts inside alone.
type wiring struct {
	// inside carries the VIP, outside is the bridge's port, nil where the driver has
	// none. Their attributes are those of the last look.
	inside, outside netlink.Link
	network         plug.Network
	// silent: the VIP is admin-down, and nothing is to pass by the outside device either.
	silent bool
}

// findWiring looks for the pool's pair by names, alias and by who is whose peer, so
// that it is found after it was renamed. What is missing is nil.
func (n *Node) findWiring(ns *netspace.Namespace, b *Balancer) (w wiring, err error) {
	if w.inside, err = rtnl.LinkByName(ns.Routes, insideName(b.VIP.PortID)); err != nil {
		return w, err
	}
	if w.outside, err = n.findOutside(b); err != nil {
		return w, err
	}
	switch {
	case w.inside == nil && w.outside != nil:
		peer, err := rtnl.LinkByIndex(ns.Routes, w.outside.Attrs().ParentIndex)
		if err == nil && peer != nil && device.Paired(peer, w.outside) {
			w.inside = peer
		}
		return w, err
	case w.outside == nil && w.inside != nil:
		peer, err := rtnl.LinkByIndex(n.routes, w.inside.Attrs().ParentIndex)
		if err == nil && peer != nil && device.Paired(w.inside, peer) {
			w.outside = peer
		}
		return w, err
	}
	return w, nil
}

func (n *Node) findOutside(b *Balancer) (netlink.Link, error) {
	name := outsideName(b.VIP.PortID)
	found, err := rtnl.LinkByName(n.routes, name)
	if err != nil || found != nil {
		return found, err
	}
	devices, err := rtnl.Dump(n.routes.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, d := range devices {
		if d.Attrs().Alias == deviceAlias(b.PoolID) {
			return d, nil
		}
	}
	return nil, nil
}

// ensureWiring makes the pair, or mends it. The devices come out with their names,
// MAC and MTU but, when they are new, down: nothing may be heard of them before
// guard and program are there.
func (n *Node) ensureWiring(ctx context.Context, p *pool, b *Balancer) (wiring, error) {
	network, err := n.driver.Find(ctx, n.routes, b.VIP.Bridge)
	if err != nil {
		return wiring{}, err
	}
	w, err := n.findWiring(p.ns, b)
	if err != nil {
		return wiring{}, err
	}
	if !n.whole(w, network) {
		if w, err = n.remakeWiring(ctx, p.ns, b, w, network); err != nil {
			return wiring{}, err
		}
	}
	if err := n.dropStrangers(ctx, p.ns, w); err != nil {
		return wiring{}, err
	}
	if err := n.mendInside(ctx, p, b, w.inside, network.MTU); err != nil {
		return wiring{}, err
	}
	if n.driver.Pairs() {
		if err := n.mendOutside(ctx, b, w.outside, network.MTU); err != nil {
			return wiring{}, err
		}
	}
	if w, err = n.findWiring(p.ns, b); err != nil {
		return wiring{}, err
	}
	w.network, w.silent = network, !b.VIP.AdminUp
	if network.WholeSums {
		err = n.offload(ctx, p, w, false)
	}
	return w, err
}

// whole tells whether the devices are those that the driver makes.
func (n *Node) whole(w wiring, network plug.Network) bool {
	if !n.driver.Pairs() {
		return w.outside == nil && w.inside != nil && plug.OnLAN(w.inside, network)
	}
	return w.inside != nil && w.outside != nil && device.Paired(w.inside, w.outside)
}

// port is what is plugged in for a pool.
func port(b *Balancer) plug.Port {
	return plug.Port{
		ID: b.VIP.PortID, Owner: deviceAlias(b.PoolID), Inside: insideName(b.VIP.PortID), MAC: b.VIP.MAC,
		Network: b.VIP.Bridge, VLAN: b.VIP.VLAN,
	}
}

// remakeWiring replaces what is left of the devices by new ones.
func (n *Node) remakeWiring(ctx context.Context, ns *netspace.Namespace, b *Balancer, old wiring, network plug.Network) (wiring, error) {
	if old.outside != nil {
		if err := n.ownOutside(b, old.outside); err != nil {
			return wiring{}, err
		}
		if err := device.Delete(ctx, n.steps(), n.routes, old.outside); err != nil {
			return wiring{}, err
		}
	}
	if err := n.driver.Leave(ctx, n.steps(), outsideName(b.VIP.PortID)); err != nil {
		return wiring{}, err // a switch that knew the old device need not find the new one
	}
	// Its peer may have been the one just deleted, and then it is gone as well.
	inside, err := rtnl.LinkByName(ns.Routes, insideName(b.VIP.PortID))
	if err != nil {
		return wiring{}, err
	}
	if inside != nil {
		if err := device.Delete(ctx, n.steps(), ns.Routes, inside); err != nil {
			return wiring{}, err
		}
	}
	if n.driver.Pairs() {
		err = n.makePair(ctx, ns, b, network.MTU)
	} else {
		err = plug.MakeMacvlan(ctx, n.steps(), n.routes, ns, network, port(b))
	}
	if err != nil {
		return wiring{}, err
	}
	return n.findWiring(ns, b)
}

func (n *Node) makePair(ctx context.Context, ns *netspace.Namespace, b *Balancer, mtu int) error {
	if err := n.step(ctx, "make device pair"); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = outsideName(b.VIP.PortID), mtu
	pair := netlink.NewVeth(attrs)
	pair.PeerName = insideName(b.VIP.PortID)
	pair.PeerHardwareAddr = b.VIP.MAC
	pair.PeerMTU = uint32(mtu)
	pair.PeerNamespace = netlink.NsFd(ns.File.Fd())
	if err := n.routes.LinkAdd(pair); err != nil {
		return fmt.Errorf("make device pair %s and %s: %w", attrs.Name, pair.PeerName, err)
	}
	return nil
}

// ownOutside refuses to touch a device that carries our name and is not ours: a
// veth is ours when its alias says so or when it leads into a namespace of ours.
func (n *Node) ownOutside(b *Balancer, outside netlink.Link) error {
	attrs := outside.Attrs()
	if outside.Type() == "veth" && (attrs.Alias == "" || poolOfAlias(attrs.Alias) == b.PoolID) {
		return nil
	}
	return fmt.Errorf("device %s is there already and is not this pool's", attrs.Name)
}

// dropStrangers deletes what else of ours is in the namespace: the device of a
// port that the VIP had before.
func (n *Node) dropStrangers(ctx context.Context, ns *netspace.Namespace, w wiring) error {
	devices, err := rtnl.Dump(ns.Routes.LinkList)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, d := range devices {
		if !device.Ours(d) || d.Attrs().Index == w.inside.Attrs().Index {
			continue
		}
		if err := device.Delete(ctx, n.steps(), ns.Routes, d); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) mendInside(ctx context.Context, p *pool, b *Balancer, inside netlink.Link, mtu int) error {
	routes := p.ns.Routes
	if err := device.Rename(ctx, n.steps(), routes, inside, insideName(b.VIP.PortID)); err != nil {
		return err
	}
	if !bytes.Equal(inside.Attrs().HardwareAddr, b.VIP.MAC) {
		if err := n.step(ctx, "set MAC"); err != nil {
			return err
		}
		if err := routes.LinkSetHardwareAddr(inside, b.VIP.MAC); err != nil {
			return fmt.Errorf("set MAC of %s: %w", inside.Attrs().Name, err)
		}
		p.announce = true
	}
	return device.SetMTU(ctx, n.steps(), routes, inside, mtu)
}

func (n *Node) mendOutside(ctx context.Context, b *Balancer, outside netlink.Link, mtu int) error {
	if err := device.Rename(ctx, n.steps(), n.routes, outside, outsideName(b.VIP.PortID)); err != nil {
		return err
	}
	if alias := deviceAlias(b.PoolID); outside.Attrs().Alias != alias {
		if err := n.step(ctx, "set alias"); err != nil {
			return err
		}
		if err := n.routes.LinkSetAlias(outside, alias); err != nil {
			return fmt.Errorf("set alias of %s: %w", outside.Attrs().Name, err)
		}
	}
	// A bridge's port speaks no IP itself.
	quiet := []sysctl{{Path: "ipv6/conf/" + outsideName(b.VIP.PortID) + "/disable_ipv6", Value: "1", Optional: true}}
	if err := n.setSysctls(ctx, quiet); err != nil {
		return err
	}
	return device.SetMTU(ctx, n.steps(), n.routes, outside, mtu)
}

// join makes the outside device, where there is one, a port of the network, and sets it
// up.
func (n *Node) join(ctx context.Context, w wiring, b *Balancer) (cameUp bool, err error) {
	if w.outside == nil {
		return false, nil
	}
	joined, err := n.driver.Join(ctx, n.steps(), n.routes, w.outside, port(b))
	if err != nil {
		return false, err
	}
	up, err := device.SetUp(ctx, n.steps(), n.routes, w.outside, true)
	return joined || up, err
}
