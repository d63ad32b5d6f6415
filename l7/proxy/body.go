package proxy

import (
	"errors"
	"io"
	"math"
	"net/http/httputil"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// passage is one direction of one message, body and end.
type passage struct {
	from *reader
	to   *sink
	// idle bounds how long either side may stand still.
	idle time.Duration
	// least is how many bytes must come in each such time; 0 asks for none.
	least int64
	// count is raised by what was written, as it is.
	count *atomic.Uint64
}

const (
	// spliced bodies are moved inside the kernel, a slice at a time: the bounds on
	// time are per slice. Below it, copying costs less.
	sliceSize  = 256 << 10
	spliceFrom = 16 << 10
	copySize   = 16 << 10
	// clientPace is what a client that sends a body must achieve in each idle time.
	clientPace = 512
	// moment is how long the beginning of an answer waits for its body.
	moment = 5 * time.Millisecond
)

var (
	// errSource and errSink tell which side is to blame.
	errSource = errors.New("sender")
	errSink   = errors.New("receiver")
)

// head writes the head and as much of a body of known length as is in the buffer, in
// one piece; it returns how much of the body is still to come. A small body that follows
// its head at once is worth a moment: one segment is cheaper than two, for everybody.
func (p *passage) head(head []byte, length int64, wait bool) (left int64, err error) {
	if wait && length > int64(p.from.Buffered()) && length <= spliceFrom/2 {
		p.from.gather(int(length), moment)
	}
	n := min(int64(p.from.Buffered()), max(length, 0))
	if n > 0 {
		head = append(head, p.from.content()[:n]...)
	}
	if err := p.write(head); err != nil {
		return 0, err
	}
	_, _ = p.from.Discard(int(n)) // cannot fail: it is there
	return max(length, 0) - n, nil
}

func (p *passage) write(b []byte) error {
	p.to.until(2 * p.idle)
	n, err := p.to.Write(b)
	p.count.Add(uint64(n))
	if err != nil {
		return errors.Join(errSink, err)
	}
	return nil
}

// known moves a body of known length.
func (p *passage) known(left int64) error {
	if n := min(int64(p.from.Buffered()), left); n > 0 {
		if err := p.write(p.from.content()[:n]); err != nil {
			return err
		}
		_, _ = p.from.Discard(int(n)) // cannot fail: it is there
		left -= n
	}
	for left > spliceFrom {
		n, err := p.slice(left)
		left -= n
		if err != nil {
			return err
		}
	}
	return p.small(left)
}

// small moves what is left of a body through the buffer.
func (p *passage) small(left int64) error {
	pace := p.pace()
	for left > 0 {
		p.from.until(p.idle)
		if _, err := p.from.Peek(1); err != nil {
			return errors.Join(errSource, unexpected(err))
		}
		n := min(left, int64(p.from.Buffered()))
		if err := p.write(p.from.content()[:n]); err != nil {
			return err
		}
		_, _ = p.from.Discard(int(n)) // cannot fail: it is there
		left -= n
		if left > 0 && !pace.kept(n) {
			return errors.Join(errSource, os.ErrDeadlineExceeded)
		}
	}
	return nil
}

// slice moves a slice, or up to size bytes, inside the kernel. It gives up when a side stands still:
// the receiver has twice the time. A sender that was slow and kept its pace may go on.
func (p *passage) slice(size int64) (moved int64, err error) {
	_ = p.from.conn.SetReadDeadline(time.Now().Add(p.idle)) // a closed connection says so below
	p.from.by = time.Time{}
	for moved < min(size, sliceSize) {
		n, err := p.some(size - moved)
		moved += n
		switch {
		case err == nil:
		case errors.Is(err, errSource) && errors.Is(err, os.ErrDeadlineExceeded) && moved > 0 && moved >= p.least:
			return moved, nil
		default:
			return moved, err
		}
	}
	return moved, nil
}

// some moves what is there, or comes next.
func (p *passage) some(size int64) (moved int64, err error) {
	var n int
	filled, came, errIn := p.from.from.spliceIn(int(min(size, pipeSize)))
	var errOut error
	if errors.Is(errIn, errNoPipe) {
		p.to.until(2 * p.idle)
		n, errIn, errOut = copyAcross(p.from.from, p.to.to, int(size))
	} else if errIn == nil {
		p.to.until(2 * p.idle)
		n, errOut = p.to.to.spliceOut(filled, came)
	}
	p.count.Add(uint64(n))
	switch {
	case errIn != nil:
		return int64(n), errors.Join(errSource, unexpected(errIn))
	case errOut != nil:
		return int64(n), errors.Join(errSink, errOut)
	}
	return int64(n), nil
}

// chunks moves a chunked body, and its trailers. again tells whether it goes on as
// chunks; a client of HTTP/1.0 gets the plain bytes.
func (p *passage) chunks(again bool) error {
	const room = 18 // for a length in hexadecimal
	buffer := make([]byte, room+copySize+2)
	data := buffer[room : room+copySize]
	pace := p.pace()
	for body := httputil.NewChunkedReader(p.from.Reader); ; {
		p.from.until(p.idle)
		n, err := body.Read(data)
		if n > 0 {
			piece := data[:n]
			if again {
				piece = chunk(buffer, room, n)
			}
			if err := p.write(piece); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return p.trailers(again)
		}
		if err != nil {
			return errors.Join(errSource, err)
		}
		if !pace.kept(int64(n)) {
			return errors.Join(errSource, os.ErrDeadlineExceeded)
		}
	}
}

// chunk puts the length before n bytes at room, and the line's end behind them.
func chunk(buffer []byte, room, n int) []byte {
	var digits [16]byte
	text := strconv.AppendInt(digits[:0], int64(n), 16)
	start := room - len(text) - 2
	copy(buffer[start:], text)
	copy(buffer[room-2:], "\r\n")
	copy(buffer[room+n:], "\r\n")
	return buffer[start : room+n+2]
}

// trailers moves what follows the last chunk. Lines that would change what the head
// said are the parser's errors.
func (p *passage) trailers(again bool) error {
	var lines fasthttp.ResponseHeader
	lines.SetNoDefaultContentType(true)
	lines.DisableNormalizing()
	if err := lines.ReadTrailer(p.from.Reader); err != nil {
		return errors.Join(errSource, unexpected(err))
	}
	if !again {
		return nil
	}
	end := []byte("0\r\n")
	for name, value := range lines.All() {
		end = appendLine(end, name, value)
	}
	return p.write(append(end, "\r\n"...))
}

// untilEnd moves whatever comes until the sender ends.
func (p *passage) untilEnd() error {
	if ready := p.from.content(); len(ready) > 0 {
		if err := p.write(ready); err != nil {
			return err
		}
		_, _ = p.from.Discard(len(ready)) // cannot fail: it is there
	}
	for {
		_, err := p.slice(math.MaxInt64)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// unexpected is what an end in the middle of a message is.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pace holds a sender to a number of bytes in each window of time.
type pace struct {
	least, came int64
	window      time.Duration
	start       time.Time
}

func (p *passage) pace() pace { return pace{least: p.least, window: p.idle, start: time.Now()} }

func (p *pace) kept(n int64) bool {
	if p.least == 0 {
		return true
	}
	p.came += n
	if time.Since(p.start) < p.window {
		return true
	}
	kept := p.came >= p.least
	p.start, p.came = time.Now(), 0
	return kept
}
