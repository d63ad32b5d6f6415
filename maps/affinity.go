package maps

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
)

// AffinityEntry is the member that a client had last.
type AffinityEntry struct {
	Client netip.Addr
	// Slot and Serial of the member; a serial that is not the slot's owner's means
	// nothing any more.
	Slot   uint16
	Serial uint32
	// Seen is when the client opened its last connection.
	Seen Tick
}

// EnableAffinity makes the affinity table with that many entries and returns it to be
// pinned. If it is there already, whatever its size, it stays, and made is false.
func (p *Pool) EnableAffinity(entries uint32) (table Inner, made bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := place{affinities, 0}
	if m := p.inner[at]; m != nil {
		return Inner{at.name(), m}, false, nil
	}
	if entries == 0 {
		return Inner{}, false, fmt.Errorf("enable affinity: %w", invalid("table of 0 entries"))
	}
	m, err := p.create(at, entries)
	if err != nil {
		return Inner{}, false, fmt.Errorf("enable affinity: %w", err)
	}
	if err := p.put(at, m); err != nil {
		return Inner{}, false, fmt.Errorf("enable affinity: %w", errors.Join(err, m.Close()))
	}
	p.inner[at] = m
	return Inner{at.name(), m}, true, nil
}

// DisableAffinity removes the affinity table; without one it does nothing. Write a
// generation without VIP.Affinity first.
func (p *Pool) DisableAffinity() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := place{affinities, 0}
	if p.inner[at] == nil {
		return nil
	}
	if err := p.empty([]place{at}); err != nil {
		return fmt.Errorf("disable affinity: %w", err)
	}
	p.drop(at)
	return nil
}

// Affinities iterates over the affinity table, which may be absent; an error ends it.
// Reading keeps no entry from being forgotten.
func (p *Pool) Affinities() iter.Seq2[AffinityEntry, error] {
	return func(yield func(AffinityEntry, error) bool) {
		p.mu.RLock()
		m, err := p.inner[place{affinities, 0}].Clone() // nil clones to nil
		p.mu.RUnlock()
		if err != nil {
			yield(AffinityEntry{}, fmt.Errorf("read affinities: %w", err))
			return
		}
		if m == nil {
			return
		}
		defer m.Close()
		p.words.affinities(m)(yield)
	}
}
