package proxy

import (
	"net/http"
	"sync/atomic"
)

// counts is what the proxy has counted apart from its members.
type counts struct {
	Accepted, Displaced, Requests atomic.Uint64
	// By status: the proxy's own answers.
	bad, slow, unserved, broken, late atomic.Uint64
	panics                            atomic.Uint64
}

// answered counts an answer of the proxy's own.
func (c *counts) answered(status int) {
	switch status {
	case http.StatusRequestTimeout:
		c.slow.Add(1)
	case http.StatusServiceUnavailable:
		c.unserved.Add(1)
	case http.StatusBadGateway:
		c.broken.Add(1)
	case http.StatusGatewayTimeout:
		c.late.Add(1)
	default:
		c.bad.Add(1)
	}
}

// Stats is a copy of the proxy's counters, monotonic but for Clients.
type Stats struct {
	Clients   int64  `json:"clients"`
	Accepted  uint64 `json:"accepted"`
	Requests  uint64 `json:"requests"`
	Displaced uint64 `json:"displaced"` // connections without a request that gave way
	Bad       uint64 `json:"bad"`       // requests refused: 4xx, 5xx of the client's making
	Slow      uint64 `json:"slow"`      // 408
	Unserved  uint64 `json:"unserved"`  // 503
	Broken    uint64 `json:"broken"`    // 502
	Late      uint64 `json:"late"`      // 504
	Panics    uint64 `json:"panics"`    // of this program's making; one client each
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.count
	return Stats{
		Clients: s.Clients(), Accepted: c.Accepted.Load(), Requests: c.Requests.Load(), Displaced: c.Displaced.Load(),
		Bad: c.bad.Load(), Slow: c.slow.Load(), Unserved: c.unserved.Load(), Broken: c.broken.Load(), Late: c.late.Load(),
		Panics: c.panics.Load(),
	}
}

// Since is what was counted after then.
func (s Stats) Since(then Stats) Stats {
	s.Accepted -= then.Accepted
	s.Requests -= then.Requests
	s.Displaced -= then.Displaced
	s.Bad -= then.Bad
	s.Slow -= then.Slow
	s.Unserved -= then.Unserved
	s.Broken -= then.Broken
	s.Late -= then.Late
	s.Panics -= then.Panics
	return s
}

// Add counts what another process has counted; its level is its own.
func (s *Server) Add(o Stats) {
	c := &s.count
	c.Accepted.Add(o.Accepted)
	c.Requests.Add(o.Requests)
	c.Displaced.Add(o.Displaced)
	c.bad.Add(o.Bad)
	c.slow.Add(o.Slow)
	c.unserved.Add(o.Unserved)
	c.broken.Add(o.Broken)
	c.late.Add(o.Late)
	c.panics.Add(o.Panics)
}
