package pool

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Member is one endpoint of a pool, the same one as long as its id and address stay.
type Member struct {
	// ID and Address never change.
	ID      string
	Address netip.AddrPort
	// Cookie is the value that keeps a client here; empty without HTTP_COOKIE. A new
	// key changes it.
	cookie atomic.Pointer[string]
	// Counters may be raised by anybody, at any time.
	Counters Counters

	// What follows is guarded by the pool's lock.
	weight      int
	adminUp, up bool
	seed        uint64 // of the id, for SOURCE_IP
	credit      int    // in the turn of ROUND_ROBIN
	// drainFrom is when the member was removed or made admin-down; zero while it is in.
	drainFrom time.Time
}

// Counters are monotonic, but for the two levels at the end.
type Counters struct {
	// Requests counts requests that were given to the member, Connections the
	// connections made to it, Failures those that it refused or did not answer.
	Requests, Connections, Failures atomic.Uint64
	// BytesIn went to the member, BytesOut came from it: heads and bodies.
	BytesIn, BytesOut atomic.Uint64
	// Active requests are under way, tunnels included; Open connections exist.
	Active, Open atomic.Int64
}

// Cookie is the value that keeps a client here.
func (m *Member) Cookie() string {
	if value := m.cookie.Load(); value != nil {
		return *value
	}
	return ""
}

// Done ends one request that Choose has given to the member.
func (m *Member) Done() { m.Counters.Active.Add(-1) }

// keeps tells whether a client that had this member before may have it again.
func (m *Member) keeps() bool { return m.adminUp && m.up && m.drainFrom.IsZero() }

// takes tells whether the member takes new clients.
func (m *Member) takes() bool { return m.keeps() && m.weight > 0 }

// MemberStats is a copy of a member's counters.
type MemberStats struct {
	ID          string `json:"id"`
	Up          bool   `json:"up"`
	Requests    uint64 `json:"requests"`
	Connections uint64 `json:"connections"`
	Failures    uint64 `json:"failures"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	Active      int64  `json:"active"`
	Open        int64  `json:"open"`
}

func (m *Member) stats() MemberStats {
	s := m.Counters.stats()
	s.ID, s.Up = m.ID, m.up
	return s
}

func (c *Counters) stats() MemberStats {
	return MemberStats{
		Requests: c.Requests.Load(), Connections: c.Connections.Load(), Failures: c.Failures.Load(),
		BytesIn: c.BytesIn.Load(), BytesOut: c.BytesOut.Load(),
		Active: c.Active.Load(), Open: c.Open.Load(),
	}
}

// add counts what another process, or a member that is gone, has counted; its levels
// are its own.
func (c *Counters) add(s MemberStats) {
	c.Requests.Add(s.Requests)
	c.Connections.Add(s.Connections)
	c.Failures.Add(s.Failures)
	c.BytesIn.Add(s.BytesIn)
	c.BytesOut.Add(s.BytesOut)
}

// plus and Since add and subtract counters. Levels stay as they are in s.
func (s MemberStats) plus(o MemberStats) MemberStats {
	s.Requests += o.Requests
	s.Connections += o.Connections
	s.Failures += o.Failures
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
	return s
}

// Since is what was counted after then.
func (s MemberStats) Since(then MemberStats) MemberStats {
	s.Requests -= then.Requests
	s.Connections -= then.Connections
	s.Failures -= then.Failures
	s.BytesIn -= then.BytesIn
	s.BytesOut -= then.BytesOut
	return s
}
