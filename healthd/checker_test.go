package healthd

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qlbaas/tests/bubble"
)

// inBubble runs f on fake time, with a Checker that is closed at the end.
func inBubble(t *testing.T, run func(f *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, Options{})
		defer f.c.Close()
		run(f)
	})
}

var second = every(time.Second, time.Second, 2)

// long is more than a check of one second needs to go down or up.
const long = 10 * time.Second

func TestMemberIsUpOnlyIfAllChecksPass(t *testing.T) {
	inBubble(t, func(f *fake) {
		f.c.Set("p", []Target{target(0, second, second), target(1, second)})
		bubble.Pass(long)
		f.wantTold()
		f.now("m0/c1", refuses)
		bubble.Pass(long)
		f.wantTold("m0 down")
		f.now("m0/c0", hangs)
		bubble.Pass(long)
		f.now("m0/c1", serves)
		bubble.Pass(long)
		f.wantTold() // the other one keeps it down
		f.now("m0/c0", serves)
		bubble.Pass(long)
		f.wantTold("m0 up")
	})
}

func TestVerdictsSayWhy(t *testing.T) {
	inBubble(t, func(f *fake) {
		f.c.Set("p", []Target{target(0, second)})
		f.now("m0", refuses)
		bubble.Pass(long)
		f.now("m0", serves)
		bubble.Pass(long)
		told := f.told()
		if len(told) != 2 {
			t.Fatalf("verdicts %v", told)
		}
		if got, want := told[0].Reason, "TCP: connect: refused"; got != want {
			t.Errorf("reason %q, want %q", got, want)
		}
		if got, want := told[1].Reason, "TCP: passed 2 times in a row"; got != want {
			t.Errorf("reason %q, want %q", got, want)
		}
		if v := told[0]; v.Pool != "p" || v.Member != "m0" || v.At.IsZero() {
			t.Errorf("verdict %+v", v)
		}
	})
}

func TestStartsFromTheCallersVerdict(t *testing.T) {
	inBubble(t, func(f *fake) {
		down := target(0, second)
		down.Up = false
		f.now("m1", refuses)
		stillDown := target(1, second)
		stillDown.Up = false
		f.c.Set("p", []Target{down, stillDown})
		f.wantTold() // the caller knows
		if f.c.Members("p")[0].Up {
			t.Error("taken for up before any probe")
		}
		bubble.Pass(long)
		f.wantTold("m0 up")
	})
}

func TestMemberWithoutChecksIsUp(t *testing.T) {
	inBubble(t, func(f *fake) {
		down := target(0)
		down.Up = false
		f.c.Set("p", []Target{down, target(1)})
		bubble.Pass(long)
		f.wantTold("m0 up")
	})
}

// A change that leaves a check as it is neither delays its next probe nor breaks
// off the one in flight nor forgets what was counted.
func TestUnchangedChecksGoOn(t *testing.T) {
	inBubble(t, func(f *fake) {
		slow := every(3*time.Second, 2*time.Second, 3)
		f.now("m0", hangs)
		stop := time.Now().Add(3*5*time.Second + time.Second)
		for n := 1; time.Now().Before(stop); n++ {
			f.c.Set("p", []Target{target(n, second), target(0, slow)})
			bubble.Pass(300 * time.Millisecond)
		}
		f.wantTold("m0 down")
		starts := f.probed("m0/c0")
		for i := 1; i < len(starts); i++ {
			if gap := starts[i].Sub(starts[i-1]); gap != 5*time.Second {
				t.Errorf("probes %v apart", gap)
			}
		}
	})
}

func TestHealthSurvivesConfigurationChanges(t *testing.T) {
	changed := every(2*time.Second, time.Second, 3)
	renamed := second
	renamed.ID = "c9"
	for name, next := range map[string]Target{
		"the check is changed":           target(0, changed),
		"the check is exchanged":         target(0, renamed),
		"another check is added":         target(0, second, changed),
		"the caller thinks otherwise":    {Member: "m0", Address: memberAddr(0), Checks: target(0, second).Checks, Up: true},
		"the member changed its address": {Member: "m0", Address: memberAddr(7), Checks: target(0, second).Checks, Up: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fake) {
				f.now("m0", refuses)
				f.now("m7", refuses)
				f.c.Set("p", []Target{target(0, second)})
				bubble.Pass(long)
				f.wantTold("m0 down")
				f.c.Set("p", []Target{next})
				bubble.Pass(2 * long)
				f.wantTold() // never admitted again
				f.now("m0", serves)
				f.now("m7", serves)
				bubble.Pass(2 * long)
				f.wantTold("m0 up")
			})
		})
	}
}

