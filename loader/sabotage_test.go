package loader

import (
	"context"
	"fmt"
	stdmaps "maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
	"qlbaas/maps"
)

// site is where a saboteur works: a deployed pool, by what everybody can see of it.
type site struct {
	*world
	b               *Balancer
	ns              *netspace.Namespace
	inside, outside netlink.Link
	routes          *netlink.Handle
	pins            string
}

func (w *world) site(b *Balancer) *site {
	w.Helper()
	s := &site{world: w, b: b, pins: poolPins(w.opts.BPFFS, b.PoolID)}
	var err error
	if s.ns, err = netspace.Open(namespaceName(b.PoolID)); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { s.ns.Close() })
	if s.routes, err = rtnl.Open(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(s.routes.Close)
	if s.inside, err = rtnl.LinkByName(s.ns.Routes, insideName(b.VIP.PortID)); err != nil {
		w.Fatal(err)
	}
	if s.outside, err = rtnl.LinkByName(s.routes, outsideName(b.VIP.PortID)); err != nil {
		w.Fatal(err)
	}
	return s
}

// sabotage is what people and programs do to what is ours, by name.
func sabotage() map[string]func(*site) error {
	return map[string]func(*site) error{
		"address flushed": func(s *site) error {
			return s.ns.Routes.AddrDel(s.inside, &netlink.Addr{IPNet: ipNet(s.b.VIP.Address)})
		},
		"address added": func(s *site) error {
			return s.ns.Routes.AddrAdd(s.inside, &netlink.Addr{IPNet: ipNet(stray)})
		},
		"routes flushed": func(s *site) error {
			all, err := routesOf(s.ns, s.b.family())
			for _, r := range all {
				err = firstOf(err, s.ns.Routes.RouteDel(&r))
			}
			return err
		},
		"neighbours flushed": func(s *site) error {
			all, err := s.ns.Routes.NeighList(s.inside.Attrs().Index, unix.AF_INET)
			for _, n := range all {
				err = firstOf(err, s.ns.Routes.NeighDel(&n))
			}
			return err
		},
		"guard flushed": func(s *site) error {
			return s.nft(func(c *nftables.Conn) { c.FlushRuleset() })
		},
		"guard without forward": func(s *site) error {
			g := newGuard(s.addresses(), s.b.VIP.Port, false)
			return s.nft(func(c *nftables.Conn) { c.DelChain(g.Chains[1].Chain) })
		},
		"guard for another port": func(s *site) error {
			return s.nft(func(c *nftables.Conn) {
				c.DelTable(&nftables.Table{Name: guardTable, Family: nftables.TableFamilyINet})
				_ = newGuard(s.addresses(), s.b.VIP.Port+1, false).Install(c)
			})
		},
		"guard without a source address": func(s *site) error {
			return s.nft(func(c *nftables.Conn) {
				c.DelTable(&nftables.Table{Name: guardTable, Family: nftables.TableFamilyINet})
				_ = newGuard(s.addresses()[:2], s.b.VIP.Port, false).Install(c)
			})
		},
		"source address deleted": func(s *site) error {
			return s.ns.Routes.AddrDel(s.inside, &netlink.Addr{IPNet: ipNet(sourcePrefixes(s.b)[1])})
		},
		"source address of the subnet": func(s *site) error {
			moved := netip.PrefixFrom(s.b.SNAT[0], 24)
			return firstOf(
				s.ns.Routes.AddrDel(s.inside, &netlink.Addr{IPNet: ipNet(sourcePrefixes(s.b)[0])}),
				s.ns.Routes.AddrAdd(s.inside, &netlink.Addr{IPNet: ipNet(moved)}))
		},
		"ports of a source address deleted": func(s *site) error {
			return s.empty("member_states", 2*maps.MaxSlots)
		},
		"inside down":    func(s *site) error { return s.ns.Routes.LinkSetDown(s.inside) },
		"outside down":   func(s *site) error { return s.routes.LinkSetDown(s.outside) },
		"off the bridge": func(s *site) error { return s.routes.LinkSetNoMaster(s.outside) },
		"alias cleared":  func(s *site) error { return s.routes.LinkSetAlias(s.outside, "") },
		"MAC changed": func(s *site) error {
			return s.ns.Routes.LinkSetHardwareAddr(s.inside, net.HardwareAddr{0xfa, 0x16, 0x3e, 1, 2, 3})
		},
		"MTU changed":     func(s *site) error { return s.ns.Routes.LinkSetMTU(s.inside, 1400) },
		"inside renamed":  func(s *site) error { return s.ns.Routes.LinkSetName(s.inside, "ns-other") },
		"outside renamed": func(s *site) error { return s.routes.LinkSetName(s.outside, "tapother") },
		"both renamed": func(s *site) error {
			return firstOf(s.routes.LinkSetName(s.outside, "tapother"), s.ns.Routes.LinkSetName(s.inside, "ns-other"))
		},
		"device deleted": func(s *site) error { return s.ns.Routes.LinkDel(s.inside) },
		"device moved":   func(s *site) error { return s.ns.Routes.LinkSetNsPid(s.inside, os.Getpid()) },
		"namespace deleted": func(s *site) error {
			s.ns.Close() // or it lives on, here
			return netspace.Remove(context.Background(), change.Steps{}, s.ns.Name)
		},
		"namespace replaced": func(s *site) error {
			n := &Node{}
			ctx := context.Background()
			return firstOf(netspace.Remove(ctx, n.steps(), s.ns.Name), netspace.Make(ctx, n.steps(), s.ns.Name))
		},
		"forwarding off": func(s *site) error {
			return s.ns.Do(func() error {
				return os.WriteFile("/proc/sys/net/ipv4/conf/"+s.inside.Attrs().Name+"/forwarding", []byte("0"), 0)
			})
		},
		"own ports moved": func(s *site) error {
			return s.ns.Do(func() error {
				return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1024 65535"), 0)
			})
		},
		"pin of something else": func(s *site) error {
			path := filepath.Join(s.pins, mapPins, "vips")
			return firstOf(os.Remove(path), s.stranger().Pin(path))
		},
		"link's pin of something else": func(s *site) error {
			path := filepath.Join(s.pins, linkPins, linkTCX)
			return firstOf(os.Remove(path), s.stranger().Pin(path))
		},
		"vip deleted":   func(s *site) error { return s.empty("vips", 0) },
		"vip zeroed":    func(s *site) error { return s.zero("vips_0", 0) },
		"member zeroed": func(s *site) error { return s.zero("members_0", 0) },
		"file deleted": func(s *site) error {
			return os.Remove(filepath.Join(s.opts.StateDir, "pools", s.b.PoolID, "config.json"))
		},
		"file edited": func(s *site) error {
			return os.WriteFile(filepath.Join(s.opts.StateDir, "pools", s.b.PoolID, "config.json"), nil, 0o600)
		},
		"account closed": func(s *site) error {
			return s.emptyHash(filepath.Join(nodePins(s.opts.BPFFS), mapPins, "half_open_use"))
		},
	}
}

