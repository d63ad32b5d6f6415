package proxy

import (
	"errors"
	"time"
)

// upload is a request's body on its way to the member, while the answer may already
// come: a goroutine of its own.
type upload struct {
	line *line
	done chan struct{}
	err  error // valid when done is closed
}

// startUpload moves what is left of a body. When it ends well the member's time to
// answer begins; when the client fails the member's connection is reset, so that half a
// request is never taken for a whole one.
func (c *client) startUpload(p passage, left int64, l *line) *upload {
	u := &upload{line: l, done: make(chan struct{})}
	go func() {
		u.err = errors.Join(errSource, errFault) // unless it comes to an end
		c.server.guard(c, func() {
			if left > 0 {
				u.err = p.known(left)
			} else {
				u.err = p.chunks(true)
			}
		})
		close(u.done) // whoever notices what follows finds the reason
		switch {
		case u.err == nil:
			_ = l.conn.SetReadDeadline(time.Now().Add(p.idle)) // a closed connection says so elsewhere
		case errors.Is(u.err, errSource):
			_ = l.conn.SetLinger(0) // makes the close a reset
			_ = l.conn.Close()
		}
	}()
	return u
}

// over tells whether the whole body was sent.
func (u *upload) over() bool {
	select {
	case <-u.done:
		return u.err == nil
	default:
		return false
	}
}

// grace is how long the end of a body may take behind the answer's.
const grace = time.Second

// finish waits a moment for the body's end, and tells whether it came. Requests without
// one are whole.
func (u *upload) finish(c *client) bool {
	if u == nil {
		return true
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
		_ = u.stop(c) // it was too late
		return false
	}
	return u.err == nil
}

// stop ends the upload, and returns why it had ended before; nil means that it had not,
// or that all was sent. Afterwards the client's reader is free.
func (u *upload) stop(c *client) error {
	if u == nil {
		return nil
	}
	select {
	case <-u.done:
		return u.err
	default:
	}
	// It waits for one of the two. A closed connection ends it as well.
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	_ = u.line.conn.Close()
	<-u.done
	c.in.by = time.Time{}
	return nil
}
