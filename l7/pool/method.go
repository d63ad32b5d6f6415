package pool

import (
	"math"
	"net/netip"
	"slices"
)

// byMethod returns the next member that takes new clients and was not tried yet; nil if
// there is none.
func (p *Pool) byMethod(q *Query) *Member {
	var m *Member
	switch p.config.Method {
	case LeastConnections:
		m = p.least(q.Tried)
	case SourceIP:
		return p.bySource(q)
	default:
		m = p.next(q.Tried)
	}
	if m != nil {
		p.last = m
	}
	return m
}

// renewTurn is called when it may have changed who takes new clients.
func (p *Pool) renewTurn() {
	start := slices.Index(p.members, p.last) + 1
	before := p.turn
	p.turn = make([]*Member, 0, len(p.members))
	for i := range p.members {
		if m := p.members[(start+i)%len(p.members)]; m.takes() {
			p.turn = append(p.turn, m)
		}
	}
	for _, m := range slices.Concat(before, p.turn) {
		m.credit = 0
	}
}

// next: at every turn each member earns its weight, the richest one (the first among
// equals) takes the turn and pays the sum of all weights.
func (p *Pool) next(tried []*Member) *Member {
	var richest *Member
	sum := 0
	for _, m := range p.turn {
		if slices.Contains(tried, m) {
			continue
		}
		sum += m.weight
		m.credit += m.weight
		if richest == nil || m.credit > richest.credit {
			richest = m
		}
	}
	if richest != nil {
		richest.credit -= sum
	}
	return richest
}

// least: the fewest requests under way relative to weight; among equals the first one
// behind the member that was chosen last.
func (p *Pool) least(tried []*Member) *Member {
	var best *Member
	var bestActive int64
	start := slices.Index(p.turn, p.last) + 1
	for i := range p.turn {
		m := p.turn[(start+i)%len(p.turn)]
		if slices.Contains(tried, m) {
			continue
		}
		active := m.Counters.Active.Load()
		if best == nil || active*int64(best.weight) < bestActive*int64(m.weight) {
			best, bestActive = m, active
		}
	}
	return best
}

// bySource: every member draws a number from the client's address and its own id, the
// highest one in relation to its weight wins.
func (p *Pool) bySource(q *Query) *Member {
	var best *Member
	lowest := math.Inf(1)
	client := hashAddress(q.Client)
	for _, m := range p.turn {
		if slices.Contains(q.Tried, m) {
			continue
		}
		// A number of (0, 1]; -ln of it, divided by the weight, is exponential, and
		// the lowest of such is each one's with a chance equal to its share of weight.
		number := (float64(mix(client^m.seed)>>11) + 1) / (1 << 53)
		if draw := -math.Log(number) / float64(m.weight); draw < lowest {
			best, lowest = m, draw
		}
	}
	return best
}

// seedOf and hashAddress are FNV-1a; mix is the finalizer of SplitMix64, so that every
// bit depends on every bit. They must never change: clients would.
func seedOf(id string) uint64 { return mix(fnv([]byte(id))) }

func hashAddress(a netip.Addr) uint64 {
	bytes := a.As16()
	return fnv(bytes[:])
}

func fnv(bytes []byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, b := range bytes {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	return h
}

func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
