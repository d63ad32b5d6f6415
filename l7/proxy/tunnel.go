package proxy

import (
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"qlbaas/l7/pool"
)

// switched: the member has left HTTP, and the client follows if it asked for that.
func (c *client) switched(l *line, choice pool.Choice) outcome {
	if !c.request.upgrade {
		l.abort()
		return c.fail(http.StatusBadGateway)
	}
	c.response.interim()
	if err := c.tell(c.response.head); err != nil {
		l.abort()
		return ended
	}
	c.tunnel(l, choice)
	l.end()
	return ended
}

// tunnel moves bytes both ways until both sides have ended, one has failed, or nothing
// has moved for the idle time.
func (c *client) tunnel(l *line, choice pool.Choice) {
	var moved atomic.Int64 // when something last moved, in nanoseconds
	moved.Store(time.Now().UnixNano())
	up := passage{from: &c.in, to: &l.sink, idle: c.limits.Idle, count: &choice.Counters.BytesIn}
	down := passage{from: l.reader, to: &c.sink, idle: c.limits.Idle, count: &choice.Counters.BytesOut}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.server.guard(c, func() { up.stream(&moved) })
	}()
	down.stream(&moved)
	<-done
}

// stream moves bytes to the end of one direction, and then ends it for the other side.
// A failure ends both directions.
func (p *passage) stream(moved *atomic.Int64) {
	if ready := p.from.content(); len(ready) > 0 {
		if p.write(ready) != nil {
			p.cut()
			return
		}
		_, _ = p.from.Discard(len(ready)) // cannot fail: it is there
	}
	for {
		n, err := p.slice(math.MaxInt64)
		if n > 0 {
			moved.Store(time.Now().UnixNano())
		}
		quiet := time.Since(time.Unix(0, moved.Load()))
		switch {
		case err == nil:
		case errors.Is(err, io.ErrUnexpectedEOF):
			_ = p.to.CloseWrite() // a failure shows in the other direction
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && errors.Is(err, errSource) && quiet < p.idle:
		default:
			p.cut()
			return
		}
	}
}

// cut ends both connections, the other direction with them.
func (p *passage) cut() {
	_ = p.to.SetLinger(0) // makes the close a reset
	_ = p.to.Close()
	_ = p.from.conn.SetLinger(0)
	_ = p.from.conn.Close()
}
