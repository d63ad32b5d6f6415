package healthd

import "time"

// rise is how many passes in a row bring a check up. It is fixed: monitors have no
// attribute for it.
const rise = 2

// Result is the outcome of one probe.
type Result uint8

// The outcomes of a probe.
const (
	// Void says nothing about the member: the probe could not be made or judged.
	Void Result = iota
	Passed
	Failed
)

// String returns "void", "passed" or "failed".
func (r Result) String() string {
	switch r {
	case Passed:
		return "passed"
	case Failed:
		return "failed"
	default:
		return "void"
	}
}

// state is the rise and fall machine of one check on one member. It knows neither
// time nor network.
type state struct {
	up bool
	// passes and fails count in a row: a pass ends the failures and the reverse.
	// They saturate at what decides, so they never wrap.
	passes, fails int
}

// step takes the result of a probe and reports whether up changed. The check goes
// down at the fall-th failure in a row (a fall below 1 is 1) and up at the
// rise-th pass in a row. A void probe changes nothing.
func (s *state) step(r Result, fall int) (changed bool) {
	was := s.up
	switch r {
	case Passed:
		s.fails = 0
		s.passes = min(s.passes+1, rise)
		s.up = s.up || s.passes == rise
	case Failed:
		fall = max(fall, 1)
		s.passes = 0
		s.fails = min(s.fails+1, fall)
		s.up = s.up && s.fails < fall
	}
	return s.up != was
}

// Probe is what one probe saw.
type Probe struct {
	// At is when it started.
	At time.Time
	// Took is how long it lasted, waiting for its turn excluded.
	Took   time.Duration
	Result Result
	// Reason is empty for a pass; else as in Verdict.
	Reason string
}

// historyLen is how many probes a check remembers.
const historyLen = 10

// history is a ring of a check's latest probes.
type history struct {
	ring [historyLen]Probe
	n    int // probes ever added
}

func (h *history) add(p Probe) {
	h.ring[h.n%historyLen] = p
	h.n++
}

// list returns the remembered probes, oldest first.
func (h *history) list() []Probe {
	first := max(0, h.n-historyLen)
	probes := make([]Probe, 0, h.n-first)
	for i := first; i < h.n; i++ {
		probes = append(probes, h.ring[i%historyLen])
	}
	return probes
}
