package schedule

// Interleave returns one cycle of turns as indexes into weights: index i appears
// weights[i]/gcd times, spread as evenly as the "smooth weighted round-robin" of
// nginx does, and equal weights take turns in the order of the list. Weight 0 never
// appears. The result has sum(weights)/gcd places; it is nil if all weights are 0.
// At most 65,536 weights; the same weights always give the same cycle.
func Interleave(weights []uint16) []uint16 {
	classes, sum := classify(weights)
	if sum == 0 {
		return nil
	}
	turns := make([]uint16, 0, sum)
	for range sum {
		turns = append(turns, next(classes, sum))
	}
	return turns
}

// The rule is: at every turn each index earns its weight, the richest one (the first
// in the list among equals) takes the turn and pays the sum of all weights.
//
// Indexes of one weight differ only in how often they have paid, so they take turns
// among themselves, in the order of the list. It is enough to compare the next one of
// each weight: 257 steps per turn at most, however many indexes there are.
type class struct {
	weight int
	// members in the order of the list; at is the next one, credit is its credit.
	members []uint16
	at      int
	credit  int
}

// classify groups indexes by weight, divided by the gcd of all weights, and sums up.
func classify(weights []uint16) (classes []class, sum int) {
	divisor := 0
	for _, w := range weights {
		divisor = gcd(int(w), divisor)
	}
	known := make(map[uint16]int)
	for i, w := range weights {
		if w == 0 {
			continue
		}
		at, found := known[w]
		if !found {
			at = len(classes)
			known[w] = at
			classes = append(classes, class{weight: int(w) / divisor})
		}
		classes[at].members = append(classes[at].members, uint16(i))
		sum += classes[at].weight
	}
	return classes, sum
}

// next gives the turn to the richest.
func next(classes []class, sum int) uint16 {
	var richest *class
	for i := range classes {
		c := &classes[i]
		c.credit += c.weight
		if richest == nil || c.credit > richest.credit ||
			c.credit == richest.credit && c.members[c.at] < richest.members[richest.at] {
			richest = c
		}
	}
	taken := richest.members[richest.at]
	richest.at++
	if richest.at == len(richest.members) {
		// All have paid once more: the first is the next again, and it has paid too.
		richest.at = 0
		richest.credit -= sum
	}
	return taken
}

// gcd is the greatest common divisor; gcd(a, 0) is a.
func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
