package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// The crowd of TestLeastConnectionsCrowd.
const (
	crowdMembers = 100
	crowdSize    = 2400
	crowdSamples = 40
)

// TestLeastConnectionsCrowd: with many members and connections of mixed length no
// member ever holds more than a tenth above the mean.
func TestLeastConnectionsCrowd(t *testing.T) {
	rows.Proves(t, 123)
	w := newWorld(t, "auto", lab.TutorialOptions{Members: crowdMembers, MembersPerHost: crowdMembers})
	b := w.balance(balancerOptions{method: "LEAST_CONNECTIONS", endpoints: w.endpoints(echoPort)})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	c := &crowd{b: b, goal: make(chan struct{}), dialing: make(chan struct{}, 64)}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var all sync.WaitGroup
	for i := range crowdSize {
		all.Go(func() { c.keepOne(ctx, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	select {
	case <-c.goal:
	case <-time.After(2 * patience):
		t.Fatalf("only %d of %d connections are there", c.held.Load(), crowdSize)
	}
	least := c.sample(t)
	leave()
	all.Wait()
	for _, err := range c.errs {
		t.Error(err)
	}
	b.awaitActive(0)
	total := b.stats().number("total_connections")
	t.Logf("%v connections altogether, never fewer than %v at once", total, least)
	if total < 2*crowdSize {
		t.Errorf("%v connections in all: nobody came and went", total)
	}
	for _, s := range w.scrape().with("qlbaas_member_connections_active", "pool", b.id) {
		if s.value != 0 {
			t.Errorf("member %s still counts %v", s.labels["member"], s.value)
		}
	}
	// Closed flows go ten seconds later, and their ports with them.
	until(t, patience, func() error {
		if n := w.status(b.id).number("flows_used"); n != 0 {
			return fmt.Errorf("%v flows are in the table", n)
		}
		return nil
	})
	for _, s := range w.scrape().with("qlbaas_member_nat_ports_used", "pool", b.id) {
		if s.value != 0 {
			t.Errorf("member %s still has %v ports", s.labels["member"], s.value)
		}
	}
}

// crowd is many clients at once.
type crowd struct {
	b *balancer
	// held counts the connections that were made; goal is closed when all have one.
	held atomic.Int64
	goal chan struct{}
	// dialing bounds those who connect at the same time: each takes a thread.
	dialing chan struct{}

	mu   sync.Mutex
	errs []error
}

// keepOne holds one connection after the other, each for another time, until ctx
// ends. The next one is there before the last one goes: whatever the machine does
// meanwhile, it is the balancer that spreads a crowd of constant size.
func (c *crowd) keepOne(ctx context.Context, random *rand.Rand) {
	var last *flow
	defer func() {
		if last != nil {
			last.close()
		}
	}()
	for ctx.Err() == nil {
		next, err := c.dial(ctx)
		if last != nil {
			last.close()
		}
		if last = next; err != nil {
			if ctx.Err() == nil {
				c.fail(err)
			}
			return
		}
		if c.held.Add(1) == crowdSize {
			close(c.goal)
		}
		if err := c.stay(ctx, next, random); err != nil {
			c.fail(err)
		}
	}
}

func (c *crowd) dial(ctx context.Context) (*flow, error) {
	c.dialing <- struct{}{}
	defer func() { <-c.dialing }()
	return c.b.dial(ctx, c.b.w.Client, netip.Addr{})
}

// stay keeps a connection for a while, half of them short and half long, and uses it
// at the end. Until everybody is there nobody leaves.
func (c *crowd) stay(ctx context.Context, f *flow, random *rand.Rand) error {
	select {
	case <-c.goal:
	case <-ctx.Done():
		return nil
	}
	long := time.Duration(random.IntN(1000)) * time.Millisecond
	if random.IntN(2) == 0 {
		long = 2*time.Second + 4*long
	}
	select {
	case <-time.After(long):
		return f.echo()
	case <-ctx.Done():
		return nil
	}
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, err)
}

// sample looks at the members' connections again and again, and returns the least
// number of all.
func (c *crowd) sample(t *testing.T) (least float64) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	worst := 0.0
	for i := range crowdSamples {
		<-ticker.C
		var total, most float64
		counts := c.b.w.scrape().with("qlbaas_member_connections_active", "pool", c.b.id)
		for _, s := range counts {
			total += s.value
			most = max(most, s.value)
		}
		if len(counts) != crowdMembers {
			t.Fatalf("%d members are counted", len(counts))
		}
		mean := total / crowdMembers
		worst = max(worst, most/mean)
		if most > 1.1*mean {
			t.Error(fmt.Errorf("sample %d: one member has %v connections, the mean is %.2f", i, most, mean))
		}
		if i == 0 || total < least {
			least = total
		}
	}
	t.Logf("max/mean was %.3f at most", worst)
	if least < 2000 {
		t.Errorf("only %v connections at once, want 2000", least)
	}
	return least
}
