package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"qlbaas/loader/hook"
	"qlbaas/maps"
)

// Names of programs in the objects, and of the directories of pins.
const (
	programTC   = "tc_fip"
	programXDP  = "xdp_fip"
	programPass = "xdp_pass"

	mapPins     = "maps"
	programPins = "programs"
	linkPins    = "links"
)

// programs are one router's, loaded: the same for all legs.
type programs struct {
	build         string
	tc, xdp, pass *ebpf.Program
}

// Close lets go of the programs; what is attached or pinned lives on.
func (ps *programs) Close() error {
	if ps == nil {
		return nil
	}
	return errors.Join(ps.tc.Close(), ps.xdp.Close(), ps.pass.Close())
}

// named are the programs by name.
func (ps *programs) named() map[string]**ebpf.Program {
	return map[string]**ebpf.Program{programTC: &ps.tc, programXDP: &ps.xdp, programPass: &ps.pass}
}

// ensurePrograms makes the maps if they are not there, and loads the programs on them
// unless those there are of this build.
func (n *Node) ensurePrograms(ctx context.Context, r *router) error {
	if r.tables == nil {
		if err := n.makeTables(ctx, r); err != nil {
			return err
		}
	}
	xdp := n.hook == hook.NameXDP
	if ps := r.programs; ps != nil && ps.build == n.build && (!xdp || ps.xdp != nil && ps.pass != nil) {
		return nil
	}
	if err := n.step(ctx, "load programs"); err != nil {
		return err
	}
	fresh, err := n.load(r.tables, xdp)
	if err != nil {
		return err
	}
	for name, program := range fresh.named() {
		if *program == nil {
			continue
		}
		name := filepath.Join(programPins, fresh.build, name)
		err := n.step(ctx, "pin "+name)
		if err == nil {
			err = r.pins.Put(name, *program)
		}
		if err != nil {
			return errors.Join(err, fresh.Close())
		}
	}
	old := r.programs
	r.setPrograms(fresh)
	return old.Close()
}

// makeTables makes the maps, and pins them.
func (n *Node) makeTables(ctx context.Context, r *router) error {
	if err := n.step(ctx, "make maps"); err != nil {
		return err
	}
	fresh := &maps.RouterMaps{}
	if err := n.tc.Copy().LoadAndAssign(fresh, nil); err != nil {
		return fmt.Errorf("make maps: %w", err)
	}
	for name, m := range fresh.Names() {
		name := filepath.Join(mapPins, name)
		err := n.step(ctx, "pin "+name)
		if err == nil {
			err = r.pins.Put(name, m)
		}
		if err != nil {
			return errors.Join(err, fresh.Close())
		}
	}
	r.setTables(fresh)
	return nil
}

// load loads the programs on maps that are there already.
func (n *Node) load(tables *maps.RouterMaps, xdp bool) (*programs, error) {
	use := &ebpf.CollectionOptions{MapReplacements: tables.Names()}
	ps := &programs{build: n.build}
	var tc struct {
		TC *ebpf.Program `ebpf:"tc_fip"`
	}
	if err := n.tc.Copy().LoadAndAssign(&tc, use); err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	ps.tc = tc.TC
	if !xdp {
		return ps, nil
	}
	var fast struct {
		XDP  *ebpf.Program `ebpf:"xdp_fip"`
		Pass *ebpf.Program `ebpf:"xdp_pass"`
	}
	if err := n.xdp.Copy().LoadAndAssign(&fast, use); err != nil {
		return nil, errors.Join(fmt.Errorf("load programs: %w", err), ps.Close())
	}
	ps.xdp, ps.pass = fast.XDP, fast.Pass
	return ps, nil
}

// dropOldPrograms unpins programs of other builds, which nothing runs any more, and XDP's
// where that is not the hook.
func (n *Node) dropOldPrograms(ctx context.Context, r *router) error {
	builds, err := r.pins.List(programPins)
	if err != nil {
		return err
	}
	builds = slices.DeleteFunc(builds, func(b string) bool { return b == n.build })
	for _, build := range builds {
		if err := n.step(ctx, "unpin programs of another build"); err != nil {
			return err
		}
		if err := r.pins.DropDir(filepath.Join(programPins, build)); err != nil {
			return err
		}
	}
	ps := r.programs
	if n.hook == hook.NameXDP || ps.xdp == nil && ps.pass == nil {
		return nil
	}
	if err := n.step(ctx, "unpin programs of another hook"); err != nil {
		return err
	}
	for _, name := range []string{programXDP, programPass} {
		if err := r.pins.Drop(filepath.Join(programPins, ps.build, name)); err != nil {
			return err
		}
	}
	r.setPrograms(&programs{build: ps.build, tc: ps.tc})
	return errors.Join(ps.xdp.Close(), ps.pass.Close())
}

// ensureTables tells the programs of legs, networks and floating IPs.
func (n *Node) ensureTables(ctx context.Context, r *router, w *Router, wires []*wire) error {
	wanted := tablesOf(w, wires)
	same, err := r.tables.Holds(wanted)
	if err != nil || same {
		return err
	}
	if err := n.step(ctx, "write tables"); err != nil {
		return err
	}
	return r.tables.Write(wanted)
}

func tablesOf(w *Router, wires []*wire) (t maps.RouterTables) {
	external, index := 0, map[string]int{}
	for _, wire := range wires {
		index[wire.leg.PortID] = wire.inside.Attrs().Index
		if wire.leg.external {
			external = wire.inside.Attrs().Index
		}
	}
	for _, wire := range wires {
		t.Legs = append(t.Legs, maps.RouterLeg{
			Index: wire.inside.Attrs().Index, External: external, MTU: wire.inside.Attrs().MTU,
			Address: wire.leg.Address.Addr(), MAC: wire.leg.MAC,
		})
		t.Networks = append(t.Networks, maps.RouterNetwork{Prefix: wire.leg.Address.Masked(), Leg: wire.inside.Attrs().Index})
		for _, route := range w.Routes {
			if wire.leg.Address.Contains(route.NextHop) && route.Destination.Bits() > 0 {
				t.Networks = append(t.Networks, maps.RouterNetwork{Prefix: route.Destination.Masked(), Leg: wire.inside.Attrs().Index})
			}
		}
	}
	for _, f := range w.floating() {
		t.Floating = append(t.Floating, maps.FloatingIP{
			ID: f.ID, Address: f.Address, Fixed: f.Fixed, Leg: index[w.toward(f.Fixed).PortID],
		})
	}
	return t
}
