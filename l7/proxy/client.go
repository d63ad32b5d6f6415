package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"qlbaas/l7/pool"
)

// client is a connection of a client, and what its requests need one after the other.
type client struct {
	server *Server
	conn   *net.TCPConn
	in     reader
	sink   sink
	source netip.Addr
	// forwarded is source as X-Forwarded-For has it.
	forwarded []byte
	// pending tells that no request has been complete yet, see sources.go.
	pending *waiting
	// resting tells that nothing of a request has come.
	resting atomic.Bool

	// limits and settings hold for one request.
	limits   *Limits
	settings pool.Settings
	request  request
	response response
}

func newClient(s *Server, conn *net.TCPConn) (*client, error) {
	socket, err := newSocket(conn)
	if err != nil {
		return nil, err
	}
	source := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	c := &client{server: s, conn: conn, sink: sink{TCPConn: conn, to: socket}, source: source}
	c.in = *newReader(conn, socket, smallBuffer)
	c.forwarded = source.WithZone("").AppendTo(nil)
	c.request.header.DisableNormalizing()
	c.request.query.Client = source
	c.response.header.DisableNormalizing()
	c.response.header.SetNoDefaultContentType(true)
	return c, nil
}

// serve answers requests until the connection ends.
func (c *client) serve(ctx context.Context) {
	defer c.conn.Close()
	defer c.server.sources.leave(c.pending)
	for first := true; c.next(first) && c.forward(ctx); first = false {
	}
}

// next reads a request. It tells whether there is one; what was wrong otherwise, if
// anything, the client knows.
func (c *client) next(first bool) bool {
	c.limits = c.server.limits.Load()
	err := c.receive()
	c.server.sources.leave(c.pending)
	c.pending = nil
	var refusal *refusal
	switch {
	case err == nil:
		c.server.count.Requests.Add(1)
		return true
	case errors.As(err, &refusal):
		return c.answer(refusal.status)
	case errors.Is(err, errTooLarge):
		return c.answer(http.StatusRequestHeaderFieldsTooLarge)
	case errors.Is(err, errBareEnd):
		return c.answer(http.StatusBadRequest)
	case errors.Is(err, errSlow), errors.Is(err, errIdle) && first:
		return c.answer(http.StatusRequestTimeout)
	}
	return false
}

func (c *client) receive() error {
	bounds := headBounds{first: c.limits.Idle, whole: c.limits.Head, size: c.limits.HeadBytes}
	if c.in.Buffered() == 0 {
		c.in.until(bounds.first)
		c.resting.Store(true)
		if c.server.ending.Load() {
			return net.ErrClosed
		}
		_, err := c.in.Peek(1)
		c.resting.Store(false)
		if err != nil {
			return timed(err, errIdle)
		}
	}
	c.in.skipEmptyLines()
	size, err := c.in.awaitHead(bounds)
	if err != nil {
		return err
	}
	if err := c.request.parse(&c.in, size); err != nil {
		return err
	}
	c.settings = c.server.picker.Settings()
	return c.request.passOn(c.settings, c.forwarded, c.limits.HeadLines)
}

// answer sends a page of the proxy's own, after which the connection is of no use. It
// returns false, for those who would go on.
func (c *client) answer(status int) bool {
	c.server.count.answered(status)
	if c.tell(pages[status]) == nil {
		c.linger()
	}
	return false
}

// tell writes to the client.
func (c *client) tell(b []byte) error {
	c.sink.until(2 * c.limits.Idle)
	_, err := c.sink.Write(b)
	return err
}

// lingerTime and lingerBytes bound how long a client may go on after its last answer.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// linger ends the connection in a way that lets the client read its answer: closing
// one that has bytes unread would reset it.
func (c *client) linger() {
	if c.conn.CloseWrite() != nil || c.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	var waste [4096]byte
	for left := lingerBytes; left > 0; {
		n, err := c.conn.Read(waste[:])
		if err != nil {
			return
		}
		left -= n
	}
}
