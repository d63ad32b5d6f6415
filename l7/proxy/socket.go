package proxy

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket reads and writes a connection without telling the scheduler. The runtime
// brackets every system call, because it could block: a thread that the kernel preempts
// inside one has its work taken over by another thread, which then has to be woken, and
// on a busy machine that happens all the time. Reading or writing a socket that is not
// ready returns at once, so there is nothing to take over. Waiting is the runtime's.
type socket struct {
	raw syscall.RawConn

	// question is written by the next Read before it waits: see ask.
	question []byte
	asked    *atomic.Uint64 // is raised by its length

	in, out   []byte
	inN, outN int
	inErr     syscall.Errno
	outErr    syscall.Errno
	read      func(fd uintptr) bool
	write     func(fd uintptr) bool
}

func newSocket(conn *net.TCPConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{raw: raw}
	s.read, s.write = s.readReady, s.writeReady // once, and not at every call
	return s, nil
}

// errUnasked: there is no answer because there was no question, or not all of it. What
// had come before it, if anything, was an end or nobody's answer.
var errUnasked = errors.New("question could not be sent")

// ask makes the next Read send a question and wait for its answer. Compared with Write
// and Read that saves looking for an answer that cannot be there yet. Nothing may be
// there before the question, and it must go out at once: otherwise Read returns
// errUnasked.
func (s *socket) ask(question []byte, count *atomic.Uint64) { s.question, s.asked = question, count }

// askSize fits into any socket's buffer that is empty.
const askSize = 4096

// Read is io.Reader's. One reader at a time.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in = p
	err := s.raw.Read(s.read)
	s.in, s.question = nil, nil
	switch {
	case err != nil:
		return 0, err
	case s.inErr == unasked:
		return 0, errUnasked
	case s.inErr != 0:
		return 0, s.inErr
	case s.inN == 0:
		return 0, io.EOF
	}
	return s.inN, nil
}

// unasked stands for errUnasked; no system call returns it.
const unasked = syscall.Errno(1 << 20)

func (s *socket) readReady(fd uintptr) bool {
	if q := s.question; q != nil {
		s.question = nil
		s.inErr = unasked
		if _, errno := rawPeek(fd); errno != unix.EAGAIN {
			return true
		}
		n, _ := rawIO(unix.SYS_WRITE, fd, q)
		s.asked.Add(uint64(n))
		return n < len(q)
	}
	for {
		s.inN, s.inErr = rawIO(unix.SYS_READ, fd, s.in)
		if s.inErr != unix.EINTR {
			return s.inErr != unix.EAGAIN
		}
	}
}

// Write is io.Writer's. One writer at a time.
func (s *socket) Write(p []byte) (int, error) {
	s.out, s.outN, s.outErr = p, 0, 0
	err := s.raw.Write(s.write)
	s.out = nil
	if err == nil && s.outErr != 0 {
		err = s.outErr
	}
	return s.outN, err
}

func (s *socket) writeReady(fd uintptr) bool {
	for s.outN < len(s.out) {
		n, errno := rawIO(unix.SYS_WRITE, fd, s.out[s.outN:])
		switch errno {
		case 0:
			s.outN += n
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.outErr = errno
			return true
		}
	}
	return true
}