var stray = netip.MustParsePrefix("192.0.2.7/24")

// hookSabotage is about how the programs are attached.
func hookSabotage() map[string]map[string]func(*site) error {
	detach := func(name string) func(*site) error {
		return func(s *site) error {
			l, err := link.LoadPinnedLink(filepath.Join(s.pins, linkPins, name), nil)
			if err != nil {
				return err
			}
			return firstOf(l.Detach(), l.Close())
		}
	}
	return map[string]map[string]func(*site) error{
		HookTCX: {
			"detached": detach(linkTCX),
			"program replaced": func(s *site) error {
				l, err := link.LoadPinnedLink(filepath.Join(s.pins, linkPins, linkTCX), nil)
				if err != nil {
					return err
				}
				return firstOf(l.Update(s.stranger()), l.Close())
			},
			"tap detached": detach(linkTap),
			"tap program replaced": func(s *site) error {
				l, err := link.LoadPinnedLink(filepath.Join(s.pins, linkPins, linkTap), nil)
				if err != nil {
					return err
				}
				return firstOf(l.Update(s.stranger()), l.Close())
			},
			"clsact added": func(s *site) error { return s.ns.Routes.QdiscAdd(hook.NewClsact(s.inside.Attrs().Index)) },
		},
		HookClsact: {
			"clsact deleted": func(s *site) error { return s.ns.Routes.QdiscDel(hook.NewClsact(s.inside.Attrs().Index)) },
			"filter deleted": func(s *site) error {
				return s.ns.Routes.FilterDel(hook.NewFilter(nil, programTC, s.inside.Attrs().Index))
			},
			"filter replaced": func(s *site) error {
				return s.ns.Routes.FilterReplace(hook.NewFilter(s.stranger(), programTC, s.inside.Attrs().Index))
			},
		},
		HookXDP: {
			"detached":      detach(linkXDP),
			"peer detached": detach(linkPeer),
			"tcx detached":  detach(linkTCX),
			"offload on": func(s *site) error {
				return hook.SetOffloads(context.Background(), change.Steps{}, s.outside.Attrs().Name, true)
			},
		},
	}
}

