package demo

import (
	"context"
	"fmt"
	"time"
)

// The times that are promised; see the README. A port that refuses is noticed by the
// probe that meets it, one that hangs when the probe's time is over. Coming back
// takes two probes that pass, and the one before them may still hang.
const (
	downRefused = (delaySec*maxRetries + 1) * time.Second
	downHanging = ((delaySec+timeoutSec)*maxRetries + 1) * time.Second
	backUp      = (2*(delaySec+timeoutSec) + 1) * time.Second
)

// impatience is how long a client waits for a member that may hang.
const impatience = 500 * time.Millisecond

// troubleMember stops WEB1's server in two ways and starts it again.
func (d *demo) troubleMember(ctx context.Context) error {
	web := d.webs["WEB1"]
	h, err := d.hold(ctx, "WEB1")
	if err != nil {
		return err
	}
	defer h.Close()
	d.say("A connection to WEB1 is open and stays so.")

	d.say("WEB1's server stops: its port is closed, what is open goes on.")
	d.typed("kill", "-USR1", fmt.Sprint(web.process.Pid()))
	began := time.Now()
	if err := web.refuse(ctx); err != nil {
		return err
	}
	if err := d.mustMove(ctx, began, downRefused); err != nil {
		return err
	}
	if err := h.mustBe(ctx, "WEB1"); err != nil {
		return err
	}
	d.saw("the open connection was left alone: WEB1 answers on it")
	d.typed("kill", "-USR2", fmt.Sprint(web.process.Pid()))
	began = time.Now()
	if err := web.answer(ctx); err != nil {
		return err
	}
	if err := d.mustReturn(ctx, began); err != nil {
		return err
	}

	d.say("WEB1's server hangs: connections are accepted, nobody answers.")
	d.typed("kill", "-STOP", fmt.Sprint(web.process.Pid()))
	began = time.Now()
	if err := web.hang(ctx); err != nil {
		return err
	}
	if err := d.mustMove(ctx, began, downHanging); err != nil {
		return err
	}
	d.typed("kill", "-CONT", fmt.Sprint(web.process.Pid()))
	began = time.Now()
	if err := web.wake(); err != nil {
		return err
	}
	if err := d.mustReturn(ctx, began); err != nil {
		return err
	}
	if err := h.mustBe(ctx, "WEB1"); err != nil {
		return err
	}
	d.saw("the open connection is still the same, and WEB1 answers on it")
	return nil
}

// steady is how many answers in a row show that all traffic has moved. As long as a
// member has its turns, every second request would meet it.
const steady = 20

// mustMove asks until WEB2 alone answers, and fails when the last request that did
// not reach it began later than bound after began.
func (d *demo) mustMove(ctx context.Context, began time.Time, bound time.Duration) error {
	var failed, asked, row int
	moved := began
	for row < steady {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
		a := ask(ctx, d.client(), impatience)
		asked++
		if a.err == nil && a.who == "WEB2" {
			row++
			continue
		}
		row, moved = 0, a.began
		if a.err != nil {
			failed++
		}
		if late := moved.Sub(began); late > bound {
			return fmt.Errorf("after %s a request still ends with %q (%w), bound %s", late.Round(time.Millisecond), a.who, orNone(a.err), bound)
		}
	}
	if err := d.memberStatus(ctx, "WEB1", "INACTIVE"); err != nil {
		return err
	}
	d.saw("after %s all traffic goes to WEB2 (promised: %s); WEB1 is INACTIVE", moved.Sub(began).Round(time.Millisecond), bound)
	d.saw("until then %d of %d requests failed", failed, asked-steady)
	return nil
}

// mustReturn asks until WEB1 answers again, and fails when that takes longer than
// backUp or any request fails meanwhile.
func (d *demo) mustReturn(ctx context.Context, began time.Time) error {
	for {
		a := ask(ctx, d.client(), patience)
		if a.err != nil {
			return fmt.Errorf("while WEB1 comes back: %w", a.err)
		}
		if a.who == "WEB1" {
			break
		}
		if time.Since(began) > backUp {
			return fmt.Errorf("after %s WEB1 has no traffic yet, bound %s", since(began), backUp)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	d.saw("after %s WEB1 is back", since(began))
	if err := d.memberStatus(ctx, "WEB1", "ACTIVE"); err != nil {
		return err
	}
	return d.mustAlternate(ctx)
}

func orNone(err error) error {
	if err == nil {
		return fmt.Errorf("no error")
	}
	return err
}
