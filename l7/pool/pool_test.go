package pool_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"qlbaas/l7/cookie"
	"qlbaas/l7/pool"
)

var testKey = []byte("a key of at least 16")

// members are m0, m1, … of these weights, up.
func members(weights ...int) []pool.MemberConfig {
	var all []pool.MemberConfig
	for i, w := range weights {
		all = append(all, pool.MemberConfig{
			ID: fmt.Sprint("m", i), Weight: w, AdminUp: true, Up: true,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80),
		})
	}
	return all
}

func config(method pool.Method, weights ...int) pool.Config {
	return pool.Config{
		AdminUp: true, Method: method, Persistence: pool.HTTPCookie, Keys: [][]byte{testKey},
		Members: members(weights...),
	}
}

func apply(t *testing.T, p *pool.Pool, c pool.Config) {
	t.Helper()
	if err := p.Apply(c); err != nil {
		t.Fatal(err)
	}
}

func newPool(t *testing.T, c pool.Config) *pool.Pool {
	t.Helper()
	p := pool.New()
	apply(t, p, c)
	return p
}

// choose returns who gets n new clients, one after the other, each done at once.
func choose(t *testing.T, p *pool.Pool, n int) string {
	t.Helper()
	var names []string
	for range n {
		c, err := p.Choose(&pool.Query{Client: netip.MustParseAddr("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		c.Done()
		names = append(names, c.ID)
	}
	return strings.Join(names, " ")
}

func present(value string) *pool.Query {
	return &pool.Query{Client: netip.MustParseAddr("192.0.2.1"), Cookies: 1, Cookie: []byte(value)}
}

func TestRoundRobin(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    string
	}{
		{[]int{1, 1, 1}, "m0 m1 m2 m0 m1 m2"},
		{[]int{5, 1, 1}, "m0 m0 m1 m0 m2 m0 m0 m0 m0 m1"},
		{[]int{2, 4}, "m1 m0 m1 m1 m0 m1"},
		{[]int{1, 0, 1}, "m0 m2 m0 m2"},
		{[]int{256}, "m0 m0"},
	} {
		p := newPool(t, config(pool.RoundRobin, c.weights...))
		if got := choose(t, p, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("weights %v: %s, want %s", c.weights, got, c.want)
		}
	}
}

func TestRoundRobinSurvivorsStayInOrder(t *testing.T) {
	p := newPool(t, config(pool.RoundRobin, 1, 1, 1))
	got := choose(t, p, 1)
	if err := p.SetUp("m2", false); err != nil {
		t.Fatal(err)
	}
	got += " " + choose(t, p, 4)
	if err := p.SetUp("m2", true); err != nil {
		t.Fatal(err)
	}
	got += " " + choose(t, p, 3)
	if want := "m0 m1 m0 m1 m0 m1 m2 m0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRoundRobinIsFair(t *testing.T) {
	r := mathrand.New(mathrand.NewPCG(1, 2))
	for range 50 {
		var weights []int
		sum := 0
		for range 1 + r.IntN(20) {
			weights = append(weights, r.IntN(10))
			sum += weights[len(weights)-1]
		}
		if sum == 0 {
			continue
		}
		p := newPool(t, config(pool.RoundRobin, weights...))
		got := map[string]int{}
		for _, name := range strings.Fields(choose(t, p, 3*sum)) {
			got[name]++
		}
		for i, w := range weights {
			if name := fmt.Sprint("m", i); got[name] != 3*w {
				t.Fatalf("weights %v: %s has %d of %d turns", weights, name, got[name], 3*sum)
			}
		}
	}
}

func TestLeastConnections(t *testing.T) {
	p := newPool(t, config(pool.LeastConnections, 1, 2, 1))
	var held []pool.Choice
	got := map[string]int{}
	for range 8 {
		c, err := p.Choose(&pool.Query{})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		got[c.ID]++
	}
	if got["m0"] != 2 || got["m1"] != 4 || got["m2"] != 2 {
		t.Errorf("8 held requests: %v, want 2 4 2", got)
	}
	for _, c := range held {
		if c.ID == "m2" {
			c.Done()
		}
	}
	for range 2 {
		if c, _ := p.Choose(&pool.Query{}); c.ID != "m2" {
			t.Errorf("%s is chosen, m2 has none", c.ID)
		}
	}
	idle := newPool(t, config(pool.LeastConnections, 1, 1, 1))
	if got, want := choose(t, idle, 5), "m0 m1 m2 m0 m1"; got != want {
		t.Errorf("among equals %s, want %s", got, want)
	}
}

func TestSourceIP(t *testing.T) {
	p := newPool(t, config(pool.SourceIP, 1, 1, 2, 0))
	owner := func(client int) string {
		c, err := p.Choose(&pool.Query{Client: netip.AddrFrom4([4]byte{10, 1, byte(client >> 8), byte(client)})})
		if err != nil {
			t.Fatal(err)
		}
		c.Done()
		return c.ID
	}
	const clients = 4000
	before, share := map[int]string{}, map[string]int{}
	for i := range clients {
		before[i] = owner(i)
		share[before[i]]++
		if owner(i) != before[i] {
			t.Fatalf("client %d is moved without reason", i)
		}
	}
	for name, want := range map[string]int{"m0": 1000, "m1": 1000, "m2": 2000, "m3": 0} {
		if got := share[name]; got < want*85/100 || got > want*115/100 {
			t.Errorf("%s has %d clients, want about %d", name, got, want)
		}
	}
	if err := p.SetUp("m1", false); err != nil {
		t.Fatal(err)
	}
	for i := range clients {
		if now := owner(i); before[i] != "m1" && now != before[i] {
			t.Fatalf("client %d of %s moved to %s when m1 went", i, before[i], now)
		}
	}
}

func TestCookieKeepsItsMember(t *testing.T) {
	c := config(pool.RoundRobin, 1, 1, 0)
	p := newPool(t, c)
	value := cookie.Value(testKey, "m2")
	keeps := func(want bool) {
		t.Helper()
		for range 3 {
			choice, err := p.Choose(present(value))
			if err != nil {
				t.Fatal(err)
			}
			choice.Done()
			if choice.Kept != want || want && choice.ID != "m2" || !want && choice.ID == "m2" {
				t.Errorf("member %s, kept %v, want kept %v", choice.ID, choice.Kept, want)
			}
		}
	}
	keeps(true) // weight 0 takes no new clients, and keeps the old
	if err := p.SetUp("m2", false); err != nil {
		t.Fatal(err)
	}
	keeps(false)
	c.Members[2].AdminUp = false
	apply(t, p, c)
	keeps(false)
	c.Members[2].AdminUp = true
	c.Keys = [][]byte{[]byte("another key of 16 bytes"), testKey}
	apply(t, p, c)
	keeps(true) // by the old key
	c.Keys = c.Keys[:1]
	apply(t, p, c)
	keeps(false)
	c.Keys = [][]byte{testKey}
	c.Members = c.Members[:2]
	apply(t, p, c)
	keeps(false)
}

func TestCookieIsUsedOnce(t *testing.T) {
	p := newPool(t, config(pool.RoundRobin, 1, 1))
	q := present(cookie.Value(testKey, "m1"))
	q.Cookies = 2
	if c, err := p.Choose(q); err != nil || c.Kept {
		t.Errorf("a value beside another one: kept %v, %v", c.Kept, err)
	}
	first, err := p.Choose(present(cookie.Value(testKey, "m1")))
	if err != nil || !first.Kept {
		t.Fatalf("kept %v, %v", first.Kept, err)
	}
	again := present(cookie.Value(testKey, "m1"))
	again.Tried = []*pool.Member{first.Member}
	if c, err := p.Choose(again); err != nil || c.Kept || c.ID != "m0" {
		t.Errorf("after a refusal %s, kept %v, %v", c.ID, c.Kept, err)
	}
}

// A million values that nobody was given: random ones, those of another pool's key, and
// right ones with a digit changed.
func TestForgedCookies(t *testing.T) {
	weights := make([]int, 100)
	for i := range weights {
		weights[i] = 1
	}
	p := newPool(t, config(pool.RoundRobin, weights...))
	value := make([]byte, cookie.Length)
	random := make([]byte, cookie.Length/2)
	other := []byte("the key of another pool")
	accepted := 0
	for i := range 1_000_000 {
		id := fmt.Sprint("m", i%100)
		switch i % 3 {
		case 0:
			_, _ = rand.Read(random) // never fails
			hex.Encode(value, random)
		case 1:
			copy(value, cookie.Value(other, id))
		case 2:
			copy(value, cookie.Value(testKey, id))
			at := i / 100 % cookie.Length
			value[at] = "123456789abcdef0"[strings.IndexByte("0123456789abcdef", value[at])]
		}
		c, err := p.Choose(present(string(value)))
		if err != nil {
			t.Fatal(err)
		}
		c.Done()
		if c.Kept {
			accepted++
		}
	}
	t.Logf(`scoreboard: {"forged": 1000000, "accepted": %d}`, accepted)
	if accepted > 0 {
		t.Errorf("%d of 1,000,000 forged cookies accepted", accepted)
	}
	if s := p.Stats(); s.Strange != 1_000_000 {
		t.Errorf("%d of 1,000,000 forged cookies counted", s.Strange)
	}
	for _, value := range []string{"", "m1", strings.ToUpper(cookie.Value(testKey, "m10")), cookie.Value(testKey, "m1") + "0"} {
		if c, err := p.Choose(present(value)); err != nil || c.Kept {
			t.Errorf("value %q: kept %v, %v", value, c.Kept, err)
		}
	}
}

func TestAppCookie(t *testing.T) {
	c := config(pool.RoundRobin, 1, 1, 1)
	c.Persistence, c.CookieName = pool.AppCookie, "SID"
	p := newPool(t, c)
	first, err := p.Choose(&pool.Query{App: []byte("session")})
	if err != nil || first.Kept {
		t.Fatalf("an unknown value is kept: %v, %v", first.Kept, err)
	}
	first.Done()
	p.Learn([]byte("session"), first.Member)
	c.Method = pool.LeastConnections
	c.Members = append(members(1, 1, 1, 1), pool.MemberConfig{})[:4]
	apply(t, p, c) // the table survives
	for range 3 {
		if again, err := p.Choose(&pool.Query{App: []byte("session")}); err != nil || !again.Kept || again.Member != first.Member {
			t.Errorf("member %s, kept %v, %v", again.ID, again.Kept, err)
		}
	}
	if err := p.SetUp(first.ID, false); err != nil {
		t.Fatal(err)
	}
	if again, err := p.Choose(&pool.Query{App: []byte("session")}); err != nil || again.Kept {
		t.Errorf("a member that is down keeps: %v, %v", again.Kept, err)
	}
}

func TestNobody(t *testing.T) {
	for name, change := range map[string]func(*pool.Config){
		"no members":     func(c *pool.Config) { c.Members = nil },
		"all down":       func(c *pool.Config) { c.Members[0].Up, c.Members[1].Up = false, false },
		"all weight 0":   func(c *pool.Config) { c.Members[0].Weight, c.Members[1].Weight = 0, 0 },
		"all admin-down": func(c *pool.Config) { c.Members[0].AdminUp, c.Members[1].AdminUp = false, false },
		"pool is down":   func(c *pool.Config) { c.AdminUp = false },
	} {
		for _, method := range []pool.Method{pool.RoundRobin, pool.LeastConnections, pool.SourceIP} {
			c := config(method, 1, 1)
			change(&c)
			if _, err := newPool(t, c).Choose(&pool.Query{}); !errors.Is(err, pool.ErrNoMember) {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
	}
	if _, err := pool.New().Choose(&pool.Query{}); !errors.Is(err, pool.ErrNoMember) {
		t.Errorf("before a configuration: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	for name, change := range map[string]func(*pool.Config){
		"method":      func(c *pool.Config) { c.Method = "RANDOM" },
		"persistence": func(c *pool.Config) { c.Persistence = "SOURCE_IP" },
		"no keys":     func(c *pool.Config) { c.Keys = nil },
		"short key":   func(c *pool.Config) { c.Keys = [][]byte{[]byte("short")} },
		"no cookie":   func(c *pool.Config) { c.Persistence = pool.AppCookie },
		"no id":       func(c *pool.Config) { c.Members[0].ID = "" },
		"id twice":    func(c *pool.Config) { c.Members[0].ID = "m1" },
		"address":     func(c *pool.Config) { c.Members[0].Address = c.Members[1].Address },
		"no address":  func(c *pool.Config) { c.Members[0].Address = netip.AddrPort{} },
		"weight":      func(c *pool.Config) { c.Members[0].Weight = 257 },
		"drain":       func(c *pool.Config) { c.DrainTimeout = -1 },
		"many":        func(c *pool.Config) { c.Members = members(make([]int, 1025)...) },
	} {
		p := newPool(t, config(pool.RoundRobin, 1, 1))
		c := config(pool.RoundRobin, 1, 1)
		change(&c)
		if err := p.Apply(c); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if got := choose(t, p, 2); got != "m0 m1" {
			t.Errorf("%s: afterwards %s", name, got)
		}
	}
}

func TestCountersOutliveMembers(t *testing.T) {
	c := config(pool.RoundRobin, 1, 1)
	c.DrainTimeout = time.Second
	p := newPool(t, c)
	choice, err := p.Choose(&pool.Query{})
	if err != nil {
		t.Fatal(err)
	}
	choice.Counters.Requests.Add(3)
	c.Members = c.Members[1:]
	apply(t, p, c)
	now := time.Now()
	if overdue, _ := p.Overdue(now); len(overdue) != 0 {
		t.Errorf("%s is overdue at once", overdue[0].ID)
	}
	overdue, _ := p.Overdue(now.Add(2 * time.Second))
	if len(overdue) != 1 || overdue[0] != choice.Member {
		t.Fatalf("overdue: %v", overdue)
	}
	if s := p.Stats(); s.Past.Requests != 3 || s.Past.Active != 1 || len(s.Members) != 1 {
		t.Errorf("stats with a request of a removed member: %+v", s)
	}
	c.Members = members(1, 1)
	apply(t, p, c)
	if s := p.Stats(); s.Past.Requests != 0 || s.Members[0].Requests != 3 {
		t.Errorf("stats when it is back: %+v", s)
	}
	choice.Done()
	c.Members = c.Members[1:]
	apply(t, p, c)
	_, gone := p.Overdue(now)
	if s := p.Stats(); len(gone) != 1 || s.Past.Requests != 3 || s.Past.Active != 0 {
		t.Errorf("%d are gone, stats after the end: %+v", len(gone), s)
	}
	next := newPool(t, c)
	next.Add(p.Stats())
	if s := next.Stats(); s.Past.Requests != 3 {
		t.Errorf("another process counts on from %+v", s)
	}
}
