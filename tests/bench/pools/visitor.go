package pools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"qlbaas/tests/lab"
)

// visitor is a client that cannot wait.
type visitor struct{ host *lab.Host }

const (
	// often is how often it tries where time is taken, and seldom where it is not: an answer
	// may come that much too late.
	often  = 4 * time.Millisecond
	seldom = 40 * time.Millisecond
	// tryFor is the end of one attempt. A first SYN that is lost comes again after a
	// second; a later attempt is faster.
	tryFor = 300 * time.Millisecond
	// patience is the end of all attempts.
	patience = 20 * time.Second
)

// await requests something again and again, without waiting for one attempt before the
// next, and returns when the first answer was there.
func (v *visitor) await(ctx context.Context, at netip.AddrPort, every time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := v.host.HTTPClient(lab.HTTPOptions{})
	answers, last := make(chan time.Time, 1), make(chan error, 1)
	knock := func() {
		if err := ask(ctx, client, at); err != nil {
			select {
			case last <- err:
			default:
			}
			return
		}
		select {
		case answers <- time.Now():
		default: // another one was faster
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		go knock()
		select {
		case when := <-answers:
			return when, nil
		case <-ctx.Done():
			select {
			case err := <-last:
				return time.Time{}, fmt.Errorf("await %s: %w", at, err)
			default:
				return time.Time{}, fmt.Errorf("await %s: %w", at, ctx.Err())
			}
		case <-tick.C:
		}
	}
}

// ask is one attempt.
func ask(ctx context.Context, client *http.Client, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+"/", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err = errors.Join(err, res.Body.Close()); err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the answer is %s", res.Status)
	}
	return err
}
