package router

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
)

// Without the daemon a router works on, and the next daemon finds it as it is: nothing
// changes, connections stay, counters go on.
func TestAdoption(t *testing.T) {
	onEveryHook(t, func(w *world) {
		s := w.site(1)
		n := w.open()
		w.apply(n, s.Router)
		conn, _, err := w.dial(w.client, s.floating(), patience)
		w.must(err)
		defer conn.Close()
		before, err := n.Stats(s.ID)
		w.must(err)
		w.must(n.Close())

		w.must(say(conn, "nobody at home"))
		w.reaches(w.client, s.floating(), s)
		n = w.open()
		w.must(say(conn, "somebody new"))
		after, err := n.Stats(s.ID)
		w.must(err)
		if after.Floating[0].PacketsIn <= before.Floating[0].PacketsIn || after.Floating[0].ID != before.Floating[0].ID {
			t.Errorf("counted %+v, then %+v", before.Floating, after.Floating)
		}
		w.steps = nil
		w.apply(n, s.Router)
		if len(w.steps) > 0 {
			t.Errorf("applying what is there changed %q", w.steps)
		}
		w.must(say(conn, "as before"))
		w.remove(n, s.Router)
		w.wantNothingLeft()
	})
}

// A hook changes under connections.
func TestHookChanges(t *testing.T) {
	w := newWorld(t, hook.NameTCX)
	s := w.site(1)
	n := w.open()
	w.apply(n, s.Router)
	conn, _, err := w.dial(w.client, s.floating(), patience)
	w.must(err)
	defer conn.Close()
	for _, h := range []string{hook.NameXDP, hook.NameClsact, hook.NameXDP, hook.NameTCX} {
		w.must(n.Close())
		w.opts.Hook = h
		n = w.open()
		w.apply(n, s.Router)
		if err := say(conn, "on "+h); err != nil {
			t.Fatalf("on %s: %v", h, err)
		}
		w.reaches(w.client, s.floating(), s)
	}
	w.remove(n, s.Router)
	w.wantNothingLeft()
}

// sabotage is what an operator can do to a router.
func (w *world) sabotage(s *site) map[string]func(ns *netspace.Namespace) error {
	external, inside := &leg{*s.External, true}, &leg{s.Inside[0], false}
	pins := pinsDir(w.opts.BPFFS, s.ID)
	within := func(name string, do func(*netlink.Handle, netlink.Link) error) func(*netspace.Namespace) error {
		return func(ns *netspace.Namespace) error {
			device, err := ns.Routes.LinkByName(name)
			if err != nil {
				return err
			}
			return do(ns.Routes, device)
		}
	}
	outside := func(name string, do func(netlink.Link) error) func(*netspace.Namespace) error {
		return func(*netspace.Namespace) error {
			device, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			return do(device)
		}
	}
	address := func(r *netlink.Handle, d netlink.Link) error {
		return r.AddrDel(d, &netlink.Addr{IPNet: rtnl.IPNet(netip.PrefixFrom(s.Floating[0].Address, 32))})
	}
	return map[string]func(*netspace.Namespace) error{
		"external leg deleted":     within(external.insideName(), func(r *netlink.Handle, d netlink.Link) error { return r.LinkDel(d) }),
		"inside leg deleted":       outside(inside.outsideName(), netlink.LinkDel),
		"inside leg down":          within(inside.insideName(), func(r *netlink.Handle, d netlink.Link) error { return r.LinkSetDown(d) }),
		"external leg renamed":     within(external.insideName(), func(r *netlink.Handle, d netlink.Link) error { return r.LinkSetName(d, "eth7") }),
		"tap unplugged":            outside(external.outsideName(), netlink.LinkSetNoMaster),
		"MAC changed":              within(external.insideName(), func(r *netlink.Handle, d netlink.Link) error { return r.LinkSetHardwareAddr(d, newMAC(w)) }),
		"floating address deleted": within(external.insideName(), address),
		"strange address": within(inside.insideName(), func(r *netlink.Handle, d netlink.Link) error {
			return r.AddrAdd(d, &netlink.Addr{IPNet: rtnl.IPNet(netip.MustParsePrefix("192.0.2.1/24"))})
		}),
		"rules flushed": func(ns *netspace.Namespace) error {
			return ns.Do(func() error {
				nft := &nftables.Conn{}
				nft.FlushRuleset()
				return nft.Flush()
			})
		},
		"default route deleted": func(ns *netspace.Namespace) error {
			return ns.Routes.RouteDel(&netlink.Route{Dst: rtnl.IPNet(netip.MustParsePrefix("0.0.0.0/0")), Table: unix.RT_TABLE_MAIN})
		},
		"forwarding off": func(ns *netspace.Namespace) error {
			return ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/forwarding", []byte("0"), 0) })
		},
		"name deleted": func(ns *netspace.Namespace) error {
			return netspace.Remove(context.Background(), change.Steps{}, ns.Name)
		},
		"program detached": func(ns *netspace.Namespace) error { return w.detach(ns, pins, inside) },
		"pins deleted":     func(*netspace.Namespace) error { return os.RemoveAll(filepath.Dir(pins)) },
		"links deleted":    func(*netspace.Namespace) error { return os.RemoveAll(filepath.Join(pins, linkPins)) },
	}
}

