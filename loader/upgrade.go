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
	if n.hook.name != HookXDP {
		return nil
	}
	return n.ensureFastLane(ctx, p, [6]byte(mac))
}

// ensureFastLane loads the XDP pair, for a device with that address.
func (n *Node) ensureFastLane(ctx context.Context, p *pool, mac [6]byte) error {
	have := p.loaded()
	if have.xdp != nil && have.pass != nil {
		if fits, err := n.objects[p.family].knowsMAC(have.xdp, mac); fits || err != nil {
			return err
		}
	}
	if err := n.step(ctx, "load XDP programs"); err != nil {
		return err
	}
	whole := *have
	var err error
	whole.xdp, whole.pass, err = n.loadXDP(p.family, p.number, mac, p.view.Maps())
	if err != nil {
		return err
	}
	if err := n.pinPrograms(ctx, p, &whole, programXDP, programPass); err != nil {
		return errors.Join(err, whole.xdp.Close(), whole.pass.Close())
	}
	p.setPrograms(&whole)
	return errors.Join(have.xdp.Close(), have.pass.Close())
}

// replacePrograms loads all programs anew. Packets see them once they are attached.
func (n *Node) replacePrograms(ctx context.Context, p *pool) (err error) {
	if err := n.step(ctx, "load programs"); err != nil {
		return err
	}
	if p.number == 0 {
		if p.number, err = n.chooseNumber(p.family); err != nil {
			return err
		}
	}
	fresh, err := n.loadTC(p.family, p.number, p.view.Maps())
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
	if n.hook.name == HookXDP || ps.xdp == nil && ps.pass == nil {
		return nil
	}
	if err := n.step(ctx, "unpin programs of another hook"); err != nil {
		return err
	}
	for _, name := range []string{programXDP, programPass} {
		if err := p.pins.Drop(filepath.Join(programPins, ps.build, name)); err != nil {
			return err
		}
	}
	p.data.Lock()
	defer p.data.Unlock()
	slim := *ps
	slim.xdp, slim.pass = nil, nil
	p.programs = &slim
	return errors.Join(ps.xdp.Close(), ps.pass.Close())
}
