// Package maglev builds the SOURCE_IP table: a consistent hash table in which a
// member's share is its weight's and a change of one member moves few others'
// places. It is pure: it knows no maps.
package maglev

// Member is a candidate for places in the table.
type Member struct {
	// ID is the member's identity (the bytes of its UUID): its preferred places
	// depend on nothing else.
	ID [16]byte
	// Weight is its share; 0 gets no place.
	Weight uint16
}

// Size returns the number of places for members whose weights, divided by their
// gcd, sum up to sum. It has few steps, so that tables before and after a change
// mostly have the same size; feed it with all configured members, so that health
// never changes it.
func Size(sum int) int { panic("unwritten") }

// Build fills size places (a prime) with indexes into members; nil if nobody has
// weight.
func Build(members []Member, size int) []uint16 { panic("unwritten") }
