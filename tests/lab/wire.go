package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Switch is a setting that may be left as the kernel has it.
type Switch uint8

// The positions of a Switch.
const (
	Default Switch = iota
	On
	Off
)

// Offload says what a device does for the stack.
type Offload struct {
	// TX is checksum offload on transmission. On a veth device "on" means that the
	// checksum is never computed at all. Off switches TSO off as well.
	TX Switch
	// TSO passes TCP super-packets on whole.
	TSO Switch
	// GRO joins received segments, and is what makes a veth device take frames from
	// XDP_TX and XDP_REDIRECT at its other end.
	GRO Switch
}

// AllOff computes every checksum and cuts every segment before the wire.
func AllOff() Offload { return Offload{TX: Off, TSO: Off, GRO: Off} }

// End is one end of a link.
type End struct {
	Host *Host
	// Device is the name of the end's device, at most 15 bytes.
	Device string
	// Addresses, with their prefix lengths, go to the device.
	Addresses []netip.Prefix
	// Bridge is a bridge of the host that the device joins.
	Bridge string
	// MAC of the device; nil lets the kernel choose.
	MAC     net.HardwareAddr
	Offload Offload
}

// ownIndexes is above the interface indexes that the kernel gives out by itself in
// a namespace.
//
// Why: the kernel delays a device's news of its carrier by up to a second, unless
// the device's index differs from its peer's (that is how it recognises stacked
// devices); and until then nothing passes. The first pair between two new
// namespaces would have index 2 at both ends.
const ownIndexes = 100_000

// Link joins two ends by a veth pair with the given MTU in bytes (0 means 1500) and
// sets both up.
func (l *Lab) Link(a, b End, mtu int) error {
	if mtu == 0 {
		mtu = 1500
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.Device, mtu, a.MAC
	attrs.Index = int(l.links.Add(1)) + ownIndexes
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU, veth.PeerHardwareAddr = b.Device, uint32(mtu), b.MAC
	veth.PeerNamespace = netlink.NsFd(b.Host.ns)
	if err := a.Host.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %s %s to %s %s: %w", a.Host.name, a.Device, b.Host.name, b.Device, err)
	}
	for _, step := range []func(End) error{End.configure, End.awaitUp, End.joinBridge} {
		for _, e := range []End{a, b} {
			if err := step(e); err != nil {
				return err
			}
		}
	}
	l.log.Debug("link made", "a", a.Host.name, "device_a", a.Device, "b", b.Host.name, "device_b", b.Device)
	return nil
}

// configure makes an existing device what the end says.
func (e End) configure() error {
	if err := e.Host.SetOffload(e.Device, e.Offload); err != nil {
		return err
	}
	for _, a := range e.Addresses {
		if err := e.Host.AddAddress(e.Device, a); err != nil {
			return err
		}
	}
	return e.Host.SetUp(e.Device)
}

// carrierPatience bounds the wait for a device that both ends have been set up of.
const carrierPatience = 5 * time.Second

// awaitUp waits until the device passes packets.
func (e End) awaitUp() error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(carrierPatience); time.Now().Before(deadline); <-ticker.C {
		l, err := e.Host.link(e.Device)
		if err != nil {
			return err
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
	}
	return fmt.Errorf("device %s on %s: no carrier after %s", e.Device, e.Host.name, carrierPatience)
}

// joinBridge comes last: a port that is up when it joins forwards at once.
func (e End) joinBridge() error {
	if e.Bridge == "" {
		return nil
	}
	l, err := e.Host.link(e.Device)
	if err != nil {
		return err
	}
	b, err := e.Host.link(e.Bridge)
	if err != nil {
		return err
	}
	if err := e.Host.nl.LinkSetMaster(l, b); err != nil {
		return fmt.Errorf("join %s to bridge %s on %s: %w", e.Device, e.Bridge, e.Host.name, err)
	}
	return nil
}

// Bridge adds a Linux bridge to the host and sets it up. It forwards at once (no
// spanning tree) and floods multicast, as a plain switch does.
func (h *Host) Bridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(false)}
	if err := h.nl.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s to %s: %w", name, h.name, err)
	}
	return h.SetUp(name)
}

// link finds a device by name.
func (h *Host) link(device string) (netlink.Link, error) {
	l, err := h.nl.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("find device %s on %s: %w", device, h.name, err)
	}
	return l, nil
}

