package control

import (
	"errors"

	"qlbaas/l7/cookie"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
)

// Config is all that a sidecar shall be.
type Config struct {
	Generation uint64       `json:"generation"`
	Pool       pool.Config  `json:"pool"`
	Limits     proxy.Limits `json:"limits"`
}

// Stats is all that a sidecar has counted, and what it knows.
type Stats struct {
	Generation uint64      `json:"generation"`
	PID        int         `json:"pid"`
	Version    string      `json:"version,omitempty"`
	Pool       pool.Stats  `json:"pool"`
	Proxy      proxy.Stats `json:"proxy"`
	// Learned is what a retired sidecar has learned since it handed over.
	Learned []cookie.Record `json:"learned,omitempty"`
}

// State is what a sidecar leaves to its successor. Config is nil before the first one.
type State struct {
	Config  *Config         `json:"config"`
	Learned []cookie.Record `json:"learned"`
	Stats   Stats           `json:"stats"`
}

// request and reply are the two directions' lines.
type request struct {
	Op     string  `json:"op"`
	Config *Config `json:"config,omitempty"`
	Member string  `json:"member,omitempty"`
	Up     bool    `json:"up,omitempty"`
}

type reply struct {
	Error string `json:"error,omitempty"`
	Stats *Stats `json:"stats,omitempty"`
	State *State `json:"state,omitempty"`
}

const (
	opApply    = "apply"
	opHealth   = "health"
	opStats    = "stats"
	opHandover = "handover"
	opRetire   = "retire"
)

// ErrStale means that the sidecar has a newer configuration of the same connection.
var ErrStale = errors.New("stale generation")

// ErrRefused means that the sidecar has answered with an error, which the text quotes.
var ErrRefused = errors.New("sidecar refused")

// PoolSince is what was counted between two copies of one sidecar's counters.
func PoolSince(now, then pool.Stats) pool.Stats {
	before := map[string]pool.MemberStats{}
	for _, m := range then.Members {
		before[m.ID] = m
	}
	since := pool.Stats{Past: now.Past.Since(then.Past), Strange: now.Strange - then.Strange}
	for _, m := range now.Members {
		since.Members = append(since.Members, m.Since(before[m.ID]))
		delete(before, m.ID)
	}
	for _, gone := range before { // its share is in now's past
		since.Past = since.Past.Since(gone)
	}
	return since
}
