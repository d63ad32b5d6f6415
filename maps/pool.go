package maps

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
)

// Pool is the view of one pool's maps. It owns them and all their inner maps. Safe
// for concurrent use, but for Close.
type Pool struct {
	own   PoolMaps
	words family
	// outers and templates: by outer map's name, the map and what its inner maps are
	// made from.
	outers    map[string]*ebpf.Map
	templates map[string]*ebpf.MapSpec

	mu sync.RWMutex
	// inner holds the inner maps in use, fresh those whose caller does not know yet
	// that they are to be pinned.
	inner map[place]*ebpf.Map
	fresh map[place]bool
	// half is the active one; serials are those of its members.
	half    uint32
	serials map[uint16]uint32
}

// Inner is one inner map and the name under which it is pinned. The Pool owns the
// map: pin it, never close it.
type Inner struct {
	Name string
	Map  *ebpf.Map
}

// place is where an inner map belongs.
type place struct {
	outer string
	index uint32
}

// The outer maps, by name.
const (
	vips         = "vips"
	members      = "members"
	schedules    = "schedules"
	weights      = "weights"
	affinities   = "affinities"
	memberStates = "member_states"
	counters     = "counters"
)

func outerNames() []string {
	return []string{vips, members, schedules, weights, affinities, memberStates, counters}
}

// name is the pin's: members_1.
func (p place) name() string { return p.outer + "_" + strconv.FormatUint(uint64(p.index), 10) }

// kernelName is what bpftool shows: the index must survive the 15 characters that
// the kernel keeps.
func (p place) kernelName() string {
	const kept = 15
	index := p.name()[len(p.outer):]
	return p.outer[:min(len(p.outer), kept-len(index))] + index
}

func placeOf(name string) (place, bool) {
	at := strings.LastIndexByte(name, '_')
	if at < 0 || !slices.Contains(outerNames(), name[:at]) {
		return place{}, false
	}
	index, err := strconv.ParseUint(name[at+1:], 10, 32)
	p := place{name[:at], uint32(index)}
	return p, err == nil && p.name() == name
}

// NewPool views m through the layout of spec, which must be the spec that m was made
// from. It owns m on success. A pool whose maps were there before needs Adopt before
// anything else. ErrInvalid if a map is absent, or if spec is another family's.
func NewPool(spec *ebpf.CollectionSpec, m PoolMaps) (*Pool, error) {
	if err := complete(&m); err != nil {
		return nil, fmt.Errorf("view pool: %w", err)
	}
	words, err := familyOf(m.Flows)
	if err != nil {
		return nil, fmt.Errorf("view pool: %w", err)
	}
	if flows := spec.Maps["flows"]; flows == nil || flows.KeySize != m.Flows.KeySize() {
		return nil, fmt.Errorf("view pool: %w", invalid("spec of another address family"))
	}
	p := &Pool{
		own:       m,
		words:     words,
		outers:    make(map[string]*ebpf.Map),
		templates: make(map[string]*ebpf.MapSpec),
		inner:     make(map[place]*ebpf.Map),
		fresh:     make(map[place]bool),
	}
	all := m.Names()
	for _, name := range outerNames() {
		outer := spec.Maps[name]
		if outer == nil || outer.InnerMap == nil {
			return nil, fmt.Errorf("view pool: %w", invalid("spec without inner maps of %s", name))
		}
		p.outers[name], p.templates[name] = all[name], outer.InnerMap
	}
	return p, nil
}

// Maps returns the outer maps, which stay the pool's.
func (p *Pool) Maps() PoolMaps { return p.own }

// Close closes every map; pinned ones live on. Nothing may use the pool during or
// after it.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := []error{p.own.Close()}
	for _, m := range p.inner {
		errs = append(errs, m.Close())
	}
	clear(p.inner)
	return errors.Join(errs...)
}

// Inner returns the inner maps in use, sorted by name.
func (p *Pool) Inner() []Inner {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make([]Inner, 0, len(p.inner))
	for at, m := range p.inner {
		all = append(all, Inner{at.name(), m})
	}
	sortInner(all)
	return all
}

func sortInner(all []Inner) {
	slices.SortFunc(all, func(a, b Inner) int { return cmp.Compare(a.Name, b.Name) })
}

// create makes an inner map for a place, without putting it there. entries 0 means
// as many as the template.
func (p *Pool) create(at place, entries uint32) (*ebpf.Map, error) {
	spec := p.templates[at.outer].Copy()
	spec.Name = at.kernelName()
	if entries > 0 {
		spec.MaxEntries = entries
	}
	m, err := ebpf.NewMap(spec)
	return m, wrap(err, "create %s", at.name())
}

// put makes m the inner map at a place. Waits until no program uses what was there.
func (p *Pool) put(at place, m *ebpf.Map) error {
	return wrap(p.outers[at.outer].Put(at.index, m), "put %s", at.name())
}

// hold records that m is in its place now and is to be pinned. The lock is held.
func (p *Pool) hold(at place, m *ebpf.Map) {
	_ = p.inner[at].Close() // nil is fine; a map that is not in use has nothing to lose
	p.inner[at], p.fresh[at] = m, true
}

// drop forgets the inner map of a place that is empty now. The lock is held.
func (p *Pool) drop(at place) {
	_ = p.inner[at].Close()
	delete(p.inner, at)
	delete(p.fresh, at)
}

// takeFresh returns the inner maps that are to be pinned and forgets that. The lock
// is held.
func (p *Pool) takeFresh() []Inner {
	taken := make([]Inner, 0, len(p.fresh))
	for at := range p.fresh {
		taken = append(taken, Inner{at.name(), p.inner[at]})
	}
	clear(p.fresh)
	sortInner(taken)
	return taken
}

// at returns the inner map of a place. The lock is held.
func (p *Pool) at(outer string, index uint32) (*ebpf.Map, error) {
	at := place{outer, index}
	m := p.inner[at]
	if m == nil {
		return nil, fmt.Errorf("%s: %w", at.name(), ErrNotFound)
	}
	return m, nil
}

// waves calls f for all items, up to 32 at a time: calls that wait for a grace
// period share it.
func waves[T any](items []T, f func(T) error) error {
	const most = 32
	var errs []error
	for wave := range slices.Chunk(items, most) {
		var wait sync.WaitGroup
		results := make([]error, len(wave))
		for i, item := range wave {
			wait.Go(func() { results[i] = f(item) })
		}
		wait.Wait()
		errs = append(errs, results...)
	}
	return errors.Join(errs...)
}
