package healthd

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qlbaas/tests/bubble"
)

// slowSink takes as long for a call as the test likes.
type slowSink struct {
	t       *testing.T
	entered chan Verdict
	leave   chan struct{}
	mu      sync.Mutex
}

func newSlowSink(t *testing.T) *slowSink {
	return &slowSink{t: t, entered: make(chan Verdict), leave: make(chan struct{})}
}

func (s *slowSink) SetUp(v Verdict) {
	if !s.mu.TryLock() {
		s.t.Error("two calls at a time for one member")
		return
	}
	defer s.mu.Unlock()
	s.entered <- v
	<-s.leave
}

func (s *slowSink) want(up bool) {
	s.t.Helper()
	if v := <-s.entered; v.Up != up {
		s.t.Fatalf("told %+v, want up = %v", v, up)
	}
}

// quiet fails if the Sink is told anything within the time.
func (s *slowSink) quiet(d time.Duration) {
	s.t.Helper()
	select {
	case v := <-s.entered:
		s.t.Fatalf("told %+v", v)
	case <-time.After(d):
	}
}

func withSlowSink(t *testing.T, run func(f *fake, s *slowSink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(t, Options{}), newSlowSink(t)
		f.c.sink = s
		defer f.c.Close()
		run(f, s)
	})
}

func TestSlowSinkDelaysNoProbeAndHearsTheLast(t *testing.T) {
	withSlowSink(t, func(f *fake, s *slowSink) {
		f.c.Set("p", []Target{target(0, second)})
		f.now("m0", refuses)
		s.want(false)
		begin := time.Now()
		f.now("m0", serves)
		bubble.Pass(long) // up
		f.now("m0", refuses)
		bubble.Pass(long) // down
		f.now("m0", serves)
		bubble.Pass(long) // up
		n := 0
		for _, at := range f.probed("m0/c0") {
			if at.After(begin) {
				n++
			}
		}
		if want := int(3 * long / time.Second); n < want-1 {
			t.Errorf("%d probes while the sink was busy, want %d", n, want)
		}
		s.leave <- struct{}{}
		s.want(true)
		s.leave <- struct{}{}
		s.quiet(long)
	})
}

func TestSinkIsNotToldWhatItKnows(t *testing.T) {
	withSlowSink(t, func(f *fake, s *slowSink) {
		f.c.Set("p", []Target{target(0, second)})
		f.now("m0", refuses)
		s.want(false)
		f.now("m0", serves)
		bubble.Pass(long) // up
		f.now("m0", refuses)
		bubble.Pass(long) // down again, as the sink was told
		s.leave <- struct{}{}
		s.quiet(long)
	})
}

// A member is dropped and added again while the Sink is told the old verdict: it
// hears the new one after that.
func TestMemberComesBackDuringACall(t *testing.T) {
	withSlowSink(t, func(f *fake, s *slowSink) {
		f.c.Set("p", []Target{target(0, second)})
		f.now("m0", refuses)
		s.want(false)
		f.c.Remove("p")
		f.now("m0", serves)
		f.c.Set("p", []Target{target(0, second)})
		s.leave <- struct{}{}
		s.want(true)
		s.leave <- struct{}{}
		s.quiet(long)
		if n := len(f.c.leaving); n != 0 {
			t.Errorf("%d reporters kept", n)
		}
	})
}

func TestDroppedMemberIsNotReported(t *testing.T) {
	withSlowSink(t, func(f *fake, s *slowSink) {
		f.c.Set("p", []Target{target(0, second)})
		f.now("m0", refuses)
		s.want(false)
		f.now("m0", serves)
		bubble.Pass(long) // up, and waiting to be told
		f.c.Set("p", nil)
		s.leave <- struct{}{}
		s.quiet(long)
		synctest.Wait()
		if n := len(f.c.leaving); n != 0 {
			t.Errorf("%d reporters kept", n)
		}
	})
}

func TestCloseWaitsForTheSink(t *testing.T) {
	withSlowSink(t, func(f *fake, s *slowSink) {
		f.c.Set("p", []Target{target(0, second), target(1, every(time.Second, 0, 9))})
		f.now("m0", refuses)
		s.want(false)
		closed := make(chan struct{})
		go func() { f.c.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("closed while the sink was still called")
		default:
		}
		s.leave <- struct{}{}
		<-closed
		f.c.Set("p", []Target{target(2, second)})
		n := len(f.probed("m2/c0")) + len(f.probed("m1/c0"))
		bubble.Pass(long)
		if got := len(f.probed("m2/c0")) + len(f.probed("m1/c0")); got != n {
			t.Errorf("%d probes after Close", got-n)
		}
	})
}

// reentrant asks and changes the Checker from within SetUp.
type reentrant struct {
	c    *Checker
	told chan bool
}

func (r *reentrant) SetUp(v Verdict) {
	for _, m := range r.c.Members(v.Pool) {
		r.told <- m.Up
	}
	r.c.Set(v.Pool, nil)
	r.c.Remove(v.Pool)
}

func TestSinkMayCallTheChecker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, Options{})
		r := &reentrant{c: f.c, told: make(chan bool)}
		f.c.sink = r
		defer f.c.Close()
		f.now("m0", refuses)
		f.c.Set("p", []Target{target(0, second)})
		if up := <-r.told; up {
			t.Error("told down, but Members says up")
		}
		synctest.Wait()
		if m := f.c.Members("p"); len(m) != 0 {
			t.Errorf("still there: %v", m)
		}
	})
}

// A member that flaps all the time is told in full and logged seldom.
func TestFlappingIsLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFake(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer f.c.Close()
		f.c.Set("p", []Target{target(0, every(time.Second, 0, 1)), target(1, second)})
		bubble.Pass(long)
		const flaps, minutes = 100, 10
		for range flaps {
			f.now("m0", refuses)
			bubble.Pass(3 * time.Second)
			f.now("m0", serves)
			bubble.Pass(3 * time.Second)
		}
		if n := len(f.told()); n != 2*flaps {
			t.Errorf("%d verdicts, want %d", n, 2*flaps)
		}
		lines := strings.Count(log.String(), "\n")
		if lines < flapLines || lines > flapLines+minutes+1 {
			t.Errorf("%d lines in %d minutes:\n%s", lines, minutes, log.String())
		}
		if !strings.Contains(log.String(), "lines_left_out=1") {
			t.Errorf("the log does not say what it leaves out:\n%s", log.String())
		}
		before := log.Len()
		f.now("m1", refuses)
		bubble.Pass(long)
		f.told()
		if !strings.Contains(log.String()[before:], "member=m1") {
			t.Error("one member's flapping mutes another")
		}
	})
}

func TestVoidProbesAreLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFake(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer f.c.Close()
		var targets []Target
		for i := range 100 {
			tg := target(i, second)
			f.now(tg.Member, unknowable)
			targets = append(targets, tg)
		}
		f.c.Set("p", targets)
		bubble.Pass(time.Minute)
		f.c.Close()
		if n := strings.Count(log.String(), "\n"); n < 2 || n > 7 {
			t.Errorf("%d lines in a minute:\n%s", n, log.String())
		}
	})
}
