package pool

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"

	"qlbaas/l7/cookie"
)

// Pool is a set of members and the state of choosing among them. Safe for concurrent
// use.
type Pool struct {
	seed    maphash.Seed
	learned *cookie.Learned

	mu      sync.Mutex
	config  Config
	members []*Member          // those of the configuration, in order
	byID    map[string]*Member // the same
	turn    []*Member          // those that take new clients, see method.go
	last    *Member            // had the last turn
	leaving []*Member          // removed, with something still under way
	past    Counters           // of members that are gone
	strange uint64             // cookies that kept nobody
	values  map[uint64][]value // of cookies, by hash
}

// value is a cookie's value that belongs to a member.
type value struct {
	text   string
	member *Member
}

// New returns a pool without members, which gives none to anybody.
func New() *Pool {
	return &Pool{
		seed: maphash.MakeSeed(), learned: cookie.NewLearned(0, 0),
		config: Config{Method: RoundRobin}, byID: map[string]*Member{},
	}
}

// Query is how a request presents itself.
type Query struct {
	Client netip.Addr
	// Cookies is how many SRV cookies the request has, Cookie the first one's value.
	Cookies int
	Cookie  []byte
	// App is the value of the application's cookie; nil if it has none.
	App []byte
	// Tried are members that this request must not have again.
	Tried []*Member
}

// Choice is a member for a request. Its Done must be called, once.
type Choice struct {
	*Member
	// Kept tells that the request presented a cookie of this member.
	Kept bool
}

// Settings is what a proxy has to know of the configuration to read and write cookies.
type Settings struct {
	Persistence Persistence
	CookieName  string
}

// ErrNoMember means that nobody may serve the request.
var ErrNoMember = errors.New("no usable member")

// Choose gives a request its member, or ErrNoMember. A value that is not known, known
// twice over, or whose member is down, admin-down or removed, counts as none.
func (p *Pool) Choose(q *Query) (Choice, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.config.AdminUp {
		return Choice{}, ErrNoMember
	}
	m := p.owner(q)
	kept := m != nil && m.keeps() && !slices.Contains(q.Tried, m)
	if !kept {
		if len(q.Tried) == 0 && p.presents(q) {
			p.strange++
		}
		if m = p.byMethod(q); m == nil {
			return Choice{}, ErrNoMember
		}
	}
	m.Counters.Active.Add(1)
	return Choice{Member: m, Kept: kept}, nil
}

// presents tells whether the request has a cookie of the kind that keeps clients.
func (p *Pool) presents(q *Query) bool {
	return p.config.Persistence == HTTPCookie && q.Cookies > 0 || p.config.Persistence == AppCookie && len(q.App) > 0
}

// owner returns the member whose cookie the request presents.
func (p *Pool) owner(q *Query) *Member {
	switch {
	case p.config.Persistence == HTTPCookie && q.Cookies == 1 && len(q.Cookie) == cookie.Length:
		for _, v := range p.values[maphash.Bytes(p.seed, q.Cookie)] {
			if subtle.ConstantTimeCompare([]byte(v.text), q.Cookie) == 1 {
				return v.member
			}
		}
	case p.config.Persistence == AppCookie && len(q.App) > 0:
		if id, known := p.learned.Owner(q.App); known {
			return p.byID[id]
		}
	}
	return nil
}

// Learn notes that a member gave a client the application's cookie.
func (p *Pool) Learn(value []byte, m *Member) { p.learned.Learn(value, m.ID) }

// Learned is the table of the application's cookies.
func (p *Pool) Learned() *cookie.Learned { return p.learned }

// Settings of now.
func (p *Pool) Settings() Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Settings{Persistence: p.config.Persistence, CookieName: p.config.CookieName}
}

// Apply makes c the configuration. It returns ErrInvalid and changes nothing where c is
// not valid.
func (p *Pool) Apply(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now, before := time.Now(), p.members
	p.config = c
	p.members = make([]*Member, 0, len(c.Members))
	byID := make(map[string]*Member, len(c.Members))
	for _, mc := range c.Members {
		m := p.adopt(mc)
		m.weight, m.adminUp, m.up = mc.Weight, mc.AdminUp, mc.Up
		switch {
		case mc.AdminUp:
			m.drainFrom = time.Time{}
		case m.drainFrom.IsZero():
			m.drainFrom = now
		}
		p.members, byID[m.ID] = append(p.members, m), m
	}
	p.byID = byID
	for _, m := range before {
		if byID[m.ID] != m {
			p.leave(m, now)
		}
	}
	p.index()
	p.renewTurn()
	return nil
}

// adopt returns the member of that id and address, be it a present one or one that was
// about to leave, or a new one.
func (p *Pool) adopt(mc MemberConfig) *Member {
	if m := p.byID[mc.ID]; m != nil && m.Address == mc.Address {
		return m
	}
	for i, m := range p.leaving {
		if m.ID == mc.ID && m.Address == mc.Address {
			p.leaving = slices.Delete(p.leaving, i, i+1)
			return m
		}
	}
	return &Member{ID: mc.ID, Address: mc.Address, seed: seedOf(mc.ID)}
}

func (p *Pool) leave(m *Member, now time.Time) {
	if m.drainFrom.IsZero() {
		m.drainFrom = now
	}
	p.leaving = append(p.leaving, m)
}

// index prepares the values of cookies.
func (p *Pool) index() {
	p.values = map[uint64][]value{}
	if p.config.Persistence != HTTPCookie {
		return
	}
	for _, m := range p.members {
		for i, key := range p.config.Keys {
			text := cookie.Value(key, m.ID)
			if i == 0 {
				m.cookie.Store(&text)
			}
			hash := maphash.String(p.seed, text)
			p.values[hash] = append(p.values[hash], value{text, m})
		}
	}
}

// SetUp notes what monitors say of a member. Unknown members are ErrUnknown.
func (p *Pool) SetUp(id string, up bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.byID[id]
	if m == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	if m.up != up {
		m.up = up
		p.renewTurn()
	}
	return nil
}

// ErrUnknown means that the configuration has no such member.
var ErrUnknown = errors.New("unknown member")

// Overdue returns the members whose drain timeout has passed, and those that are gone
// for good: removed, and with nothing under way. It forgets the latter.
func (p *Pool) Overdue(now time.Time) (overdue, gone []*Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config.DrainTimeout > 0 {
		for _, m := range slices.Concat(p.members, p.leaving) {
			if !m.drainFrom.IsZero() && now.Sub(m.drainFrom) >= p.config.DrainTimeout {
				overdue = append(overdue, m)
			}
		}
	}
	p.leaving = slices.DeleteFunc(p.leaving, func(m *Member) bool {
		if m.Counters.Active.Load() > 0 || m.Counters.Open.Load() > 0 {
			return false
		}
		p.past.add(m.stats())
		gone = append(gone, m)
		return true
	})
	return overdue, gone
}
