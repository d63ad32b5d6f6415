package proxy

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipe is where bytes wait between two sockets, without being copied.
type pipe struct{ in, out int }

// pipeSize is a slice of a body. The kernel grants a user 64 MiB in pipes and makes
// them small from there on, so larger ones would soon be smaller.
const pipeSize = sliceSize

// pipes are those that nobody uses. Nobody holds one while there is nothing in it: idle
// tunnels have none.
type pipes struct {
	mu   sync.Mutex
	free []pipe
}

// freePipes is for all servers of the process, as descriptors are.
var freePipes pipes

// keptPipes are kept for the next use.
const keptPipes = 64

func (p *pipes) take() (pipe, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		taken := p.free[n-1]
		p.free = p.free[:n-1]
		return taken, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return pipe{}, err
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // a small one does as well
	return pipe{out: fds[0], in: fds[1]}, nil
}

// put takes an empty pipe back.
func (p *pipes) put(empty pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) >= keptPipes {
		empty.close()
		return
	}
	p.free = append(p.free, empty)
}

func (p pipe) close() {
	_ = unix.Close(p.in) // nothing can be done about it
	_ = unix.Close(p.out)
}

// errNoPipe: there is no descriptor left.
var errNoPipe = errors.New("no pipe")

// spliceIn waits for bytes and moves up to size of them into a pipe, which is the
// caller's then. io.EOF is the end.
func (s *socket) spliceIn(size int) (filled pipe, n int, err error) {
	var errno syscall.Errno
	noPipe := false
	err = s.raw.Read(func(fd uintptr) bool {
		if filled, err = freePipes.take(); err != nil {
			noPipe = true
			return true
		}
		n, errno = rawSplice(fd, uintptr(filled.in), size)
		if n > 0 {
			return true
		}
		freePipes.put(filled)
		return errno != unix.EAGAIN
	})
	switch {
	case noPipe:
		return pipe{}, 0, errNoPipe
	case err != nil:
		return pipe{}, 0, err
	case errno != 0:
		return pipe{}, 0, errno
	case n == 0:
		return pipe{}, 0, io.EOF
	}
	return filled, n, nil
}

// spliceOut moves the n bytes of a pipe out, and takes the pipe.
func (s *socket) spliceOut(from pipe, n int) (moved int, err error) {
	var errno syscall.Errno
	err = s.raw.Write(func(fd uintptr) bool {
		for moved < n {
			var now int
			if now, errno = rawSplice(uintptr(from.out), fd, n-moved); errno != 0 {
				return errno != unix.EAGAIN
			}
			moved += now
		}
		return true
	})
	if moved < n {
		from.close() // it is not empty
		if err == nil {
			err = errno
		}
		return moved, err
	}
	freePipes.put(from)
	return moved, nil
}

// copyAcross does without a pipe.
func copyAcross(from, to *socket, size int) (n int, errIn, errOut error) {
	buffer := make([]byte, min(size, copySize))
	if n, errIn = from.Read(buffer); errIn != nil {
		return 0, errIn, nil
	}
	n, errOut = to.Write(buffer[:n])
	return n, nil, errOut
}
