package schedule

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestKnownCycles(t *testing.T) {
	for _, c := range []struct {
		name          string
		weights, want []uint16
	}{
		{"none", nil, nil},
		{"all zero", []uint16{0, 0}, nil},
		{"one", []uint16{7}, []uint16{0}},
		{"equal weights take turns in the order of the list", []uint16{3, 3, 3}, []uint16{0, 1, 2}},
		{"zero is left out", []uint16{1, 0, 1}, []uint16{0, 2}},
		{"gcd", []uint16{200, 100}, []uint16{0, 1, 0}},
		{"nginx's own example", []uint16{5, 1, 1}, []uint16{0, 0, 1, 0, 2, 0, 0}},
		{"light ones first in the list", []uint16{1, 1, 5}, []uint16{2, 2, 0, 2, 1, 2, 2}},
		{"pairs", []uint16{2, 2, 1}, []uint16{0, 1, 2, 0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Interleave(c.weights); !slices.Equal(got, c.want) {
				t.Errorf("Interleave(%v) = %v, want %v", c.weights, got, c.want)
			}
		})
	}
}

// naive is the rule without the grouping.
func naive(weights []uint16) []uint16 {
	divisor, sum := 0, 0
	for _, w := range weights {
		divisor = gcd(int(w), divisor)
	}
	if divisor == 0 {
		return nil
	}
	credit := make([]int, len(weights))
	for _, w := range weights {
		sum += int(w) / divisor
	}
	var turns []uint16
	for range sum {
		best := -1
		for i, w := range weights {
			credit[i] += int(w) / divisor
			if w > 0 && (best < 0 || credit[i] > credit[best]) {
				best = i
			}
		}
		credit[best] -= sum
		turns = append(turns, uint16(best))
	}
	return turns
}

func anyWeights() *rapid.Generator[[]uint16] {
	return rapid.OneOf(
		rapid.SliceOfN(rapid.Uint16Range(0, 256), 1, 12),
		rapid.SliceOfN(rapid.Uint16Range(0, 4), 1, 60),
		rapid.SliceOfN(rapid.SampledFrom([]uint16{0, 1, 255, 256}), 1, 20),
	)
}

func TestSameAsTheRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights().Draw(t, "weights")
		if got, want := Interleave(weights), naive(weights); !slices.Equal(got, want) {
			t.Fatalf("weights %v: %v, the rule gives %v", weights, got, want)
		}
	})
}

func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights().Draw(t, "weights")
		divisor := 0
		for _, w := range weights {
			divisor = gcd(int(w), divisor)
		}
		count := make([]int, len(weights))
		for _, i := range Interleave(weights) {
			count[i]++
		}
		for i, w := range weights {
			if w > 0 && count[i] != int(w)/divisor || w == 0 && count[i] != 0 {
				t.Fatalf("weights %v: index %d has %d turns", weights, i, count[i])
			}
		}
	})
}

// At every moment each index has had its share of the turns so far, give or take
// less than the number of indexes, and a lone heavy one is never kept waiting.
func TestSmooth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights().Draw(t, "weights")
		turns := Interleave(weights)
		sum, usable := 0, 0
		for _, w := range weights {
			sum += int(w)
			if w > 0 {
				usable++
			}
		}
		count := make([]int, len(weights))
		for at, i := range turns {
			count[i]++
			for i, w := range weights {
				ahead := count[i]*sum - (at+1)*int(w) // in units of 1/sum turns
				if ahead > sum || ahead < -(usable-1)*sum {
					t.Fatalf("weights %v: after %d turns index %d had %d", weights, at+1, i, count[i])
				}
			}
		}
	})
}

// Two indexes: the light one's turns are never next to each other, and the heavy
// one's runs differ by one turn at most: the smoothest there is.
func TestRunsOfTwo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heavy := rapid.Uint16Range(2, 256).Draw(t, "heavy")
		light := rapid.Uint16Range(1, heavy-1).Draw(t, "light")
		turns := Interleave([]uint16{heavy, light})
		first := slices.Index(turns, 1)
		around := append(slices.Clone(turns[first:]), turns[:first]...)
		shortest, longest, run := len(turns), 0, 0
		for _, i := range append(around[1:], 1) {
			if i == 0 {
				run++
				continue
			}
			shortest, longest, run = min(shortest, run), max(longest, run), 0
		}
		if shortest < 1 || longest-shortest > 1 {
			t.Fatalf("weights %d:%d: runs of %d to %d in %v", heavy, light, shortest, longest, turns)
		}
	})
}

// The largest pool: its cycle is exact, and it is the rule's own.
func TestLargest(t *testing.T) {
	weights := make([]uint16, 1024)
	sum := 0
	for i := range weights {
		weights[i] = uint16(256 - i%2)
		sum += int(weights[i])
	}
	turns := Interleave(weights)
	if len(turns) != sum {
		t.Fatalf("%d turns, want %d", len(turns), sum)
	}
	if !slices.Equal(turns[:2000], naive(weights)[:2000]) {
		t.Error("not the rule's order")
	}
}

func BenchmarkWorst(b *testing.B) {
	weights := make([]uint16, 1024)
	for i := range weights {
		weights[i] = uint16(min(i+1, 256))
	}
	for b.Loop() {
		Interleave(weights)
	}
}
