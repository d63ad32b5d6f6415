package loader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
)

// ensurePrograms loads the pool's programs unless those there are of this build and
// work on the pool's maps.
func (n *Node) ensurePrograms(ctx context.Context, p *pool, mac net.HardwareAddr) error {
	fit, err := n.programsFit(p)
	if err != nil {
		return err
	}
	if !fit {
		if err := n.replacePrograms(ctx, p); err != nil {
			return err
		}
	}
	if n.hook.lane == laneTap {
		return nil // see ensureShortCut
	}
	return n.ensureFastLane(ctx, p, [6]byte(mac))
}

// ensureFastLane loads the programs of the node's fast lane, for a device with that address.
func (n *Node) ensureFastLane(ctx context.Context, p *pool, mac [6]byte) error {
	names := n.hook.lane.programs()
	if len(names) == 0 {
		return nil
	}
	have := p.loaded()
	if have.has(names) {
		first := *have.named()[names[0]]
		if fits, err := n.objects[p.family].knowsMAC(n.hook.lane, first, mac); fits || err != nil {
			return err
		}
	}
	if err := n.step(ctx, "load fast lane"); err != nil {
		return err
	}
	whole, former := have.without(names)
	if err := n.loadLane(p.family, p.number, mac, p.view.Maps(), whole); err != nil {
		return err
	}
	if err := n.pinPrograms(ctx, p, whole, names...); err != nil {
		_, fresh := whole.without(names)
		return errors.Join(err, closePrograms(fresh))
	}
	p.setPrograms(whole)
	return closePrograms(former)
}

// without returns a copy that lacks the programs of these names, and those.
func (ps *programs) without(names []string) (rest *programs, taken []*ebpf.Program) {
	slim := *ps
	all := slim.named()
	for _, name := range names {
		taken = append(taken, *all[name])
		*all[name] = nil
	}
	return &slim, taken
}

func closePrograms(all []*ebpf.Program) error {
	var errs []error
	for _, program := range all {
		errs = append(errs, program.Close())
	}
	return errors.Join(errs...)
}

// replacePrograms loads all programs anew. Packets see them once they are attached.
func (n *Node) replacePrograms(ctx context.Context, p *pool) error {
	if err := n.step(ctx, "load programs"); err != nil {
		return err
	}
	fresh, err := n.newPrograms(p)
	if err != nil {
		return err
	}
	err = n.pinPrograms(ctx, p, fresh, programTC, programSweep)
	if err == nil { // with these the number has an owner
		err = n.pin(ctx, p, filepath.Join(mapPins, rodataPin), fresh.constants)
	}
	if err != nil {
		return errors.Join(err, fresh.Close())
	}
	old := p.loaded()
	p.setPrograms(fresh)
	return old.Close()
}

func (p *pool) setPrograms(ps *programs) {
	p.data.Lock()
	defer p.data.Unlock()
	p.programs = ps
}

// programsFit tells whether the programs are this build's and work on these maps.
func (n *Node) programsFit(p *pool) (bool, error) {
	have := p.loaded()
	if have == nil || have.build != n.objects[p.family].build {
		return false, nil
	}
	return have.workOn(p.view.Maps())
}

// recoverPrograms returns the pinned programs if they are whole and work on these maps,
// else none: then the next Apply loads them anew, under the same number.
func (n *Node) recoverPrograms(p *pool, found *remains, view *maps.Pool) (*programs, error) {
	if found.rodata == nil {
		return nil, nil
	}
	number, err := n.objects[p.family].readNumber(found.rodata)
	if err != nil {
		return nil, err
	}
	p.number = number
	ps := found.programs
	if ps == nil || ps.tc == nil || ps.sweep == nil {
		return nil, nil
	}
	if fit, err := ps.workOn(view.Maps()); err != nil || !fit {
		return nil, err
	}
	ps.constants = found.rodata
	found.programs, found.rodata = nil, nil
	return ps, nil
}

// workOn tells whether the programs work on these tables, of those that can be changed
// for others or be lost with their pin.
func (ps *programs) workOn(own maps.PoolMaps) (bool, error) {
	for program, tables := range map[*ebpf.Program][]*ebpf.Map{
		ps.tc: {own.Flows, own.MemberStates}, ps.sweep: {own.Expiry},
	} {
		info, err := program.Info()
		if err != nil {
			return false, fmt.Errorf("look at program: %w", err)
		}
		used, _ := info.MapIDs()
		for _, m := range tables {
			id, err := mapID(m)
			if err != nil || !slices.Contains(used, id) {
				return false, err
			}
		}
	}
	return true, nil
}

// ensureExpiry hands the timer that looks after the flows of a dead daemon to the
// programs that there are now. It would keep the former ones, and what they work on.
func (n *Node) ensureExpiry(ctx context.Context, p *pool) error {
	ps := p.loaded()
	if p.timer == ps.sweep {
		return nil
	}
	if err := n.step(ctx, "start expiry timer"); err != nil {
		return err
	}
	return p.startExpiry(ps)
}

func (p *pool) startExpiry(ps *programs) error {
	if err := maps.StartExpiry(ps.sweep); err != nil {
		return err
	}
	p.timer = ps.sweep
	return nil
}

// pinPrograms pins the programs of these names.
func (n *Node) pinPrograms(ctx context.Context, p *pool, ps *programs, names ...string) error {
	for _, name := range names {
		if err := n.pin(ctx, p, filepath.Join(programPins, ps.build, name), *ps.named()[name]); err != nil {
			return err
		}
	}
	return nil
}

// dropOldPrograms unpins the programs of other builds and hooks, which nothing
// runs any more.
func (n *Node) dropOldPrograms(ctx context.Context, p *pool) error {
	ps := p.loaded()
	builds, err := p.pins.List(programPins)
	if err != nil {
		return err
	}
	for _, build := range builds {
		if build == ps.build {
			continue
		}
		if err := n.step(ctx, "unpin programs of another build"); err != nil {
			return err
		}
		if err := p.pins.DropDir(filepath.Join(programPins, build)); err != nil {
			return err
		}
	}
	var others []string
	for _, l := range []lane{laneXDP, laneTap} {
		for _, name := range l.programs() {
			if l != n.hook.lane && ps.has([]string{name}) {
				others = append(others, name)
			}
		}
	}
	if len(others) == 0 {
		return nil
	}
	if err := n.step(ctx, "unpin programs of another hook"); err != nil {
		return err
	}
	for _, name := range others {
		if err := p.pins.Drop(filepath.Join(programPins, ps.build, name)); err != nil {
			return err
		}
	}
	slim, former := ps.without(others)
	p.setPrograms(slim)
	return closePrograms(former)
}
