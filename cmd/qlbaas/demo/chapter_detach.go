package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
)

// healBound is how soon the agent has mended what somebody else has broken: it looks
// every 2 s, and then needs a moment.
const healBound = 3 * time.Second

// silence is how long a request waits for nobody.
const silence = time.Second

// detach shows that the program in the kernel carries the traffic, and not the agent.
func (d *demo) detach(ctx context.Context) error {
	h, err := d.hold(ctx, "WEB1")
	if err != nil {
		return err
	}
	defer h.Close()
	d.say("The agent stops.")
	if err := d.stopAgent(ctx); err != nil {
		return err
	}
	if err := d.mustAlternate(ctx); err != nil {
		return err
	}
	d.saw("traffic does not need the agent")

	d.say("The program is detached, while nobody is there to mend it.")
	if err := d.detachAll(); err != nil {
		return err
	}
	a := ask(ctx, d.client(), silence)
	if !isSilent(a.err) {
		return fmt.Errorf("a request without the program: answer %q, error %w; want silence", a.who, orNone(a.err))
	}
	d.saw("silence: no answer within %s, and no RST that would end what is open", silence)

	d.say("The agent starts again and mends it.")
	d.tellAgent()
	began := time.Now()
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	if err := d.mustHeal(ctx, began); err != nil {
		return err
	}
	if err := h.mustBe(ctx, "WEB1"); err != nil {
		return err
	}
	d.saw("the open connection goes on: WEB1 answers on it")

	d.say("The program is detached under a running agent.")
	began = time.Now()
	if err := d.detachAll(); err != nil {
		return err
	}
	if err := d.mustHeal(ctx, began); err != nil {
		return err
	}
	if err := h.mustBe(ctx, "WEB1"); err != nil {
		return err
	}
	return d.mustAlternate(ctx)
}

// detachAll takes the pool's programs off their hooks.
func (d *demo) detachAll() error {
	links, err := d.pins("links")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range links {
		path := filepath.Join(d.pinDir("links"), name)
		d.typed("bpftool", "link", "detach", "pinned", path)
		if err := lab.DetachPin(path); err != nil {
			return err
		}
	}
	return d.eachFilter(func(f netlink.Filter) error {
		d.typed("ip", "netns", "exec", poolNamespace(d.poolID), "tc", "filter", "del", "dev", d.insideDevice(), "ingress",
			"prio", fmt.Sprint(f.Attrs().Priority))
		if err := netlink.FilterDel(f); err != nil {
			return fmt.Errorf("delete filter: %w", err)
		}
		return nil
	})
}

// mustHeal asks until somebody answers, and fails after healBound.
func (d *demo) mustHeal(ctx context.Context, began time.Time) error {
	for {
		a := ask(ctx, d.client(), impatience)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case since(began) > healBound:
			return fmt.Errorf("after %s the last answer is %q (%w), bound %s", since(began), a.who, orNone(a.err), healBound)
		case a.err == nil:
			d.saw("%s after that %s answers", since(began), a.who)
			return nil
		case !isSilent(a.err):
			return fmt.Errorf("while the agent mends: %w; want silence", a.err)
		}
	}
}
