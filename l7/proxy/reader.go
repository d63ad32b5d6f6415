package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// reader reads one side of a connection: heads of messages whole, bodies as they come.
type reader struct {
	*bufio.Reader
	conn *net.TCPConn
	from *socket // conn
	// by is the read deadline that is set.
	by time.Time
}

// smallBuffer holds nearly every head. Connections that send a longer one get a buffer
// of the limit's size.
const smallBuffer = 4096

func newReader(conn *net.TCPConn, from *socket, size int) *reader {
	return &reader{Reader: bufio.NewReaderSize(from, size), conn: conn, from: from}
}

// slack is how much later than asked a deadline may be: renewing one for every request
// would cost more than it gives.
const slack = time.Second

// until bounds what is read from now on. It may be late by slack, never early.
func (r *reader) until(limit time.Duration) {
	want := time.Now().Add(limit)
	if late := r.by.Sub(want); late >= 0 && late <= slack {
		return
	}
	r.by = want.Add(slack)
	_ = r.conn.SetReadDeadline(r.by) // a closed connection says so when it is read
}

// gather waits a moment for n bytes.
func (r *reader) gather(n int, moment time.Duration) {
	_ = r.conn.SetReadDeadline(time.Now().Add(moment)) // as above
	_, _ = r.Peek(n)                                   // what has come has come; errors come again
	r.by = time.Time{}
}

// sink is what one side of a connection is written to.
type sink struct {
	*net.TCPConn
	to *socket
	by time.Time // the write deadline that is set
}

func (s *sink) Write(b []byte) (int, error) { return s.to.Write(b) }

// until bounds what is written from now on, as a reader's.
func (s *sink) until(limit time.Duration) {
	want := time.Now().Add(limit)
	if late := s.by.Sub(want); late >= 0 && late <= slack {
		return
	}
	s.by = want.Add(slack)
	_ = s.SetWriteDeadline(s.by) // a closed connection says so when it is written
}

// content is what is in the buffer.
func (r *reader) content() []byte {
	b, _ := r.Peek(r.Buffered()) // cannot fail: it is there
	return b
}

// What can be wrong with the beginning of a message.
var (
	// errIdle: nothing came in time. errSlow: it began in time, and did not end.
	errIdle = errors.New("no message in time")
	errSlow = errors.New("head not complete in time")
	// errTooLarge: the head exceeds the limit.
	errTooLarge = errors.New("head too large")
	// errBareEnd: the head ends in a line without CR, which the parser does not
	// take, and others would.
	errBareEnd = errors.New("head ends without CR")
)

// headBounds limit how a head may come.
type headBounds struct {
	first time.Duration // until the first byte
	whole time.Duration // from there to the end
	size  int           // in bytes
}

// awaitHead waits until a whole head is in the buffer, and returns its length. That is
// all it knows of heads: whether it is one, and what it says, is the parser's business,
// and the parser must agree about the length.
func (r *reader) awaitHead(b headBounds) (int, error) {
	if r.Buffered() == 0 {
		r.until(b.first)
		if _, err := r.Peek(1); err != nil {
			return 0, timed(err, errIdle)
		}
	}
	for searched, slow := 0, false; ; {
		content := r.content()
		if end, bare := headEnd(content, searched); bare {
			return 0, errBareEnd
		} else if end > 0 {
			return end, nil
		}
		searched = len(content)
		if searched >= b.size {
			return 0, errTooLarge
		}
		if searched >= r.Size() {
			r.grow(b.size)
		}
		if !slow {
			slow = true
			r.by = time.Time{}
			r.until(b.whole)
		}
		if _, err := r.Peek(searched + 1); err != nil {
			return 0, timed(err, errSlow)
		}
	}
}

// headEnd finds the empty line that ends a head, from a place on up to which there was
// none; 0 means not yet. A line that ends the head, or the one before it, without CR
// is bare.
func headEnd(b []byte, from int) (end int, bare bool) {
	for at := max(from-3, 0); ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0, false
		}
		at += i + 1
		switch {
		case at < len(b) && b[at] == '\n':
			return 0, true
		case at+1 < len(b) && b[at] == '\r' && b[at+1] == '\n':
			return at + 2, at < 2 || b[at-2] != '\r'
		}
	}
}

// skipEmptyLines drops line ends before a request line, which some clients leave
// behind a body.
func (r *reader) skipEmptyLines() {
	for range 2 {
		if b := r.content(); len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
			_, _ = r.Discard(2) // cannot fail: it is there
		}
	}
}

// grow gives the reader a buffer of that size, with what was in the old one.
func (r *reader) grow(size int) {
	old := r.Reader
	n := old.Buffered()
	r.Reader = bufio.NewReaderSize(io.MultiReader(io.LimitReader(old, int64(n)), r.from), size)
	_, _ = r.Peek(n) // cannot fail: it comes from the old buffer
}

// timed replaces a passed deadline by its meaning.
func timed(err, meaning error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return meaning
	}
	return err
}
