// Package schedule builds the ROUND_ROBIN schedule: a smooth weighted interleave,
// exact over each cycle. It is pure: it knows no maps and no members.
package schedule

// Interleave returns one cycle of turns as indexes into weights: an index i appears
// weights[i]/gcd times, spread as evenly as the "smooth weighted round-robin" of
// nginx does, and equal weights take turns in the order of the list. Weight 0 never
// appears. The result has sum(weights)/gcd places; nil if all weights are 0.
func Interleave(weights []uint16) []uint16 { panic("unwritten") }