// SetUp sets a device up.
func (h *Host) SetUp(device string) error { return h.set(device, "up", h.nl.LinkSetUp) }

// SetDown sets a device down.
func (h *Host) SetDown(device string) error { return h.set(device, "down", h.nl.LinkSetDown) }

func (h *Host) set(device, state string, change func(netlink.Link) error) error {
	l, err := h.link(device)
	if err != nil {
		return err
	}
	if err := change(l); err != nil {
		return fmt.Errorf("set %s %s on %s: %w", device, state, h.name, err)
	}
	return nil
}

// MAC is the hardware address of a device.
func (h *Host) MAC(device string) (net.HardwareAddr, error) {
	l, err := h.link(device)
	if err != nil {
		return nil, err
	}
	return l.Attrs().HardwareAddr, nil
}

// AddAddress gives a device an address with its prefix length; the device's
// network follows as a route. An IPv6 address works at once.
func (h *Host) AddAddress(device string, address netip.Prefix) error {
	l, err := h.link(device)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: ipNet(address)}
	if address.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.nl.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add %s to %s on %s: %w", address, device, h.name, err)
	}
	return nil
}

// DeleteAddress takes an address from a device.
func (h *Host) DeleteAddress(device string, address netip.Prefix) error {
	l, err := h.link(device)
	if err != nil {
		return err
	}
	if err := h.nl.AddrDel(l, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("delete %s from %s on %s: %w", address, device, h.name, err)
	}
	return nil
}

// AddRoute sends what is for dst to the gateway; the zero dst is the default route.
func (h *Host) AddRoute(dst netip.Prefix, gateway netip.Addr) error {
	r := &netlink.Route{Gw: gateway.AsSlice()}
	if dst.IsValid() {
		r.Dst = ipNet(dst.Masked())
	}
	if err := h.nl.RouteAdd(r); err != nil {
		return fmt.Errorf("add route to %s by %s on %s: %w", dst, gateway, h.name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// SetOffload changes what a device does for the stack, and fails where the kernel
// did not follow.
func (h *Host) SetOffload(device string, o Offload) error {
	wanted := map[string]bool{}
	for _, f := range []struct {
		s     Switch
		names []string
	}{
		{o.TX, []string{"tx-checksum-ip-generic"}},
		{o.TSO, []string{"tx-tcp-segmentation", "tx-tcp6-segmentation"}},
		{o.GRO, []string{"rx-gro"}},
	} {
		for _, name := range f.names {
			if f.s != Default {
				wanted[name] = f.s == On
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	err := h.withEthtool(func(tool *ethtool.Ethtool) error {
		if err := tool.Change(device, wanted); err != nil {
			return err
		}
		now, err := tool.Features(device)
		for name, on := range wanted {
			if err == nil && now[name] != on {
				err = fmt.Errorf("%s is %v", name, now[name])
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("set offloads of %s: %w", device, err)
	}
	return nil
}

// Features is what `ethtool -k` says of a device.
func (h *Host) Features(device string) (map[string]bool, error) {
	var features map[string]bool
	err := h.withEthtool(func(tool *ethtool.Ethtool) (err error) {
		features, err = tool.Features(device)
		return err
	})
	return features, err
}

func (h *Host) withEthtool(fn func(*ethtool.Ethtool) error) error {
	return h.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return fmt.Errorf("open ethtool: %w", err)
		}
		defer tool.Close()
		return fn(tool)
	})
}

// dumpTries bounds how often a listing is begun again because devices changed
// while it was read.
const dumpTries = 10

// list reads a complete listing from netlink.
func list[T any](read func() ([]T, error)) (all []T, err error) {
	for range dumpTries {
		if all, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// deleteLinks removes what was plugged into the namespace, so that the other ends
// are gone when it returns, and not when the kernel gets round to it.
func deleteLinks(ns int) error {
	return onThread(ns, func() error {
		links, err := list(netlink.LinkList)
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		var errs []error
		for _, l := range links {
			if t := l.Type(); t != "veth" && t != "bridge" && t != "macvlan" {
				continue
			}
			err := netlink.LinkDel(l)
			// The other end of a pair in the same namespace is gone already.
			if err != nil && !errors.Is(err, unix.ENODEV) && !errors.As(err, &netlink.LinkNotFoundError{}) {
				errs = append(errs, fmt.Errorf("delete device %s: %w", l.Attrs().Name, err))
			}
		}
		return errors.Join(errs...)
	})
}
