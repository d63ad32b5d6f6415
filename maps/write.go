package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// Write makes gen the pool's configuration: wholly, or not at all when an error
// returns. It waits until no program uses the former one (an RCU grace period). The
// inner maps that are new come back to be pinned, over those of the same name; after
// an error the next Write returns them. Members must have their slots, and affinity
// its table. ErrInvalid names what is wrong with gen.
func (p *Pool) Write(gen Generation) ([]Inner, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.write(&gen); err != nil {
		return nil, fmt.Errorf("write generation %d: %w", gen.Number, err)
	}
	return p.takeFresh(), nil
}

func (p *Pool) write(gen *Generation) error {
	if err := p.check(gen); err != nil {
		return err
	}
	half := uint32(0)
	if p.inner[place{vips, 0}] != nil {
		half = 1 - p.half
	}
	parts, err := p.parts(gen, half)
	if err != nil {
		return err
	}
	value, err := p.words.vip(gen, half, parts.weightBlocks())
	if err != nil {
		return err
	}
	if err := p.fill(parts); err != nil {
		return err
	}
	if err := p.commit(value); err != nil {
		return err
	}
	p.activate(gen, half)
	return nil
}

// check adds to the generation's own checks what the pool must have for it.
func (p *Pool) check(gen *Generation) error {
	if err := gen.check(); err != nil {
		return err
	}
	sources := gen.VIP.SNAT.Used()
	if last := sources[len(sources)-1]; last >= p.sources() {
		return invalid("source address %s in place %d of %d", gen.VIP.SNAT[last].Address, last, p.sources())
	}
	for _, m := range gen.Members {
		if !p.hasSlot(m.Slot, sources) {
			return invalid("member %s in slot %d, which was not added, or not for all source addresses", m.ID, m.Slot)
		}
	}
	if gen.VIP.Affinity && p.inner[place{affinities, 0}] == nil {
		return invalid("affinity without a table")
	}
	return nil
}

// part is what one inner map of a half shall hold.
type part struct {
	at     place
	n      uint32 // elements
	values any    // slice of n elements
}

type parts [3]part

func (ps parts) weightBlocks() uint32 { return ps[2].n }

// parts makes the contents of a half.
func (p *Pool) parts(gen *Generation, half uint32) (parts, error) {
	slots := uint32(0)
	if n := len(gen.Members); n > 0 {
		slots = uint32(gen.Members[n-1].Slot) + 1
	}
	// Room that is there already is written whole, so that no former member stays.
	at := place{members, half}
	entries := p.room(at, slots)
	table, err := p.words.members(gen, entries)
	if err != nil {
		return parts{}, err
	}
	turns := make([]bpf.Lb4ScheduleBlock, blocks(len(gen.Schedule)))
	for i, slot := range gen.Schedule {
		turns[i/block].Slot[i%block] = slot
	}
	effective := trim(gen.Weights)
	shares := make([]bpf.Lb4WeightBlock, blocks(len(effective)))
	for slot, weight := range effective {
		shares[slot/block].Weight[slot%block] = weight
	}
	return parts{
		{at, entries, table},
		{place{schedules, half}, uint32(len(turns)), turns},
		{place{weights, half}, uint32(len(shares)), shares},
	}, nil
}

func blocks(n int) int { return (n + block - 1) / block }

// room is the number of elements of the inner map that will hold n: that of the map
// there, if n fits without much waste, else a power of two. Nothing fits anywhere: a
// pool whose members are all down for a moment keeps its room.
func (p *Pool) room(at place, n uint32) uint32 {
	const waste = 8
	wanted := powerOfTwo(n)
	m := p.inner[at]
	if m == nil || m.MaxEntries() < n || n > 0 && m.MaxEntries() > waste*wanted {
		return wanted
	}
	return m.MaxEntries()
}