// A pool that somebody has damaged is reported by Refresh and mended by Apply, with
// the daemon there and with it away.
func TestSabotage(t *testing.T) {
	for hook, more := range hookSabotage() {
		t.Run(hook, func(t *testing.T) {
			all := more
			if hook == HookTCX {
				all = sabotage()
				stdmaps.Copy(all, more)
			}
			w := newWorld(t)
			at := &failAt{}
			w.opts.Hook = hook
			w.opts.fault = func(step string) error { return at.fault(step) }
			n := w.open()
			b := w.balancer()
			b.SNAT = sourceAddresses(2)
			w.apply(n, b)
			for _, name := range slices.Sorted(stdmaps.Keys(all)) {
				w.damage(n, at, &b, name, all[name])
				w.close(n)
				if err := all[name](w.site(&b)); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				n = w.open()
				w.apply(n, b)
				w.wantAsApplied(n, at, &b, b.PoolID)
				if t.Failed() {
					t.Fatalf("while the daemon was away: %s", name)
				}
			}
			w.remove(n, b)
			w.wantNothingLeft()
		})
	}
}

func (w *world) damage(n *Node, at *failAt, b *Balancer, name string, how func(*site) error) {
	w.Helper()
	if err := how(w.site(b)); err != nil {
		w.Fatalf("%s: %v", name, err)
	}
	drifted, err := n.Refresh(w.Context())
	if err != nil || !slices.Equal(drifted, []string{b.PoolID}) {
		w.Errorf("%s: Refresh = %q, %v", name, drifted, err)
	}
	if err := n.Apply(w.Context(), *b); err != nil {
		w.Errorf("%s: %v", name, err)
	}
	w.wantAsApplied(n, at, b, b.PoolID)
	if w.Failed() {
		w.Fatalf("after %s", name)
	}
}

// Every single pin that is deleted is made again, of the same object.
func TestDeletedPins(t *testing.T) {
	for _, hook := range []string{HookTCX, HookClsact, HookXDP} {
		t.Run(hook, func(t *testing.T) {
			w := newWorld(t)
			at := &failAt{}
			w.opts.Hook = hook
			w.opts.fault = func(step string) error { return at.fault(step) }
			n := w.open()
			b := w.balancer()
			b.VIP.Persistence = SourceIPPersistence
			b.SNAT = sourceAddresses(1)
			w.apply(n, b)
			before := identities(t, n, b.PoolID)
			for name := range before {
				path := filepath.Join(poolPins(w.opts.BPFFS, b.PoolID), name)
				if _, err := os.Lstat(path); err != nil {
					continue // not a pin
				}
				w.damage(n, at, &b, name, func(*site) error { return os.Remove(path) })
				wantSame(t, before, identities(t, n, b.PoolID))
				w.close(n)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				n = w.open()
				w.apply(n, b)
				w.wantAsApplied(n, at, &b, b.PoolID)
				// These nobody uses who is attached; any other is found by who uses it.
				lost := name == filepath.Join(mapPins, "retired") || name == filepath.Join(mapPins, "expiry")
				if filepath.Dir(name) == mapPins && !lost {
					wantSame(t, before, identities(t, n, b.PoolID))
				}
				before = identities(t, n, b.PoolID)
				if t.Failed() {
					t.Fatalf("after %s", name)
				}
			}
			w.remove(n, b)
			w.wantNothingLeft()
		})
	}
}

