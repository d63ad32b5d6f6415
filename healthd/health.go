package healthd

import "net/netip"

// MemberHealth is what a Checker knows of one member.
type MemberHealth struct {
	Member  string
	Address netip.AddrPort
	// Up is the verdict: every check is up.
	Up     bool
	Checks []CheckHealth
}

// CheckHealth is what a Checker knows of one check on one member.
type CheckHealth struct {
	ID   string
	Type Type
	Up   bool
	// Passes and Fails count in a row and stop at what decides; one of them is 0.
	Passes, Fails int
	// Probes are the latest ones, oldest first, at most ten.
	Probes []Probe
}

// Members returns the health of a pool's members in the order of Set, nil for a
// pool that is not known.
func (c *Checker) Members(pool string) []MemberHealth {
	c.mu.Lock()
	members := c.pools[pool]
	c.mu.Unlock()
	// Set makes a new list instead of changing this one.
	var all []MemberHealth
	for _, m := range members {
		all = append(all, m.health())
	}
	return all
}

func (m *member) health() MemberHealth {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := MemberHealth{Member: m.report.member, Address: m.addr, Up: m.up()}
	for _, k := range m.checks {
		h.Checks = append(h.Checks, CheckHealth{
			ID: k.spec.ID, Type: k.spec.Type, Up: k.state.up,
			Passes: k.state.passes, Fails: k.state.fails,
			Probes: k.probes.list(),
		})
	}
	return h
}
