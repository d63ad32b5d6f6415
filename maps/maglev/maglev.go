package maglev

import (
	"cmp"
	"slices"
)

// Member is a candidate for places in the table.
type Member struct {
	// ID is the member's identity (the bytes of its UUID): nothing else decides which
	// places it prefers.
	ID [16]byte
	// Weight is its share; 0 gets no place.
	Weight uint16
	// Usable false gets no place, but counts for the table's size, so that the table
	// keeps it until the member is back.
	Usable bool
}

// The sizes of a table, primes. MaxSize bounds them all.
const (
	smallSize = 16381
	MaxSize   = 131071
)

// none is a free place.
const none = 1<<16 - 1

// Build returns the table: indexes into members by place. It is nil if nobody is
// usable and has weight. The order of members decides nothing. At most 65,535
// members.
func Build(members []Member) []uint16 {
	candidates, heaviest := admit(members)
	if len(candidates) == 0 {
		return nil
	}
	table := make([]uint16, size(members))
	for i := range table {
		table[i] = none
	}
	for free := len(table); ; {
		for i := range candidates {
			c := &candidates[i]
			c.earned += c.weight
			if c.earned < heaviest {
				continue
			}
			c.earned -= heaviest
			c.take(table)
			free--
			if free == 0 {
				return table
			}
		}
	}
}

// candidate is a member on its way through its own order of the places: start, then
// steps of the same length round the table, which meet every place of a prime number
// of them.
type candidate struct {
	member       uint16
	id           [16]byte
	weight       uint32
	earned       uint32
	place, steps uint32
}

// take takes the first free place of the candidate's order. There is one.
func (c *candidate) take(table []uint16) {
	n := uint32(len(table))
	place := c.place % n
	step := 1 + c.steps%(n-1)
	for table[place] != none {
		place = (place + step) % n
	}
	table[place] = c.member
	c.place = place
}

// admit makes candidates of the members that can get places, in an order that only
// their identities decide.
func admit(members []Member) (candidates []candidate, heaviest uint32) {
	for i, m := range members {
		if !m.Usable || m.Weight == 0 {
			continue
		}
		hash := mix(m.ID)
		candidates = append(candidates, candidate{
			member: uint16(i),
			id:     m.ID,
			weight: uint32(m.Weight),
			place:  uint32(hash),
			steps:  uint32(hash >> 32),
		})
		heaviest = max(heaviest, uint32(m.Weight))
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.place, b.place), slices.Compare(a.id[:], b.id[:]))
	})
	return candidates, heaviest
}

// size is the smallest one with a hundred places per unit of weight, if there is one.
func size(members []Member) int {
	divisor, sum := 0, 0
	for _, m := range members {
		divisor = gcd(int(m.Weight), divisor)
		sum += int(m.Weight)
	}
	if divisor > 0 && sum/divisor*100 <= smallSize {
		return smallSize
	}
	return MaxSize
}

// mix hashes an identity: FNV-1a over its bytes, and the finalizer of SplitMix64 so
// that every bit depends on every bit. It must never change: clients would.
func mix(id [16]byte) uint64 {
	const prime = 0x100000001b3
	h := uint64(0xcbf29ce484222325)
	for _, b := range id {
		h = (h ^ uint64(b)) * prime
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// gcd is the greatest common divisor; gcd(a, 0) is a.
func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
