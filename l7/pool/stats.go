package pool

import "time"

// Stats is what a pool has counted.
type Stats struct {
	Members []MemberStats `json:"members"`
	// Past is the share of members that are no more; its id is empty.
	Past MemberStats `json:"past"`
	// Learned is the number of the application's cookies in the table.
	Learned int `json:"learned"`
}

// Stats returns a copy of all counters.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Members: make([]MemberStats, 0, len(p.members)), Learned: p.learned.Len()}
	for _, m := range p.members {
		s.Members = append(s.Members, m.stats())
	}
	past := Member{}
	past.Counters.add((&Member{}).stats())
	past.Counters.add(p.pastStats())
	for _, m := range p.leaving {
		c := m.stats()
		past.Counters.add(c)
		past.Counters.Active.Add(c.Active)
		past.Counters.Open.Add(c.Open)
	}
	s.Past = past.stats()
	return s
}

func (p *Pool) pastStats() MemberStats {
	c := &p.past
	return MemberStats{
		Requests: c.Requests.Load(), Connections: c.Connections.Load(), Failures: c.Failures.Load(),
		BytesIn: c.BytesIn.Load(), BytesOut: c.BytesOut.Load(),
	}
}

// Add counts what another process has counted for this pool: its levels are its own.
// Members that are not of the configuration count as past.
func (p *Pool) Add(s Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
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

// Draining returns since when a member has been leaving; zero means that it has not.
func (p *Pool) Draining(m *Member) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return m.drainFrom
}
