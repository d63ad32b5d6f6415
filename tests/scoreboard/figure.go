package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// figures is the scoreboard, in order.
func figures() []figure {
	return []figure{
		b1(),
		b2(),
		b3(),
		b4(),
		b5(),
		b6(),
		b7(),
		b16(),
		b18(),
	}
}

// figure is one line of the scoreboard.
type figure struct {
	id     string
	what   string        // is tried
	target string        // in words
	bound  time.Duration // no run takes longer
	world  bool          // it needs the laboratory's private world
	run    func(ctx context.Context, seed uint64) (result, error)
}

// result is what a run of a figure has come to.
type result struct {
	Tries    int            `json:"tries"`
	Failures int            `json:"failures"`
	Numbers  map[string]any `json:"numbers,omitempty"` // whatever else was measured
	Misses   []string       `json:"misses,omitempty"`  // what the target wants beside no failures, and did not get
}

func (r result) ok() bool { return r.Tries > 0 && r.Failures == 0 && len(r.Misses) == 0 }

// miss notes that the target is missed.
func (r *result) miss(format string, args ...any) {
	r.Misses = append(r.Misses, fmt.Sprintf(format, args...))
}

// number notes a measured number.
func (r *result) number(name string, value any) {
	if r.Numbers == nil {
		r.Numbers = map[string]any{}
	}
	r.Numbers[name] = value
}

// line is what is printed of a run. Of a mutant's run OK means that it was noticed.
type line struct {
	Figure   string   `json:"figure"`
	Mutant   string   `json:"mutant,omitempty"`
	Broken   string   `json:"broken,omitempty"` // what the mutant breaks
	What     string   `json:"what"`
	Tries    int      `json:"tries"`
	Failures int      `json:"failures"`
	Seed     string   `json:"seed"`
	Seconds  float64  `json:"seconds"`
	Kernel   string   `json:"kernel"`
	Target   string   `json:"target"`
	OK       bool     `json:"ok"`
	Misses   []string `json:"misses,omitempty"`
	Error    string   `json:"error,omitempty"` // nothing was measured, for this reason

	numbers map[string]any
	said    []byte // by the run, beside its result
}

// MarshalJSON puts the figure's own numbers behind what all figures have.
func (l line) MarshalJSON() ([]byte, error) {
	type plain line
	out, err := encode(plain(l))
	if err != nil || len(l.numbers) == 0 {
		return out, err
	}
	more, err := encode(l.numbers)
	if err != nil {
		return nil, err
	}
	return append(append(out[:len(out)-1], ','), more[1:]...), nil
}

// encode is json.Marshal, but leaves ">" in a sentence what it is.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(out.Bytes()), err
}

// choose returns the figures whose ids are in a list with commas, or all of them.
func choose(all []figure, only string) ([]figure, error) {
	if only == "" {
		return all, nil
	}
	var chosen []figure
	for id := range strings.SplitSeq(only, ",") {
		f, err := find(all, strings.TrimSpace(id))
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, f)
	}
	return chosen, nil
}

func find(all []figure, id string) (figure, error) {
	for _, f := range all {
		if strings.EqualFold(f.id, id) {
			return f, nil
		}
	}
	return figure{}, fmt.Errorf("there is no figure %q", id)
}
