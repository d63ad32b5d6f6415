package loader

import (
	"context"
	"path/filepath"

	"qlbaas/maps"
)

// wantedPins are all pins that the pool shall have, by name.
func (p *pool) wantedPins() map[string]any {
	wanted := map[string]any{}
	own := p.view.Maps()
	for name, m := range own.Names() {
		wanted[filepath.Join(mapPins, name)] = m
	}
	for _, in := range p.view.Inner() {
		wanted[filepath.Join(mapPins, in.Name)] = in.Map
	}
	ps := p.loaded()
	wanted[filepath.Join(mapPins, rodataPin)] = ps.constants
	for name, program := range ps.named() {
		if *program != nil {
			wanted[filepath.Join(programPins, ps.build, name)] = *program
		}
	}
	for name, l := range p.attached.named() {
		if *l != nil {
			wanted[filepath.Join(linkPins, name)] = *l
		}
	}
	return wanted
}

// ensurePins makes pins again that somebody deleted. Without them the next daemon
// would not find what this one can still hold on to.
func (n *Node) ensurePins(ctx context.Context, p *pool) error {
	// A generation that is being made changes inner maps and pins.
	p.build.Lock()
	defer p.build.Unlock()
	return p.pins.Repair(ctx, n.steps(), p.wantedPins())
}

// ensureSharedPins does the same for what all pools share.
func (n *Node) ensureSharedPins(ctx context.Context) error {
	wanted := map[string]any{}
	n.sharedMu.Lock() // who makes a family's tables pins them as well
	defer n.sharedMu.Unlock()
	for f := range families {
		shared := n.handshakes(f)
		if shared == nil {
			continue
		}
		own := shared.Maps()
		for name, m := range own.Names() {
			wanted[sharedPin(f, name)] = m
		}
	}
	return n.sharedPins.Repair(ctx, n.steps(), wanted)
}

// pinInner pins new inner maps over those whose places they have taken.
func (p *pool) pinInner(made []maps.Inner) error {
	for _, in := range made {
		if err := p.pins.Put(filepath.Join(mapPins, in.Name), in.Map); err != nil {
			return err
		}
	}
	return nil
}