// Without its bpffs the data plane lives on in the daemon's descriptors.
func TestUnmountedBPFFS(t *testing.T) {
	w := newWorld(t)
	at := &failAt{}
	w.opts.BPFFS = filepath.Join(t.TempDir(), "bpffs")
	w.opts.fault = func(step string) error { return at.fault(step) }
	n := w.open()
	b := w.balancer()
	w.apply(n, b)
	before := identities(t, n, b.PoolID)
	w.damage(n, at, &b, "unmount", func(*site) error { return unix.Unmount(w.opts.BPFFS, unix.MNT_DETACH) })
	wantSame(t, before, identities(t, n, b.PoolID))

	opts := w.opts
	opts.RunDir = t.TempDir()
	if second, err := Open(t.Context(), opts); err == nil {
		second.Close()
		t.Error("the new bpffs is not locked")
	}
	w.close(n)
	n = w.open()
	w.apply(n, b)
	wantSame(t, before, identities(t, n, b.PoolID))
	w.remove(n, b)
	w.wantNothingLeft()
	w.close(n)
	w.unmount(w.opts.BPFFS)
}

// A program that was put before ours is left there, and reported.
func TestForeignProgramBefore(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	w.apply(n, b)
	s := w.site(&b)
	var foreign link.Link
	err := s.ns.Do(func() (err error) {
		foreign, err = link.AttachTCX(link.TCXOptions{
			Interface: s.inside.Attrs().Index, Program: s.stranger(), Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if drifted, err := n.Refresh(t.Context()); err != nil || len(drifted) > 0 {
		t.Errorf("Refresh = %q, %v", drifted, err)
	}
	if status, err := n.Status(b.PoolID); err != nil || status.LastError == "" {
		t.Errorf("no alarm in %+v, %v", status, err)
	}
	if err := foreign.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	if status, err := n.Status(b.PoolID); err != nil || status.LastError != "" {
		t.Errorf("the alarm stays: %+v, %v", status, err)
	}
	w.remove(n, b)
	w.wantNothingLeft()
}

// addresses are the pool's own, sorted.
func (s *site) addresses() []netip.Addr {
	return append([]netip.Addr{s.b.VIP.Address.Addr()}, s.b.SNAT...)
}

// stranger is a program that lets everything pass.
func (s *site) stranger() *ebpf.Program {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { program.Close() })
	return program
}

func (s *site) nft(change func(*nftables.Conn)) error {
	return s.ns.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		change(c)
		return c.Flush()
	})
}

// zero overwrites an element of a pinned array.
func (s *site) zero(name string, key uint32) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(s.pins, mapPins, name), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Put(key, make([]byte, m.ValueSize()))
}

// empty deletes an inner map from a pinned outer one.
func (s *site) empty(name string, key uint32) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(s.pins, mapPins, name), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Delete(key)
}

// emptyHash deletes all that is in a pinned hash map.
func (s *site) emptyHash(path string) error {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	var all [][]byte
	var key, value []byte
	for entries := m.Iterate(); entries.Next(&key, &value); {
		all = append(all, slices.Clone(key))
	}
	if len(all) == 0 {
		return fmt.Errorf("%s is empty already", path)
	}
	for _, key := range all {
		err = firstOf(err, m.Delete(key))
	}
	return err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
