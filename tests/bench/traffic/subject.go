package traffic

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/change"
	"qlbaas/loader/hook"
	"qlbaas/tests/bench/floor"
	"qlbaas/tests/lab"
)

// Names of the subjects; "direct" is what the others are compared with.
const (
	direct       = "direct"
	haproxyTCP   = "haproxy-tcp"
	haproxyHTTP  = "haproxy-http"
	nftables     = "nftables"
	floorInside  = "floor-inside"
	floorOutside = "floor-outside"
	floorXDP     = "floor-xdp"
	oursTCX      = "tcx"
	oursInside   = "tcx-inside"
	oursXDP      = "xdp"
	oursClsact   = "clsact"
)

// way is how packets pass through a balancer.
type way uint8

const (
	noWay      way = iota
	byProxy        // ends in the namespace's sockets
	byStack        // forwarded by the namespace's stack
	byInside       // turned round at the namespace's device
	byOutside      // turned round at the bridge's port, once a connection stands
	byXDP          // turned round at the namespace's device, by XDP_TX
	byOnlyPort     // turned round at the bridge's port, all of it
)

// subject is somebody who is measured.
type subject struct {
	name string
	way  way
	ours bool
	// requests and bulk are where clients connect to; more than one where there is no
	// balancer.
	requests, bulk []netip.AddrPort
	// inspect reads what has been counted where requests, or bulk, pass; nil if nobody counts.
	inspect, inspectBulk func() (counts, error)
}

func (l *laboratory) addDirect(context.Context) error {
	s := &subject{name: direct}
	for _, a := range l.memberAddresses() {
		s.requests = append(s.requests, netip.AddrPortFrom(a, port))
		s.bulk = append(s.bulk, netip.AddrPortFrom(a, bulkPort))
	}
	l.subjects = append(l.subjects, s)
	return nil
}

// addHost adds a subject that balances in a host of its own.
func (l *laboratory) addHost(ctx context.Context, name string, w way) (*lab.Host, *subject, string, error) {
	vip := l.nextVIP()
	h, tap, err := l.host(ctx, name, vip)
	if err != nil {
		return nil, nil, "", err
	}
	s := &subject{
		name: name, way: w, requests: []netip.AddrPort{netip.AddrPortFrom(vip, port)},
		bulk: []netip.AddrPort{netip.AddrPortFrom(vip, bulkPort)},
	}
	s.inspect = place{tap: tap, inside: device, enter: h.Do}.inspect
	s.inspectBulk = s.inspect
	l.subjects = append(l.subjects, s)
	return h, s, tap, nil
}

// configuration is what the peers' templates need.
type configuration struct {
	VIP            netip.Addr
	Mode           string
	Port, BulkPort int
	Members        []netip.Addr
}

func (l *laboratory) addHAProxies(ctx context.Context) error {
	for _, p := range []struct{ name, mode string }{{haproxyTCP, "tcp"}, {haproxyHTTP, "http"}} {
		h, s, _, err := l.addHost(ctx, p.name, byProxy)
		if err != nil {
			return err
		}
		if p.mode == "http" {
			s.bulk = nil
		}
		path, err := l.write("haproxy.cfg.tmpl", p.name+".cfg", configuration{s.requests[0].Addr(), p.mode, port, bulkPort, l.memberAddresses()})
		if err != nil {
			return err
		}
		if err := l.start(h, "haproxy", "-db", "-f", path); err != nil {
			return err
		}
	}
	return nil
}

func (l *laboratory) addNFTables(ctx context.Context) error {
	h, s, _, err := l.addHost(ctx, nftables, byStack)
	if err != nil {
		return err
	}
	for key, value := range map[string]string{
		"net.ipv4.ip_forward": "1",
		// Clients are not told to go to the members themselves.
		"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf." + device + ".send_redirects": "0",
	} {
		if err := h.Sysctl(key, value); err != nil {
			return err
		}
	}
	path, err := l.write("nftables.tmpl", "nftables.nft", configuration{s.requests[0].Addr(), "", port, bulkPort, l.memberAddresses()})
	if err != nil {
		return err
	}
	_, err = h.Run(ctx, "nft", "-f", path)
	return err
}

func (l *laboratory) addFloors(ctx context.Context) error {
	for _, f := range []struct {
		name string
		way  way
		hook floor.Hook
	}{{floorInside, byInside, floor.Inside}, {floorOutside, byOnlyPort, floor.Outside}, {floorXDP, byXDP, floor.XDP}} {
		h, s, tap, err := l.addHost(ctx, f.name, f.way)
		if err != nil {
			return err
		}
		wire, err := l.wire(h, tap, s.requests[0].Addr())
		if err != nil {
			return err
		}
		if f.hook == floor.XDP {
			if err := wholeSums(ctx, h, tap); err != nil {
				return err
			}
		}
		attached, err := floor.Attach(f.hook, wire)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		l.onClose(attached.Close)
	}
	return nil
}

// wholeSums has both ends of a pair compute checksums, as the loader does for XDP.
func wholeSums(ctx context.Context, h *lab.Host, tap string) error {
	if err := hook.SetOffloads(ctx, change.Steps{}, tap, false); err != nil {
		return err
	}
	return h.Do(func() error { return hook.SetOffloads(ctx, change.Steps{}, device, false) })
}

// wire is what a floor in that host has to know.
func (l *laboratory) wire(h *lab.Host, tap string, vip netip.Addr) (w floor.Wire, err error) {
	w.Enter = h.Do
	if w.VIP, err = peer(h, vip); err != nil {
		return w, err
	}
	if w.Client, err = peer(l.clients[0], clientAddress); err != nil {
		return w, err
	}
	for i, m := range l.members {
		if w.Members[i], err = peer(m.host, m.address); err != nil {
			return w, err
		}
	}
	outside, err := netlink.LinkByName(tap)
	if err != nil {
		return w, fmt.Errorf("find device %s: %w", tap, err)
	}
	inside, err := h.Netlink().LinkByName(device)
	if err != nil {
		return w, fmt.Errorf("find device of %s: %w", h.Name(), err)
	}
	w.OutsideDevice, w.InsideDevice = outside.Attrs().Index, inside.Attrs().Index
	return w, nil
}
