package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Displaced returns the names of inner maps that are not where programs look for
// them, because somebody has emptied the place or put another map there.
func (p *Pool) Displaced() ([]string, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	gone, err := p.displaced()
	names := make([]string, 0, len(gone))
	for _, at := range gone {
		names = append(names, at.name())
	}
	return names, err
}

// PutBack puts displaced inner maps back into their places.
func (p *Pool) PutBack() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone, err := p.displaced()
	if err != nil {
		return err
	}
	return waves(gone, func(at place) error { return p.put(at, p.inner[at]) })
}

func (p *Pool) displaced() (gone []place, _ error) {
	ids := make(map[place]ebpf.MapID, len(p.inner))
	for _, outer := range outerNames() {
		for found, err := range batches[uint32, uint32](p.outers[outer]) {
			if err != nil {
				return nil, wrap(err, "read %s", outer)
			}
			ids[place{outer, found.key}] = ebpf.MapID(found.value)
		}
	}
	for at, m := range p.inner {
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", at.name(), err)
		}
		id, known := info.ID()
		if !known {
			return nil, fmt.Errorf("look at %s: %w", at.name(), errors.ErrUnsupported)
		}
		if ids[at] != id {
			gone = append(gone, at)
		}
	}
	return gone, nil
}
