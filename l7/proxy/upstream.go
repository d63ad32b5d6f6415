package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/pool"
)

// upstream holds the connections to one member: those in use, and those that wait for
// the next request. Idle ones are used in the order in which they were put back, the
// last one first, and not for long: a member that closes one at the moment of its use
// would cost a request.
type upstream struct {
	member *pool.Member
	dialer *net.Dialer

	mu   sync.Mutex
	idle []*line
	open map[*line]struct{}
}

// line is a connection to a member.
type line struct {
	*reader
	sink sink
	up   *upstream
	used bool      // has carried a request before
	rest time.Time // since when it is idle
}

const (
	// restLimit is below what servers usually grant.
	restLimit = 4 * time.Second
	// lineBuffer holds a member's head.
	lineBuffer = 16 << 10
)

// newDialer dials from an address, so that members see it as their client. The port is
// chosen when the connection is made: that leaves as many as there are, per member.
func newDialer(from netip.Addr, timeout time.Duration) *net.Dialer {
	d := &net.Dialer{Timeout: timeout, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		}); e != nil {
			return e
		}
		return err
	}}
	d.SetMultipathTCP(false)
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	return d
}

// take returns an idle connection, or a new one. Whether an idle one is as it was left
// shows at its use.
func (u *upstream) take(ctx context.Context) (*line, error) {
	for {
		l := u.rested()
		if l == nil {
			return u.dial(ctx)
		}
		if time.Since(l.rest) <= restLimit {
			return l, nil
		}
		l.end()
	}
}

func (u *upstream) rested() *line {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.idle)
	if n == 0 {
		return nil
	}
	l := u.idle[n-1]
	u.idle[n-1] = nil
	u.idle = u.idle[:n-1]
	return l
}

// dial makes a connection.
func (u *upstream) dial(ctx context.Context) (*line, error) {
	conn, err := u.dialer.DialContext(ctx, "tcp", u.member.Address.String())
	if err != nil {
		u.member.Counters.Failures.Add(1)
		return nil, err
	}
	tcp := conn.(*net.TCPConn) // "tcp" gives nothing else
	socket, err := newSocket(tcp)
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	l := &line{reader: newReader(tcp, socket, lineBuffer), sink: sink{TCPConn: tcp, to: socket}, up: u}
	u.member.Counters.Connections.Add(1)
	u.member.Counters.Open.Add(1)
	u.mu.Lock()
	u.open[l] = struct{}{}
	u.mu.Unlock()
	return l, nil
}

// quiet tells whether nothing has come since the last answer: no end, and no bytes that
// the next request's answer would begin with.
func (l *line) quiet() bool {
	quiet := false
	err := l.sink.to.raw.Control(func(fd uintptr) {
		_, errno := rawPeek(fd)
		quiet = errno == unix.EAGAIN
	})
	return err == nil && quiet
}

// put gives the connection to the next request.
func (l *line) put() {
	l.used, l.rest = true, time.Now()
	u := l.up
	u.mu.Lock()
	defer u.mu.Unlock()
	u.idle = append(u.idle, l)
}

// end closes the connection.
func (l *line) end() {
	_ = l.conn.Close() // it is of no use, whatever it says
	u := l.up
	u.mu.Lock()
	_, open := u.open[l]
	delete(u.open, l)
	u.mu.Unlock()
	if open {
		u.member.Counters.Open.Add(-1)
	}
}

// abort ends the connection with a reset.
func (l *line) abort() {
	_ = l.conn.SetLinger(0) // then it ends as usual
	l.end()
}

// reap closes the connections that have been idle for too long.
func (u *upstream) reap(now time.Time) {
	var old []*line
	u.mu.Lock()
	n := 0
	for n < len(u.idle) && now.Sub(u.idle[n].rest) > restLimit {
		n++
	}
	old = append(old, u.idle[:n]...)
	u.idle = append(u.idle[:0], u.idle[n:]...)
	u.mu.Unlock()
	for _, l := range old {
		l.end()
	}
}

// abortAll resets what is open.
func (u *upstream) abortAll() {
	u.mu.Lock()
	lines := make([]*line, 0, len(u.open))
	for l := range u.open {
		lines = append(lines, l)
	}
	u.idle = nil
	u.mu.Unlock()
	for _, l := range lines {
		l.abort()
	}
}
