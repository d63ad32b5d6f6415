package healthd

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"qlbaas/tests/bubble"
)

// Counted from the moment a member stops to serve, wherever in the schedule that
// falls, it is down within the promised time and not before max_retries probes.
func TestTimeToDown(t *testing.T) {
	for _, c := range []Check{
		every(0, 0, 1), every(time.Second, time.Second, 3), every(10*time.Second, 5*time.Second, 3),
		every(time.Second, 0, 10), every(5*time.Second, 0, 2), every(60*time.Second, 30*time.Second, 1),
	} {
		for how, bound := range map[behaviour]time.Duration{
			refuses: c.delay()*time.Duration(c.MaxRetries) + time.Second,
			hangs:   (c.delay()+c.timeout())*time.Duration(c.MaxRetries) + time.Second,
		} {
			t.Run(fmt.Sprintf("delay %v timeout %v retries %d how %d", c.Delay, c.Timeout, c.MaxRetries, how), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { timeToDown(t, c, how, bound) })
			})
		}
	}
}

func timeToDown(t *testing.T, check Check, how behaviour, bound time.Duration) {
	f := newFake(t, Options{})
	defer f.c.Close()
	f.c.Set("p", []Target{target(0, check)})
	for range 30 {
		bubble.Pass(2*time.Second + rand.N(4*check.delay()))
		f.wantTold()
		before := len(f.probed("m0/c0"))
		f.now("m0", how)
		stopped := time.Now()
		bubble.Pass(bound)
		told := f.told()
		if len(told) != 1 || told[0].Up {
			t.Fatalf("%v after it stopped to serve: verdicts %v", bound, told)
		}
		if n := len(f.probed("m0/c0")) - before; n < check.MaxRetries {
			t.Fatalf("down after %d probes", n)
		}
		if at := told[0].At; at.Before(stopped) || at.After(stopped.Add(bound)) {
			t.Fatalf("down at %v, stopped at %v", at, stopped)
		}
		f.now("m0", serves)
		bubble.Pass(check.timeout() + rise*check.delay() + time.Second)
		f.wantTold("m0 up")
	}
}

// The same holds for a member that is dead when it is added.
func TestTimeToDownOfANewMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, Options{})
		defer f.c.Close()
		f.now("m0", refuses)
		for range 50 {
			f.c.Set("p", []Target{target(0, every(2*time.Second, time.Second, 3))})
			bubble.Pass(7 * time.Second)
			f.wantTold("m0 down")
			f.c.Remove("p")
		}
	})
}

// The gap between the end of a probe and the next start is the delay, without
// jitter; before the first probe there is some, at most min(delay, 1 s).
func TestSchedule(t *testing.T) {
	for _, check := range []Check{every(time.Second, time.Second, 3), every(5*time.Second, 2*time.Second, 3), every(100*time.Millisecond, 0, 3)} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, Options{})
			defer f.c.Close()
			f.now("m1", hangs)
			begin := time.Now()
			f.c.Set("p", []Target{target(0, check), target(1, check)})
			bubble.Pass(20*check.delay() + 10*check.timeout())
			for key, gap := range map[string]time.Duration{"m0/c0": check.delay(), "m1/c0": check.delay() + check.timeout()} {
				starts := f.probed(key)
				if first := starts[0].Sub(begin); first > min(check.delay(), time.Second) {
					t.Errorf("%s: first probe after %v", key, first)
				}
				for i := 1; i < len(starts); i++ {
					if got := starts[i].Sub(starts[i-1]); got != gap {
						t.Fatalf("%s: probe %d came %v after the one before, want %v", key, i, got, gap)
					}
				}
			}
		})
	}
}

func TestFirstProbesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, Options{})
		defer f.c.Close()
		var targets []Target
		for i := range 1000 {
			targets = append(targets, target(i, every(10*time.Second, time.Second, 3)))
		}
		begin := time.Now()
		f.c.Set("p", targets)
		bubble.Pass(time.Second)
		var tenths [10]int
		for i := range targets {
			starts := f.probed(fmt.Sprintf("m%d/c0", i))
			if len(starts) != 1 {
				t.Fatalf("member %d: %d probes in the first second", i, len(starts))
			}
			tenths[min(9, starts[0].Sub(begin)/(100*time.Millisecond))]++
		}
		for i, n := range tenths {
			if n < 50 || n > 150 { // 100 are expected; this is more than five sigma off
				t.Errorf("%d of 1000 first probes in tenth %d of the second", n, i)
			}
		}
	})
}

// More members hang than there are slots: those that serve are still asked on
// time and stay up, and the bound holds.
func TestHangingMembersDoNotStarveOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots, hanging, healthy = 16, 100, 20
		check := every(time.Second, time.Second, 3)
		f := newFake(t, Options{MaxInFlight: slots})
		defer f.c.Close()
		var targets []Target
		for i := range healthy + hanging {
			if i >= healthy {
				f.now(fmt.Sprintf("m%d", i), hangs)
			}
			targets = append(targets, target(i, check))
		}
		f.c.Set("p", targets)
		// Until a hanging one has timed out once it is not known to hang.
		bubble.Pass(hanging / slots * 2 * check.timeout())
		f.told()
		settled := time.Now()
		bubble.Pass(time.Minute)
		for i := range healthy {
			last := settled
			for _, at := range f.probed(fmt.Sprintf("m%d/c0", i)) {
				if at.Sub(last) > check.delay() {
					t.Fatalf("m%d was not asked for %v", i, at.Sub(last))
				}
				if at.After(last) {
					last = at
				}
			}
			if time.Since(last) > check.delay() {
				t.Fatalf("m%d was not asked for the last %v", i, time.Since(last))
			}
		}
		for _, m := range f.c.Members("p")[:healthy] {
			if !m.Up {
				t.Errorf("%s is down", m.Member)
			}
		}
		if f.peak > slots {
			t.Errorf("%d probes in flight, bound is %d", f.peak, slots)
		}
	})
}

// After a standstill all checks are due at once; they are spread anew.
func TestOverdueChecksAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, Options{})
		defer f.c.Close()
		const delay, n = 400 * time.Millisecond, 200
		var sum time.Duration
		for range n {
			begin := time.Now()
			f.c.pause(t.Context(), -time.Minute, delay)
			took := time.Since(begin)
			if took > delay {
				t.Fatalf("waited %v", took)
			}
			sum += took
		}
		if mean := sum / n; mean < delay/3 || mean > delay*2/3 {
			t.Errorf("waited %v on average", mean)
		}
		begin := time.Now()
		if f.c.pause(t.Context(), time.Second, delay); time.Since(begin) != time.Second {
			t.Errorf("a check in time waited %v", time.Since(begin))
		}
	})
}
