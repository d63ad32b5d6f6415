package healthd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The ways a fake member behaves.
type behaviour int

const (
	serves behaviour = iota
	refuses
	hangs
	unknowable // the probe cannot be made
)

// fake stands for the members of pool "p" and for the Sink. Members are named
// m0, m1, … and live at 10.0.0.1 and up; a behaviour is set per member or, as
// "m0/c1", for one of its checks.
type fake struct {
	t *testing.T
	c *Checker

	mu        sync.Mutex
	behaves   map[string]behaviour
	starts    map[string][]time.Time // of probes, by "m0/c1"
	inFlight  map[string]int
	all, peak int
	verdicts  []Verdict
}

func newFake(t *testing.T, opts Options) *fake {
	f := &fake{t: t, behaves: map[string]behaviour{}, starts: map[string][]time.Time{}, inFlight: map[string]int{}}
	f.c = newChecker(f.probe, f, opts)
	return f
}

func (f *fake) SetUp(v Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verdicts = append(f.verdicts, v)
}

func (f *fake) probe(ctx context.Context, at endpoint, spec Check) error {
	key := memberName(at.addr) + "/" + spec.ID
	how := f.begin(key)
	defer f.end(key)
	switch how {
	case refuses:
		return &probeError{step: "connect", err: errors.New("refused")}
	case hangs:
		<-ctx.Done()
		return &probeError{step: "connect", err: os.ErrDeadlineExceeded}
	case unknowable:
		return &probeError{step: "open a socket", err: errors.New("no socket"), local: true}
	}
	return nil
}

func (f *fake) begin(key string) behaviour {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts[key] = append(f.starts[key], time.Now())
	f.inFlight[key]++
	if f.inFlight[key] > 1 {
		f.t.Errorf("%s: two probes in flight", key)
	}
	f.all++
	f.peak = max(f.peak, f.all)
	if how, ok := f.behaves[key]; ok {
		return how
	}
	return f.behaves[key[:len(key)-len("/c0")]]
}

func (f *fake) end(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inFlight[key]--
	f.all--
}

// now makes a member, or a check of it, behave so from here on.
func (f *fake) now(name string, how behaviour) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behaves[name] = how
}

// told returns the verdicts so far and forgets them.
func (f *fake) told() []Verdict {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.verdicts
	f.verdicts = nil
	return v
}

// wantTold fails unless exactly these verdicts came since the last look, written
// like "m0 down".
func (f *fake) wantTold(want ...string) {
	f.t.Helper()
	var got []string
	for _, v := range f.told() {
		got = append(got, fmt.Sprintf("%s %s", v.Member, map[bool]string{true: "up", false: "down"}[v.Up]))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.t.Fatalf("verdicts: got %v, want %v", got, want)
	}
}

// probed returns when the probes of "m0/c0" started.
func (f *fake) probed(key string) []time.Time {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.starts[key]...)
}

func memberAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(1 + i%250)}), 80)
}

func memberName(addr netip.AddrPort) string {
	ip := addr.Addr().As4()
	return fmt.Sprintf("m%d", int(ip[2])*250+int(ip[3])-1)
}

// target is member i with checks c0, c1, …, starting up.
func target(i int, checks ...Check) Target {
	addr := memberAddr(i)
	for n := range checks {
		if checks[n].ID == "" {
			checks[n].ID = fmt.Sprintf("c%d", n)
		}
	}
	return Target{Pool: "p", Member: memberName(addr), Address: addr, Checks: checks, Up: true}
}

func every(delay, timeout time.Duration, retries int) Check {
	return Check{Type: TCP, Delay: delay, Timeout: timeout, MaxRetries: retries}
}
