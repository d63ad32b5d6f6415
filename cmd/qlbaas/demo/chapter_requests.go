package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// isRefused tells whether a connection was answered by a RST.
func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// isSilent tells whether nobody answered in time, by the context's clock or the
// socket's, whichever was first.
func isSilent(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (d *demo) askPersistent(ctx context.Context) error {
	const n = 10
	for _, from := range []*lab.Host{d.net.Client, d.net.Router} {
		d.typed("qlbaas", "demo", "get", "--from", from.Name(), "-n", fmt.Sprint(n), vipURL)
		who, err := askTimes(ctx, from, n)
		d.completed += len(who)
		if err != nil {
			return err
		}
		one, err := onlyOne(who)
		if err != nil {
			return err
		}
		d.saw("%d requests, all answered by %s", n, one)
	}
	return nil
}

func (d *demo) askInTurn(ctx context.Context) error {
	if err := d.change(ctx, "vip", "update", vipName, "--session-persistence", "action=clear"); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	const n = 100
	d.typed("qlbaas", "demo", "get", "-n", fmt.Sprint(n), vipURL)
	who, err := askTimes(ctx, d.client(), n)
	d.completed += len(who)
	if err != nil {
		return err
	}
	d.saw("%s …", strings.Join(who[:8], " "))
	if err := alternate(who, "WEB1", "WEB2"); err != nil {
		return err
	}
	d.saw("%s, strictly in turn", tally(who))
	return nil
}

// mustAlternate sees that both members serve in turn again.
func (d *demo) mustAlternate(ctx context.Context) error {
	who, err := askTimes(ctx, d.client(), 20)
	if err != nil {
		return err
	}
	if err := alternate(who, "WEB1", "WEB2"); err != nil {
		return err
	}
	d.saw("20 requests: %s, strictly in turn", tally(who))
	return nil
}
