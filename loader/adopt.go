package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/loader/pin"
	"qlbaas/loader/rtnl"
	"qlbaas/maps"
)

// errHalfMade says that a pool's maps never were whole: no program can run on them
// and nobody counts on them.
var errHalfMade = errors.New("half made")

// adopt opens what is there of a pool that this process did not make. It changes
// nothing that programs see. The error is errHalfMade for remains that are only
// worth removing; a pool of which nothing is there is adopted as nothing.
func (n *Node) adopt(p *pool) error {
	ns, err := netspace.Open(namespaceName(p.id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, netspace.ErrNone) {
		return err
	}
	p.setNamespace(ns)
	found, err := n.findPinned(p)
	if err == nil && !found.empty() {
		err = n.takePinned(p, found)
	}
	if err != nil {
		found.close()
		n.letGo(p)
		n.budget.release(p.id)
		return fmt.Errorf("adopt pool: %w", err)
	}
	return nil
}

// remains are a pool's objects as they were found under its pins.
type remains struct {
	own      maps.PoolMaps
	inner    map[string]*ebpf.Map
	rodata   *ebpf.Map
	programs *programs
	links    attachments
	// repin are maps whose pin was deleted, or is not the programs' map.
	repin map[string]*ebpf.Map
}

func (r *remains) empty() bool {
	return len(r.own.Names()) == 0 && len(r.inner) == 0 && r.rodata == nil && r.programs == nil && r.links.none()
}

func (r *remains) close() {
	r.own.Close()
	closeMaps(r.inner)
	r.rodata.Close()
	r.programs.Close()
	r.links.Close()
}

// findPinned opens all pins of a pool.
func (n *Node) findPinned(p *pool) (*remains, error) {
	found := &remains{inner: map[string]*ebpf.Map{}, repin: map[string]*ebpf.Map{}}
	if err := p.pins.Settle(); err != nil {
		return found, err
	}
	if err := found.openMaps(p.pins); err != nil {
		return found, err
	}
	if err := found.openPrograms(p.pins, n.builds()); err != nil {
		return found, err
	}
	if err := found.links.open(p.pins); err != nil {
		return found, err
	}
	program, err := n.runningProgram(p, found)
	if err != nil || program == nil {
		return found, err
	}
	defer program.Close()
	if err := found.preferUsed(program); err != nil {
		return found, err
	}
	return found, n.replaceLost(p, found)
}

// replaceLost makes maps anew that no program uses and that are not pinned any
// more. It is no reason to end the connections that a running program has.
func (n *Node) replaceLost(p *pool, found *remains) error {
	there := found.own.Names()
	if len(there) == len(maps.PoolMapNames()) {
		return nil
	}
	f, known := n.familyOfMaps(&found.own)
	if !known {
		return nil // no flows, no pool
	}
	fresh, err := n.objects[f].makePoolMaps(DefaultFlowLimit, maps.MaxSources)
	defer func() { fresh.Close() }() // what is left of them
	if err != nil {
		return err
	}
	for _, name := range maps.PoolMapNames() {
		if there[name] != nil {
			continue
		}
		p.log.Warn("a map was lost with its pin and starts anew", "map", name)
		m := fresh.Names()[name]
		if err := errors.Join(fresh.Set(name, nil), found.own.Set(name, m)); err != nil {
			return err
		}
		found.repin[name] = m
	}
	return nil
}

func (r *remains) openMaps(from *pin.Pins) error {
	names, err := from.List(mapPins)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(mapPins, name)
		m, ok, err := pin.Open[*ebpf.Map](from, path)
		if err != nil {
			return err
		}
		switch {
		case !ok:
		case name == rodataPin:
			r.rodata = m
		case r.own.Set(name, m) != nil: // no outer map's name
			r.inner[name] = m
		}
	}
	return nil
}

// openPrograms opens the programs of one build: one of this binary's if they are
// there.
func (r *remains) openPrograms(from *pin.Pins, own []string) error {
	builds, err := from.List(programPins)
	if err != nil || len(builds) == 0 {
		return err
	}
	chosen := builds[0]
	for _, b := range builds {
		if slices.Contains(own, b) {
			chosen = b
		}
	}
	r.programs = &programs{build: chosen}
	for name, to := range r.programs.named() {
		path := filepath.Join(programPins, chosen, name)
		if *to, _, err = pin.Open[*ebpf.Program](from, path); err != nil {
			return err
		}
	}
	return nil
}

// runningProgram is the one that handles packets, or the next best: a pinned one;
// nil if there is none. The caller must close it.
func (n *Node) runningProgram(p *pool, found *remains) (*ebpf.Program, error) {
	if program := linkedProgram(found.links.tcx); program != nil {
		return program, nil
	}
	if p.ns != nil {
		if program, err := filterProgram(p.ns); err != nil || program != nil {
			return program, err
		}
	}
	if found.programs != nil && found.programs.tc != nil {
		return found.programs.tc.Clone()
	}
	return linkedProgram(found.links.xdp), nil
}

// linkedProgram is what a link runs, if that can be opened.
func linkedProgram(l link.Link) *ebpf.Program {
	if l == nil {
		return nil
	}
	info, err := l.Info()
	if err != nil {
		return nil
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return nil
	}
	return program
}