func TestProbesFollowTheMembersAddress(t *testing.T) {
	inBubble(t, func(f *fake) {
		f.now("m7", refuses)
		tg := target(0, second)
		f.c.Set("p", []Target{tg})
		bubble.Pass(long)
		f.wantTold()
		tg.Address = memberAddr(7)
		f.c.Set("p", []Target{tg})
		bubble.Pass(long)
		f.wantTold("m0 down")
	})
}

func TestChangedCheckStartsToCountAnew(t *testing.T) {
	inBubble(t, func(f *fake) {
		f.now("m0", refuses)
		f.c.Set("p", []Target{target(0, every(time.Second, time.Second, 5))})
		bubble.Pass(4 * time.Second)
		f.wantTold()
		f.c.Set("p", []Target{target(0, every(time.Second, time.Second, 4))})
		h := f.c.Members("p")[0].Checks[0]
		if h.Fails != 0 || len(h.Probes) == 0 {
			t.Errorf("%d failures counted and %d probes remembered", h.Fails, len(h.Probes))
		}
		bubble.Pass(2 * time.Second)
		f.wantTold()
		bubble.Pass(3 * time.Second)
		f.wantTold("m0 down")
	})
}

func TestRemovingTheFailingCheckAdmitsTheMember(t *testing.T) {
	inBubble(t, func(f *fake) {
		f.now("m0/c1", refuses)
		f.c.Set("p", []Target{target(0, second, second)})
		bubble.Pass(long)
		f.wantTold("m0 down")
		f.c.Set("p", []Target{target(0, second)})
		f.wantTold("m0 up")
	})
}

func TestRemovingTheLastCheckAdmitsTheMember(t *testing.T) {
	inBubble(t, func(f *fake) {
		f.now("m0", refuses)
		f.c.Set("p", []Target{target(0, second)})
		bubble.Pass(long)
		f.wantTold("m0 down")
		f.c.Set("p", []Target{target(0)})
		f.wantTold("m0 up")
		n := len(f.probed("m0/c0"))
		bubble.Pass(long)
		if got := len(f.probed("m0/c0")); got != n {
			t.Errorf("%d probes of a check that is gone", got-n)
		}
	})
}

func TestDroppedMembersAreForgotten(t *testing.T) {
	for name, drop := range map[string]func(*Checker){
		"by Set":    func(c *Checker) { c.Set("p", []Target{target(1)}) },
		"by Remove": func(c *Checker) { c.Remove("p"); c.Remove("never heard of") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fake) {
				f.now("m0", hangs)
				f.c.Set("p", []Target{target(0, second), target(1)})
				bubble.Pass(2500 * time.Millisecond) // one probe is in flight
				drop(f.c)
				n := len(f.probed("m0/c0"))
				if f.all != 0 {
					t.Error("the probe in flight was not broken off")
				}
				bubble.Pass(long)
				f.wantTold()
				if got := len(f.probed("m0/c0")); got != n {
					t.Errorf("%d further probes", got-n)
				}
				f.c.Set("p", []Target{target(0, second)})
				if m := f.c.Members("p"); len(m) != 1 || !m[0].Up || len(m[0].Checks[0].Probes) != 0 {
					t.Errorf("came back as %+v", m)
				}
			})
		})
	}
}

func TestVoidProbesChangeNothing(t *testing.T) {
	inBubble(t, func(f *fake) {
		f.now("m1", refuses)
		f.c.Set("p", []Target{target(0, second), target(1, second)})
		bubble.Pass(long)
		f.wantTold("m1 down")
		f.now("m0", unknowable)
		f.now("m1", unknowable)
		bubble.Pass(10 * long)
		f.wantTold()
		probes := f.c.Members("p")[0].Checks[0].Probes
		last := probes[len(probes)-1]
		if last.Result != Void || last.Reason != "open a socket: no socket" {
			t.Errorf("the last probe is %+v", last)
		}
	})
}

func TestInvalidChecksAreVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, Options{})
		f.c.Close()
		c := New(nil, f, Options{}) // nil Sockets: nothing may be opened
		defer c.Close()
		bad := second
		bad.Type, bad.Path = HTTP, "/ HTTP/1.1\r\nX:"
		nowhere := target(1, second)
		nowhere.Address = Target{}.Address
		c.Set("p", []Target{target(0, bad), nowhere})
		bubble.Pass(long)
		f.wantTold()
		for _, m := range c.Members("p") {
			p := m.Checks[0].Probes
			if len(p) == 0 || p[0].Result != Void || !strings.HasPrefix(p[0].Reason, "check the monitor: ") {
				t.Errorf("%s: probes %v", m.Member, p)
			}
		}
	})
}

func TestSecondOfTheSameIDIsIgnored(t *testing.T) {
	inBubble(t, func(f *fake) {
		other := target(0, second)
		other.Address = memberAddr(9)
		f.now("m9", refuses)
		twice := second
		twice.ID, twice.MaxRetries = "c0", 9
		f.c.Set("p", []Target{target(0, second, twice), other})
		bubble.Pass(long)
		f.wantTold()
		m := f.c.Members("p")
		if len(m) != 1 || len(m[0].Checks) != 1 || len(f.probed("m9/c0")) != 0 {
			t.Errorf("members %+v", m)
		}
	})
}

func TestMembersTellsHealth(t *testing.T) {
	inBubble(t, func(f *fake) {
		if m := f.c.Members("p"); m != nil {
			t.Errorf("unknown pool has %v", m)
		}
		f.now("m2/c1", refuses)
		f.c.Set("p", []Target{target(2, second, second), target(1, second)})
		bubble.Pass(30 * time.Second)
		m := f.c.Members("p")
		if len(m) != 2 || m[0].Member != "m2" || m[1].Member != "m1" || m[0].Address != memberAddr(2) {
			t.Fatalf("members %+v", m)
		}
		if m[0].Up || !m[1].Up || !m[0].Checks[0].Up || m[0].Checks[1].Up {
			t.Errorf("health %+v", m)
		}
		bad := m[0].Checks[1]
		if bad.ID != "c1" || bad.Type != TCP || bad.Fails != 2 || bad.Passes != 0 || len(bad.Probes) != historyLen {
			t.Errorf("check %+v", bad)
		}
		for i, p := range bad.Probes {
			if p.Result != Failed || p.Reason != "connect: refused" || p.At.IsZero() {
				t.Errorf("probe %+v", p)
			}
			if i > 0 && !p.At.After(bad.Probes[i-1].At) {
				t.Error("probes are not in order")
			}
		}
	})
}

// Whatever happens in whatever order, what the Sink heard last is what Members
// says, and it never hears the same twice.
func TestSinkAndMembersAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	inBubble(t, func(f *fake) {
		known := map[string]bool{} // what the caller takes each member for
		for range 300 {
			var targets []Target
			next := map[string]bool{}
			for _, i := range random.Perm(6)[:random.IntN(7)] {
				var checks []Check
				for range random.IntN(3) {
					checks = append(checks, every(time.Second, 0, 1+random.IntN(2)))
				}
				tg := target(i, checks...)
				up, ok := known[tg.Member]
				if !ok {
					up = random.IntN(2) == 0
				}
				tg.Up, next[tg.Member] = up, up
				targets = append(targets, tg)
			}
			f.c.Set("p", targets)
			known = next
			for i := range 6 {
				f.now(fmt.Sprintf("m%d", i), behaviour(random.IntN(4)))
			}
			bubble.Pass(time.Duration(random.IntN(6000)) * time.Millisecond)
			for _, v := range f.told() {
				up, ok := known[v.Member]
				if !ok || up == v.Up {
					t.Fatalf("told %+v, known %v", v, known)
				}
				known[v.Member] = v.Up
			}
			for _, m := range f.c.Members("p") {
				if known[m.Member] != m.Up {
					t.Fatalf("%s is %v, the sink knows %v", m.Member, m.Up, known)
				}
			}
		}
	})
}
