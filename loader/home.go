package loader

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"qlbaas/loader/netspace"
	"qlbaas/loader/pin"
	"qlbaas/maps"
)

// ensureHome makes sure that there is a bpffs for the pins and that it is locked. It
// is called again and again: an unmounted bpffs takes its pins along, and then the
// open maps and links are all there is to make new ones from.
func (n *Node) ensureHome() error {
	n.home.Lock()
	defer n.home.Unlock()
	if n.home.lock != nil && n.home.lock.covers(n.opts.BPFFS) {
		return nil
	}
	if err := ensureBPFFS(n.opts.BPFFS); err != nil {
		return err
	}
	lock, err := lockDir(n.opts.BPFFS)
	if err != nil {
		return err
	}
	if n.home.lock != nil {
		n.log.Warn("the bpffs was unmounted; pins are made again", "bpffs", n.opts.BPFFS)
		n.home.lock.Close()
	}
	n.home.lock = lock
	return nil
}

// pinnedPools lists the pools that have a directory of pins, of whatever layout.
func pinnedPools(bpffs string) ([]string, error) {
	names, err := pin.Names(poolsDir(bpffs))
	return slices.DeleteFunc(names, func(name string) bool { return !isUUID(name) }), err
}

// checkLayouts refuses to work beside pins of another layout: whoever made them is
// another version, and its programs and ours would count handshakes twice.
func (n *Node) checkLayouts() error {
	ids, err := pinnedPools(n.opts.BPFFS)
	if err != nil {
		return err
	}
	roots := []string{nodeRoot(n.opts.BPFFS)}
	for _, id := range ids {
		roots = append(roots, poolRoot(n.opts.BPFFS, id))
	}
	for _, root := range roots {
		names, err := pin.Names(root)
		if err != nil {
			return err
		}
		for _, name := range names {
			if name != layoutName(maps.Layout) && isLayoutName(name) {
				return fmt.Errorf("%s: %w (this one is v%d)", filepath.Join(root, name), ErrLayout, maps.Layout)
			}
		}
	}
	return nil
}

func isLayoutName(name string) bool {
	version, ok := strings.CutPrefix(name, "v")
	_, err := strconv.ParseUint(version, 10, 32)
	return ok && err == nil
}

// openShared opens the maps that all pools of the node share, from their pins, from
// the programs that use them, or new.
func (n *Node) openShared() error {
	n.sharedPins = pin.New(nodePins(n.opts.BPFFS))
	if err := n.sharedPins.Settle(); err != nil {
		return err
	}
	n.sharedMu.Lock()
	defer n.sharedMu.Unlock()
	if err := n.openHandshakes(ipv4, true); err != nil {
		return err
	}
	return n.openHandshakes(ipv6, false)
}

// ensureShared makes a family's tables of handshakes when its first pool comes. They
// stay for the next one.
func (n *Node) ensureShared(ctx context.Context, f family) error {
	n.sharedMu.Lock()
	defer n.sharedMu.Unlock()
	if n.handshakes(f) != nil {
		return nil
	}
	if err := n.step(ctx, "make maps of "+f.String()+" handshakes"); err != nil {
		return err
	}
	return n.openHandshakes(f, true)
}

// sharedPin is the pin of a family's table: half_open…, half_open6….
func sharedPin(f family, name string) string {
	if f == ipv6 {
		name = strings.Replace(name, "half_open", "half_open6", 1)
	}
	return filepath.Join(mapPins, name)
}

// openHandshakes opens a family's tables, or makes them if it is told to. The lock on
// the shared tables is held.
func (n *Node) openHandshakes(f family, create bool) error {
	var own maps.NodeMaps
	err := n.findShared(f, create, &own)
	if err == nil && len(own.Names()) == 0 {
		return nil
	}
	var shared *maps.Node
	if err == nil {
		shared, err = maps.NewNode(own)
	}
	if err != nil {
		own.Close()
		return fmt.Errorf("open shared maps of %s: %w", f, err)
	}
	n.budget.addShared(f)
	n.shared[f].Store(shared)
	return nil
}

// findShared leaves own empty if nothing is there and nothing is to be made.
func (n *Node) findShared(f family, create bool, own *maps.NodeMaps) error {
	var missing []string
	for _, name := range maps.NodeMapNames() {
		m, found, err := pin.Open[*ebpf.Map](n.sharedPins, sharedPin(f, name))
		if err != nil {
			return err
		}
		if !found {
			missing = append(missing, name)
			continue
		}
		if err := own.Set(name, m); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	others, err := n.sharedInUse(f)
	if err != nil {
		return err
	}
	if len(others) == 0 {
		if !create && len(own.Names()) == 0 {
			return nil
		}
		fresh, err := n.objects[f].makeNodeMaps()
		if err != nil {
			return err
		}
		others = fresh.Names()
	}
	defer closeMaps(others)
	for _, name := range missing {
		m := others[name]
		delete(others, name)
		if err := own.Set(name, m); err != nil {
			return err
		}
		if err := n.sharedPins.Put(sharedPin(f, name), m); err != nil {
			return err
		}
	}
	return nil
}

// sharedInUse finds a family's node maps by a pool's programs that use them: when pins
// were deleted while no daemon ran, new maps would part the old pools from new ones.
func (n *Node) sharedInUse(f family) (map[string]*ebpf.Map, error) {
	ids, err := pinnedPools(n.opts.BPFFS)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if shared, err := n.sharedBy(f, id); err != nil || shared != nil {
			return shared, err
		}
	}
	return nil, nil
}

// sharedBy returns the node's maps that a pool's program uses; nil if none runs, or
// one of another family.
func (n *Node) sharedBy(f family, id string) (map[string]*ebpf.Map, error) {
	var found remains
	defer found.close()
	p := newPool(id, n.log, poolPins(n.opts.BPFFS, id))
	if ns, err := netspace.Open(namespaceName(id)); err == nil {
		defer ns.Close()
		p.ns = ns
	}
	err := errors.Join(found.openPrograms(p.pins, n.builds()), found.links.open(p.pins))
	if err != nil {
		return nil, nil // the pool's own adoption will say what is wrong
	}
	program, err := n.runningProgram(p, &found)
	if err != nil || program == nil {
		return nil, err
	}
	defer program.Close()
	used, err := mapsOf(program)
	if err != nil {
		return nil, err
	}
	defer closeMaps(used)
	if !n.objects[f].sameKeys("half_open", used["half_open"]) {
		return nil, nil
	}
	shared := map[string]*ebpf.Map{}
	for _, name := range maps.NodeMapNames() {
		if used[name] == nil {
			closeMaps(shared)
			return nil, nil
		}
		shared[name] = used[name]
		delete(used, name)
	}
	return shared, nil
}