// filterProgram is what a classic filter in the namespace runs.
func filterProgram(ns *netspace.Namespace) (*ebpf.Program, error) {
	devices, err := rtnl.Dump(ns.Routes.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices of %s: %w", ns.Name, err)
	}
	for _, d := range devices {
		_, id, err := hook.FindFilter(ns, d)
		if err != nil {
			return nil, err
		}
		if id == 0 {
			continue
		}
		if program, err := ebpf.NewProgramFromID(id); err == nil {
			return program, nil
		}
	}
	return nil, nil
}

// preferUsed replaces maps that are missing among the pins, or that are not the
// ones that the program works on.
func (r *remains) preferUsed(program *ebpf.Program) error {
	used, err := mapsOf(program)
	if err != nil {
		return err
	}
	defer closeMaps(used)
	pinned := r.own.Names()
	if r.rodata != nil {
		pinned[constants] = r.rodata
	}
	if program.Type() != ebpf.SchedCLS {
		// The other object's constants are arranged in another way.
		used[constants].Close()
		delete(used, constants)
	}
	for name, m := range used {
		if same, err := sameMap(pinned[name], m); err != nil || same {
			if err != nil {
				return err
			}
			continue
		}
		twin, err := m.Clone()
		if err != nil {
			return fmt.Errorf("keep map %s of program: %w", name, err)
		}
		if !r.replace(name, twin) {
			twin.Close() // one of the node's
		}
	}
	return nil
}

func (r *remains) replace(name string, m *ebpf.Map) bool {
	if name == constants {
		r.rodata.Close()
		r.rodata, r.repin[rodataPin] = m, m
		return true
	}
	old := r.own.Names()[name]
	if r.own.Set(name, m) != nil {
		return false
	}
	old.Close()
	r.repin[name] = m
	return true
}

func sameMap(a, b *ebpf.Map) (bool, error) {
	if a == nil || b == nil {
		return false, nil
	}
	first, err := mapID(a)
	if err != nil {
		return false, err
	}
	second, err := mapID(b)
	return first == second, err
}

// takePinned makes the remains the pool's, and mends the pins.
func (n *Node) takePinned(p *pool, found *remains) error {
	f, known := n.familyOfMaps(&found.own)
	if !known {
		return fmt.Errorf("%w: no table of flows", errHalfMade)
	}
	p.setFamily(f)
	view, err := maps.NewPool(n.objects[f].tc, found.own)
	if errors.Is(err, maps.ErrInvalid) {
		return fmt.Errorf("%w: %w", errHalfMade, err)
	}
	if err != nil {
		return err
	}
	found.own = maps.PoolMaps{} // the view's now
	err = n.takeView(p, view, found)
	if err != nil {
		view.Close()
		return err
	}
	p.attached = found.links
	found.links = attachments{}
	p.complete = true
	return nil
}

func (n *Node) takeView(p *pool, view *maps.Pool, found *remains) error {
	inner := found.inner
	found.inner = nil
	adoption, err := view.Adopt(inner)
	if err != nil {
		return err
	}
	active, err := view.Generation()
	if errors.Is(err, maps.ErrNotFound) {
		return fmt.Errorf("%w: no generation was written", errHalfMade)
	}
	if err != nil {
		return err
	}
	if err := p.repin(found.repin, adoption); err != nil {
		return err
	}
	members, err := recoverMembers(view, active)
	if err != nil {
		return err
	}
	ps, err := n.recoverPrograms(p, found, view)
	if err != nil {
		return err
	}
	if err := n.budget.adopt(p.id, p.family, limitsOf(view, active)); err != nil {
		return err
	}
	p.build.Lock()
	p.publish(members, active)
	p.build.Unlock()
	p.data.Lock()
	defer p.data.Unlock()
	p.view, p.programs = view, ps
	return nil
}

// repin mends the pins of maps.
func (p *pool) repin(outer map[string]*ebpf.Map, inner maps.Adoption) error {
	for _, name := range inner.Stale {
		if err := p.pins.Drop(filepath.Join(mapPins, name)); err != nil {
			return err
		}
	}
	for name, m := range outer {
		if err := p.pins.Put(filepath.Join(mapPins, name), m); err != nil {
			return err
		}
	}
	return p.pinInner(inner.Repin)
}

// letGo closes whatever is open of a pool; the kernel keeps what is pinned. The
// operation lock is held.
func (n *Node) letGo(p *pool) {
	p.quiet()
	p.build.Lock()
	defer p.build.Unlock()
	p.wanted = nil
	p.publish(nil, maps.Generation{})
	p.data.Lock()
	view, ps, ns := p.view, p.programs, p.ns
	p.view, p.programs, p.ns = nil, nil, nil
	p.data.Unlock()
	if view != nil {
		view.Close()
	}
	ps.Close()
	p.prepared.Close()
	p.prepared = nil
	p.attached.Close()
	p.attached = attachments{}
	if ns != nil {
		ns.Close()
	}
	p.pins.Forget()
	p.complete, p.number, p.timer = false, 0, nil
}
