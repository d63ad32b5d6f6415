package healthd

import (
	"testing"

	"pgregory.net/rapid"
)

// Each word is a run of probes: p passed, f failed, v void; after each the state
// is u (up) or d (down).
func TestStateRisesAndFalls(t *testing.T) {
	for _, c := range []struct {
		name          string
		up            bool
		fall          int
		probes, after string
	}{
		{"falls at the third failure in a row", true, 3, "fff", "uud"},
		{"a pass ends the failures", true, 3, "ffpfff", "uuuuud"},
		{"rises at the second pass in a row", false, 3, "pp", "du"},
		{"a failure ends the passes", false, 3, "pfpp", "dddu"},
		{"falls at the first failure", true, 1, "fpfp", "dddd"},
		{"fall below one is one", true, 0, "f", "d"},
		{"void counts for nothing", true, 2, "fvvvf", "uuuud"},
		{"void does not interrupt passes", false, 2, "pvp", "ddu"},
		{"stays down while failing", false, 2, "ffff", "dddd"},
		{"falls again only in full", false, 3, "ppffpfff", "duuuuuud"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := state{up: c.up}
			for i, letter := range c.probes {
				was := s.up
				changed := s.step(resultOf(letter), c.fall)
				if want := c.after[i] == 'u'; s.up != want {
					t.Fatalf("after %q: up = %v, want %v", c.probes[:i+1], s.up, want)
				}
				if changed != (s.up != was) {
					t.Fatalf("after %q: changed = %v", c.probes[:i+1], changed)
				}
			}
		})
	}
}

func resultOf(letter rune) Result {
	return map[rune]Result{'p': Passed, 'f': Failed, 'v': Void}[letter]
}

// The machine agrees with the definition, read off the whole past: the latest
// rise-long run of passes or fall-long run of failures decides.
func TestStateIsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fall := rapid.IntRange(1, 10).Draw(t, "fall")
		start := rapid.Bool().Draw(t, "start")
		results := rapid.SliceOf(rapid.SampledFrom([]Result{Passed, Failed, Failed, Void})).Draw(t, "results")
		s, want := state{up: start}, start
		var counted []Result
		for _, r := range results {
			s.step(r, fall)
			if r != Void {
				counted = append(counted, r)
			}
			if endsIn(counted, Passed, rise) {
				want = true
			} else if endsIn(counted, Failed, fall) {
				want = false
			}
			if s.up != want {
				t.Fatalf("up = %v, want %v", s.up, want)
			}
			if s.passes > 0 && s.fails > 0 {
				t.Fatalf("%d passes and %d failures in a row", s.passes, s.fails)
			}
		}
	})
}

func endsIn(results []Result, r Result, n int) bool {
	if len(results) < n {
		return false
	}
	for _, got := range results[len(results)-n:] {
		if got != r {
			return false
		}
	}
	return true
}

func TestHistoryKeepsTheLatest(t *testing.T) {
	var h history
	for i := range 2*historyLen + 3 {
		h.add(Probe{Reason: string(rune('a' + i))})
		got := h.list()
		if want := min(i+1, historyLen); len(got) != want {
			t.Fatalf("after %d probes: %d remembered, want %d", i+1, len(got), want)
		}
		if last := got[len(got)-1].Reason; last != string(rune('a'+i)) {
			t.Fatalf("after %d probes: the last is %q", i+1, last)
		}
		if first, want := got[0].Reason, string(rune('a'+max(0, i+1-historyLen))); first != want {
			t.Fatalf("after %d probes: the first is %q, want %q", i+1, first, want)
		}
	}
}