// fill writes the idle half. No packet looks at it: the last swap waited for those
// that did. So a map that is large enough is written in place; others are made, and
// take their places at once, for each waits for a grace period.
//
// The expiry program sleeps and is not waited for. Worst case is that one of its calls,
// begun before the last swap, reads a member of the generation to come: a slot has the
// same address there, or is nobody's.
func (p *Pool) fill(ps parts) error {
	var made [len(ps)]*ebpf.Map
	var errs []error
	for i, part := range ps {
		m := p.inner[part.at]
		if entries := p.room(part.at, part.n); m == nil || m.MaxEntries() != entries {
			var err error
			if m, err = p.create(part.at, entries); err != nil {
				errs = append(errs, err)
				break
			}
			made[i] = m
		}
		if err := writeArray(m, int(part.n), part.values); err != nil {
			errs = append(errs, wrap(err, "write %s", part.at.name()))
			break
		}
	}
	if len(errs) == 0 {
		return p.install(ps, made)
	}
	for _, m := range made {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// install puts the maps that were made into their places.
func (p *Pool) install(ps parts, made [len(parts{})]*ebpf.Map) error {
	var put [len(made)]bool
	err := waves([]int{0, 1, 2}, func(i int) error {
		if made[i] == nil {
			return nil
		}
		err := p.put(ps[i].at, made[i])
		put[i] = err == nil
		return err
	})
	for i, m := range made {
		switch {
		case put[i]:
			p.hold(ps[i].at, m)
		case m != nil:
			err = errors.Join(err, m.Close())
		}
	}
	return err
}

// commit makes a new vip map the pool's.
func (p *Pool) commit(value any) error {
	at := place{vips, 0}
	m, err := p.create(at, 0)
	if err != nil {
		return err
	}
	if err = m.Put(uint32(0), value); err == nil {
		err = p.put(at, m)
	}
	if err != nil {
		return errors.Join(wrap(err, "swap vip"), m.Close())
	}
	p.hold(at, m)
	return nil
}

// activate remembers what is active now.
func (p *Pool) activate(gen *Generation, half uint32) {
	p.half = half
	p.serials = make(map[uint16]uint32, len(gen.Members))
	for _, m := range gen.Members {
		p.serials[m.Slot] = m.Serial
	}
}

// Generation reads the active configuration. ErrNotFound before the first Write.
func (p *Pool) Generation() (Generation, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	gen, _, err := p.read()
	return gen, wrap(err, "read generation")
}

func (p *Pool) read() (gen Generation, half uint32, err error) {
	m, err := p.at(vips, 0)
	if err != nil {
		return gen, 0, err
	}
	stored, err := p.words.readVIP(m)
	if err != nil {
		return gen, 0, err
	}
	gen.VIP, gen.Number = stored.VIP, stored.number
	if m, err = p.at(members, stored.half); err != nil {
		return gen, 0, err
	}
	if gen.Members, err = p.words.readMembers(m); err != nil {
		return gen, 0, err
	}
	if gen.VIP.Method != LeastConnections {
		gen.Schedule, err = p.readSchedule(stored)
	} else {
		gen.Weights, err = p.readWeights(stored)
		gen.stale = gen.scheduleLen() != stored.scheduleLen
	}
	return gen, stored.half, err
}

func (p *Pool) readSchedule(stored storedVIP) ([]uint16, error) {
	if stored.scheduleLen == 0 {
		return nil, nil
	}
	m, err := p.at(schedules, stored.half)
	if err != nil {
		return nil, err
	}
	turns := make([]bpf.Lb4ScheduleBlock, blocks(int(stored.scheduleLen)))
	if err := readArray(m, turns); err != nil {
		return nil, wrap(err, "read schedule")
	}
	schedule := make([]uint16, stored.scheduleLen)
	for i := range schedule {
		schedule[i] = turns[i/block].Slot[i%block]
	}
	return schedule, nil
}

func (p *Pool) readWeights(stored storedVIP) ([]uint32, error) {
	if stored.weightBlocks == 0 {
		return nil, nil
	}
	m, err := p.at(weights, stored.half)
	if err != nil {
		return nil, err
	}
	shares := make([]bpf.Lb4WeightBlock, stored.weightBlocks)
	if err := readArray(m, shares); err != nil {
		return nil, wrap(err, "read weights")
	}
	effective := make([]uint32, 0, len(shares)*block)
	for _, b := range shares {
		effective = append(effective, b.Weight[:]...)
	}
	return trim(effective), nil
}
