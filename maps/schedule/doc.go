// Package schedule builds the order of turns for ROUND_ROBIN: a smooth weighted
// interleave, exact over each cycle. It is pure: it knows no maps, no members and no
// kernel.
//
// Why a table of turns and not a choice per connection: the programs take turns with
// one atomic counter, so the order is exact across all CPUs, and whatever makes the
// order good is computed once, here.
package schedule
