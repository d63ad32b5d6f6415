package pool

// Stats is what a pool has counted.
type Stats struct {
	Members []MemberStats `json:"members"`
	// Past is the share of members that are no more; its id is empty.
	Past MemberStats `json:"past"`
	// Learned is the number of the application's cookies in the table.
	Learned int `json:"learned"`
	// Strange counts requests whose cookie kept them nowhere: it is forged, of another
	// pool, or its member serves nobody now.
	Strange uint64 `json:"strange"`
}

// Stats returns a copy of all counters.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Members: make([]MemberStats, 0, len(p.members)), Learned: p.learned.Len(), Strange: p.strange}
	for _, m := range p.members {
		s.Members = append(s.Members, m.stats())
	}
	s.Past = p.past.stats()
	for _, m := range p.leaving {
		leaving := m.stats()
		s.Past = s.Past.plus(leaving)
		s.Past.Active += leaving.Active
		s.Past.Open += leaving.Open
	}
	return s
}

// Add counts what another process has counted for this pool: its levels are its own.
// Members that are not of the configuration count as past.
func (p *Pool) Add(s Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.strange += s.Strange
	p.past.add(s.Past)
	for _, ms := range s.Members {
		if m := p.byID[ms.ID]; m != nil {
			m.Counters.add(ms)
		} else {
			p.past.add(ms)
		}
	}
}

// Config returns the configuration with the members' liveness of now.
func (p *Pool) Config() Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.config
	c.Members = make([]MemberConfig, 0, len(p.members))
	for _, m := range p.members {
		c.Members = append(c.Members, MemberConfig{ID: m.ID, Address: m.Address, Weight: m.weight, AdminUp: m.adminUp, Up: m.up})
	}
	return c
}