// detach takes the program off a leg.
func (w *world) detach(ns *netspace.Namespace, pins string, l *leg) error {
	kind := map[string]string{hook.NameTCX: kindTCX, hook.NameXDP: kindXDP}[w.opts.Hook]
	if kind == "" {
		device, err := ns.Routes.LinkByName(l.insideName())
		if err != nil {
			return err
		}
		return ns.Routes.QdiscDel(hook.NewClsact(device.Attrs().Index))
	}
	at, err := link.LoadPinnedLink(filepath.Join(pins, linkPins, l.PortID+kind), nil)
	if err != nil {
		return err
	}
	defer at.Close()
	return at.Detach()
}

// What an operator spoils is seen by the next look, and mended by the next Apply. So is what
// he spoils while there is no daemon.
func TestSabotage(t *testing.T) {
	onEveryHook(t, func(w *world) {
		s := w.site(1)
		n := w.open()
		w.apply(n, s.Router)
		for name := range w.sabotage(s) {
			for _, alone := range []bool{false, true} {
				if w.opts.Hook == hook.NameClsact && name == "links deleted" {
					continue // there are none
				}
				if alone && (name != "external leg deleted" && name != "links deleted" || w.opts.Hook != hook.NameTCX) {
					continue
				}
				n = w.spoil(n, s, name, alone)
				if w.Failed() {
					w.Fatalf("after %q, alone %t", name, alone)
				}
			}
		}
		w.remove(n, s.Router)
		w.wantNothingLeft()
	})
}

// spoil does one thing to the router, with the daemon there or not, and has it mended.
func (w *world) spoil(n *Node, s *site, name string, alone bool) *Node {
	w.Helper()
	ns, err := netspace.Open(namespaceName(s.ID))
	w.must(err)
	defer ns.Close()
	if alone {
		w.must(n.Close())
	}
	if err := w.sabotage(s)[name](ns); err != nil {
		w.Fatalf("%s: %v", name, err)
	}
	if alone {
		n = w.open()
	} else if drifted, err := n.Refresh(w.Context()); err != nil || len(drifted) != 1 {
		w.Errorf("%s: Refresh = %q, %v", name, drifted, err)
	}
	w.apply(n, s.Router)
	if drifted, err := n.Refresh(w.Context()); err != nil || len(drifted) != 0 {
		w.Errorf("%s, mended: Refresh = %q, %v", name, drifted, err)
	}
	w.reaches(w.client, s.floating(), s)
	w.reaches(s.poor, s.floating(), s)
	return n
}
