package router

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/loader/plug"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// plugged is a router with one floating IP whose legs are in networks of another driver.
func (w *world) plugged(outside, inside Leg, client, server *lab.Host) *site {
	w.Helper()
	s := &site{server: server}
	outside.PortID, outside.MAC, outside.Address = newUUID(w), newMAC(w), netip.MustParsePrefix("10.10.10.101/24")
	inside.PortID, inside.MAC, inside.Address = newUUID(w), newMAC(w), netip.PrefixFrom(gatewayAddr, 24)
	s.Router = Router{
		ID: newUUID(w), AdminUp: true, SNAT: true, External: &outside, Inside: []Leg{inside},
		Floating: []Floating{{ID: newUUID(w), Address: netip.MustParseAddr("10.10.10.7"), Fixed: serverAddr}},
	}
	w.client = client
	w.must(server.AddRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), gatewayAddr))
	echo, err := server.StartEcho("server0", netip.AddrPortFrom(serverAddr, echoPort))
	w.must(err)
	s.echo = echo
	return s
}

// lives takes a router through its life: traffic by the floating IP and out, a restart,
// damage, and the end.
func (w *world) lives(s *site, damage func()) {
	w.Helper()
	n := w.open()
	w.apply(n, s.Router)
	if seen := w.reaches(w.client, s.floating(), s); seen != clientAddr {
		w.Errorf("the server sees %s", seen)
	}
	w.must(w.ping(s.server, clientAddr, 56, 0, patience))
	w.must(n.Close())
	n = w.open()
	w.steps = nil
	w.apply(n, s.Router)
	if len(w.steps) > 0 {
		w.Errorf("after a restart: %q", w.steps)
	}
	damage()
	if drifted, err := n.Refresh(w.Context()); err != nil || !slices.Equal(drifted, []string{s.ID}) {
		w.Errorf("Refresh = %q, %v", drifted, err)
	}
	w.apply(n, s.Router)
	w.reaches(w.client, s.floating(), s)
	w.remove(n, s.Router)
	w.wantNothingLeft()
}

// A router between two VLANs of a real Open vSwitch.
func TestOpenVSwitch(t *testing.T) {
	w := &world{TB: t, lab: labtest.New(t)}
	w.options(hook.NameTCX)
	s := labtest.NewOpenVSwitch(t)
	s.Bridge("br-ovs")
	w.opts.InterfaceDriver, w.opts.OVSDB = plug.OpenVSwitch, s.Socket
	host := func(name string, vlan uint16, address netip.Addr) *lab.Host {
		h, err := w.lab.Host(name)
		w.must(err)
		s.Join(h, name, "br-ovs", vlan, netip.PrefixFrom(address, 24))
		return h
	}
	one := w.plugged(Leg{Bridge: "br-ovs", VLAN: 10, Gateway: netip.MustParseAddr("10.10.10.254")}, Leg{Bridge: "br-ovs", VLAN: 20},
		host("client", 10, clientAddr), host("server0", 20, serverAddr))
	tap := (&leg{Leg: one.Inside[0]}).outsideName()
	w.lives(one, func() {
		if ids := s.Vsctl("get", "interface", tap, "external_ids"); !strings.Contains(ids, one.Inside[0].PortID) {
			t.Errorf("external_ids %s", ids)
		}
		s.Vsctl("set", "port", tap, "tag=10")
	})
	if left := s.Vsctl("list-ports", "br-ovs"); strings.Contains(left, outsidePrefix) {
		t.Errorf("left over on the switch: %q", left)
	}
}

// A router whose legs are on LAN devices themselves.
func TestMacvlan(t *testing.T) {
	w := newWorld(t, hook.NameTCX)
	w.opts.InterfaceDriver = plug.Macvlan
	w.bridge("br-in")
	for bridge, lan := range map[string]string{externalBridge: "lan-ext", "br-in": "lan-in"} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = lan
		pair := netlink.NewVeth(attrs)
		pair.PeerName = lan + "-far"
		w.must(netlink.LinkAdd(pair))
		w.Cleanup(func() { netlink.LinkDel(pair) })
		on, err := netlink.LinkByName(bridge)
		w.must(err)
		far, err := netlink.LinkByName(pair.PeerName)
		w.must(err)
		w.must(netlink.LinkSetMaster(far, on))
		w.must(netlink.LinkSetUp(far))
		w.must(netlink.LinkSetUp(pair))
	}
	server := w.host("server0", "br-in", netip.PrefixFrom(serverAddr, 24), netip.Addr{})
	one := w.plugged(Leg{Bridge: "lan-ext", Gateway: netip.MustParseAddr("10.10.10.254")}, Leg{Bridge: "lan-in"}, w.client, server)
	w.lives(one, func() {
		ns, err := netspace.Open(namespaceName(one.ID))
		w.must(err)
		defer ns.Close()
		device, err := ns.Routes.LinkByName((&leg{Leg: one.Inside[0]}).insideName())
		w.must(err)
		w.must(ns.Routes.LinkDel(device))
	})
}

func TestVLANRefused(t *testing.T) {
	w := newWorld(t, hook.NameTCX)
	n := w.open()
	s := w.site(1)
	s.Inside[0].VLAN = 5
	if err := n.Apply(t.Context(), s.Router); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), plug.LinuxBridge) {
		t.Errorf("a leg on a VLAN: %v", err)
	}
	w.wantNothingLeft()
	w.opts.InterfaceDriver, w.opts.Hook = plug.Macvlan, hook.NameXDP
	if _, err := Open(t.Context(), w.opts); err == nil || !strings.Contains(err.Error(), "XDP") {
		t.Errorf("macvlan with XDP: %v", err)
	}
}
