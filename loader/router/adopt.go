package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"qlbaas/loader/netspace"
	"qlbaas/loader/pin"
	"qlbaas/maps"
)

// checkLayouts refuses to work beside pins of another layout: whoever made them is another
// version.
func (n *Node) checkLayouts() error {
	ids, err := n.pinned()
	if err != nil {
		return err
	}
	for _, id := range ids {
		own := pinsDir(n.opts.BPFFS, id)
		names, err := pin.Names(filepath.Dir(own))
		if err != nil {
			return err
		}
		for _, name := range names {
			if name != filepath.Base(own) {
				return fmt.Errorf("%s: %w", filepath.Join(filepath.Dir(own), name), ErrLayout)
			}
		}
	}
	return nil
}

// adoptAll adopts every router of which something is there. One that cannot be adopted does
// not keep the others waiting: its next Apply makes it anew.
func (n *Node) adoptAll(ctx context.Context) error {
	ids, err := n.Deployed()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := n.acquire(id)
		if err != nil {
			return err
		}
		if err := r.adopt(n.build); err != nil {
			r.letGo()
			r.log.Error("a router cannot be adopted", "err", err)
			r.note(err)
		}
		n.release(r)
	}
	return nil
}

// adopt opens what is there of a router that this process did not make, and changes nothing.
func (r *router) adopt(build string) error {
	ns, err := netspace.Open(namespaceName(r.id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, netspace.ErrNone) {
		return err
	}
	if ns != nil {
		r.setNamespace(ns)
	}
	if err := r.pins.Settle(); err != nil {
		return err
	}
	if err := r.adoptTables(); err != nil || r.tables == nil {
		return err
	}
	if err := r.adoptPrograms(build); err != nil {
		return err
	}
	r.complete = true
	return r.adoptLinks()
}

// adoptTables opens the maps. Where one is missing all are made anew: programs that work on
// the others go on until they are replaced.
func (r *router) adoptTables() error {
	found := &maps.RouterMaps{}
	for _, name := range maps.RouterMapNames() {
		m, ok, err := pin.Open[*ebpf.Map](r.pins, filepath.Join(mapPins, name))
		if err == nil && ok {
			err = found.Set(name, m)
		}
		if err != nil {
			return errors.Join(err, found.Close())
		}
	}
	if err := found.Complete(); err != nil {
		if len(found.Names()) > 0 {
			r.log.Warn("a router's maps are not whole, and start anew", "err", err)
		}
		return found.Close()
	}
	r.setTables(found)
	return nil
}

// adoptPrograms opens the programs of one build, this binary's if they are there, and only
// those that work on the maps.
func (r *router) adoptPrograms(build string) error {
	builds, err := r.pins.List(programPins)
	if err != nil || !slices.Contains(builds, build) {
		return err // others are replaced, and unpinned after that
	}
	ps := &programs{build: build}
	for name, to := range ps.named() {
		if *to, _, err = pin.Open[*ebpf.Program](r.pins, filepath.Join(programPins, build, name)); err != nil {
			return errors.Join(err, ps.Close())
		}
	}
	fit, err := ps.workOn(r.tables)
	if err != nil || !fit {
		return errors.Join(err, ps.Close())
	}
	r.setPrograms(ps)
	return nil
}

// workOn tells whether the programs work on these maps.
func (ps *programs) workOn(tables *maps.RouterMaps) (bool, error) {
	if ps.tc == nil {
		return false, nil
	}
	for _, program := range []*ebpf.Program{ps.tc, ps.xdp} {
		if program == nil {
			continue
		}
		info, err := program.Info()
		if err != nil {
			return false, fmt.Errorf("look at program: %w", err)
		}
		used, _ := info.MapIDs()
		for _, m := range tables.Names() {
			about, err := m.Info()
			if err != nil {
				return false, fmt.Errorf("look at map: %w", err)
			}
			if id, _ := about.ID(); !slices.Contains(used, id) {
				return false, nil
			}
		}
	}
	return true, nil
}

func (r *router) adoptLinks() error {
	names, err := r.pins.List(linkPins)
	if err != nil {
		return err
	}
	for _, name := range names {
		l, ok, err := pin.Open[link.Link](r.pins, filepath.Join(linkPins, name))
		if err != nil {
			return err
		}
		if ok {
			*r.linkOf(name) = l
		}
	}
	return nil
}
