package proxy

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"qlbaas/l7/pool"
)

// What became of a request at one member.
type outcome int

const (
	served  outcome = iota // the client has its answer, and may send another request
	ended                  // the client's connection is of no further use
	refused                // the member took no connection: another one may serve
	stale                  // an idle connection turned out to be closed
)

// attempts bounds how often a request is given to a member, retryPause is the time
// between two attempts when no other member is left.
const (
	attempts   = 4
	retryPause = time.Second
)

// forward gives the request to a member, and the answer to the client. It tells whether
// the connection goes on.
func (c *client) forward(ctx context.Context) bool {
	q := &c.request
	q.query.Tried = q.query.Tried[:0]
	for range attempts {
		choice, err := c.server.picker.Choose(&q.query)
		if err != nil && len(q.query.Tried) > 0 && pause(ctx, retryPause) {
			// Everybody has refused, but may be about to come back.
			q.query.Tried = q.query.Tried[:0]
			choice, err = c.server.picker.Choose(&q.query)
		}
		if err != nil {
			break
		}
		result := c.try(ctx, choice)
		if result != refused {
			return result == served
		}
		q.query.Tried = append(q.query.Tried, choice.Member)
	}
	c.answer(http.StatusServiceUnavailable)
	return false
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// try sends the request to one member.
func (c *client) try(ctx context.Context, choice pool.Choice) outcome {
	defer choice.Done()
	up := c.server.upstream(choice.Member)
	for first := true; ; first = false {
		connect := up.take
		if c.request.upgrade { // what was not meant to be shared is not
			connect = up.dial
		}
		l, err := connect(ctx)
		if err != nil {
			return refused
		}
		if first {
			choice.Counters.Requests.Add(1)
		}
		if result := c.converse(l, choice); result != stale {
			return result
		}
	}
}

// converse sends the request, and passes the answers on as they come.
func (c *client) converse(l *line, choice pool.Choice) outcome {
	q := &c.request
	sending, err := c.send(l, choice)
	if err != nil {
		return c.broken(l, err)
	}
	for interim := 0; ; interim++ {
		if err := c.response.read(l, c.answerBounds(sending)); err != nil {
			return c.noAnswer(l, err, sending)
		}
		status := c.response.status
		switch {
		case status >= 200:
			return c.deliver(l, choice, sending)
		case status == http.StatusSwitchingProtocols:
			return c.switched(l, choice)
		case interim >= maxInterim:
			return c.noAnswer(l, &refusal{http.StatusBadGateway, "too many 1xx"}, sending)
		case q.minor == 1:
			c.response.interim()
			if err := c.tell(c.response.head); err != nil {
				return c.drop(l, sending)
			}
		}
	}
}

// send sends the request, or has it sent when the answer is read.
func (c *client) send(l *line, choice pool.Choice) (sending *upload, err error) {
	q := &c.request
	if l.used && q.body == 0 && len(q.head) <= askSize {
		l.sink.to.ask(q.head, &choice.Counters.BytesIn)
		return nil, nil
	}
	if l.used && !l.quiet() {
		return nil, errUnasked
	}
	out := passage{from: &c.in, to: &l.sink, idle: c.limits.Idle, least: clientPace, count: &choice.Counters.BytesIn}
	left, err := out.head(q.head, q.body, false)
	if err == nil && (left > 0 || q.body == chunked) {
		sending = c.startUpload(out, left, l)
	}
	return sending, err
}

// maxInterim answers may come before the last one.
const maxInterim = 16

// answerBounds: a member's time begins when it has the whole request.
func (c *client) answerBounds(sending *upload) headBounds {
	bounds := headBounds{first: c.limits.Idle, whole: c.limits.Idle, size: lineBuffer}
	if sending != nil {
		bounds.first = 24 * time.Hour // startUpload sets the real one
	}
	return bounds
}

// broken: the request could not be sent.
func (c *client) broken(l *line, err error) outcome {
	l.end()
	if errors.Is(err, errUnasked) || l.used && c.request.again && c.request.body == 0 {
		return stale
	}
	return c.fail(http.StatusBadGateway)
}

// noAnswer: there is no answer to pass on. That is the member's fault, unless the
// request never became complete.
func (c *client) noAnswer(l *line, err error, sending *upload) outcome {
	l.end()
	if errors.Is(err, errUnasked) {
		return stale // whatever the method is, the member has not seen it
	}
	var refusal *refusal
	switch fault := sending.stop(c); {
	case errors.Is(fault, os.ErrDeadlineExceeded) && errors.Is(fault, errSource):
		return c.fail(http.StatusRequestTimeout)
	case errors.Is(fault, errSource):
		return c.fail(http.StatusBadRequest)
	case errors.As(err, &refusal):
		return c.fail(refusal.status)
	case errors.Is(err, errIdle) || errors.Is(err, errSlow):
		return c.fail(http.StatusGatewayTimeout)
	case l.used && c.request.again && c.request.body == 0 && l.Buffered() == 0:
		return stale
	}
	return c.fail(http.StatusBadGateway)
}

// drop: the client is gone.
func (c *client) drop(l *line, sending *upload) outcome {
	l.abort()
	_ = sending.stop(c) // it has ended one way or the other
	return ended
}

// fail answers for a member.
func (c *client) fail(status int) outcome {
	c.answer(status)
	return ended
}

// deliver passes the last answer on.
func (c *client) deliver(l *line, choice pool.Choice, sending *upload) outcome {
	q, a := &c.request, &c.response
	if c.server.draining.Load() {
		q.keep = false
	}
	if sending != nil && !sending.over() {
		q.keep = q.keep && a.body != 0 // an answer to half a request is mostly its end
	}
	keep := a.passOn(q, c.server.picker, choice, c.settings)
	back := passage{from: l.reader, to: &c.sink, idle: c.limits.Idle, count: &choice.Counters.BytesOut}
	err := back.answer(a, q)
	switch {
	case errors.Is(err, errSink):
		return c.drop(l, sending)
	case err != nil:
		// The client must see that this is not all.
		l.abort()
		_ = sending.stop(c)     // it has ended one way or the other
		_ = c.conn.SetLinger(0) // then it ends as usual
		return ended
	}
	whole := sending.finish(c)
	if whole && a.again && !q.upgrade && q.minor == 1 && l.Buffered() == 0 && (a.body != untilEnd || a.empty(q)) {
		l.put()
	} else {
		l.end()
	}
	if !whole || !keep {
		c.linger()
		return ended
	}
	return served
}

// answer moves head and body of an answer.
func (p *passage) answer(a *response, q *request) error {
	length := a.body
	if a.empty(q) {
		length = 0
	}
	left, err := p.head(a.head, length, true)
	switch {
	case err != nil:
		return err
	case left > 0:
		return p.known(left)
	case length == chunked:
		return p.chunks(q.minor == 1)
	case length == untilEnd:
		return p.untilEnd()
	}
	return nil
}
