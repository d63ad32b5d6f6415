package healthd

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A member that flaps is logged this often: a few lines at once, then one a minute,
// which counts the ones left out. The Sink still hears every change.
const (
	flapLines    = 5
	flapInterval = time.Minute
)

// reporter carries the verdicts of one member to the Sink: in order, one call at a
// time, from a goroutine that exists only while there is something to tell. Probes
// never wait for the Sink; of verdicts that come up during a call the last counts.
type reporter struct {
	c            *Checker
	pool, member string
	lines        *rate.Limiter

	mu      sync.Mutex
	want    Verdict // the newest
	sent    bool    // Up as the Sink knows it
	running bool
	gone    bool // the member was dropped: tell nothing more
	muted   int  // log lines left out since the last one
}

func newReporter(c *Checker, pool, member string, up bool) *reporter {
	return &reporter{
		c: c, pool: pool, member: member, sent: up,
		lines: rate.NewLimiter(rate.Every(flapInterval), flapLines),
	}
}

// tell makes v the verdict that the Sink shall know. The caller is counted in
// c.work or holds c.mu of an open Checker, so that Close cannot have finished.
func (r *reporter) tell(up bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.want = Verdict{Pool: r.pool, Member: r.member, Up: up, Reason: reason, At: time.Now()}
	if r.running || r.gone || up == r.sent {
		return
	}
	r.running = true
	r.c.work.Go(r.run)
}

// retire ends the reports; one that is under way ends by itself. It reports
// whether there is one, in which case the Checker keeps r until it called forget.
func (r *reporter) retire() (busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	return r.running
}

// revive takes a retired reporter up again for a member that came back while the
// last call to the Sink was still under way. If that call said something else
// than the verdict the member starts with, the Sink is told so after it. It fails
// when the reporter has just ended.
func (r *reporter) revive(up bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		return false
	}
	r.gone = false
	r.want = Verdict{Pool: r.pool, Member: r.member, Up: up, Reason: "added again", At: time.Now()}
	return true
}

func (r *reporter) run() {
	for {
		v, ok := r.next()
		if !ok {
			break
		}
		r.c.sink.SetUp(v)
	}
	r.c.forget(r)
}

// next returns the verdict to tell now, or ends the run.
func (r *reporter) next() (Verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || r.want.Up == r.sent || r.c.ctx.Err() != nil {
		r.running = false
		return Verdict{}, false
	}
	r.sent = r.want.Up
	r.log(r.want)
	return r.want, true
}

func (r *reporter) log(v Verdict) {
	if !r.lines.Allow() {
		r.muted++
		return
	}
	level, text := slog.LevelWarn, "member is down"
	if v.Up {
		level, text = slog.LevelInfo, "member is up"
	}
	r.c.log.Log(r.c.ctx, level, text,
		"pool", v.Pool, "member", v.Member, "reason", v.Reason, "lines_left_out", r.muted)
	r.muted = 0
}
