package throng

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// Churn is connections that come and go as fast as one thread makes them, each ended in
// another way: at once or after a word, by FIN or by RST, some only when many others
// have come since.
type Churn struct {
	stop  atomic.Bool
	ended chan struct{}
	// valid once ended
	churned Churned
	err     error
}

// Churned is what came of it.
type Churned struct {
	// Made connections, and those that were refused by a RST or not answered in time.
	Made, Refused, TimedOut int
}

// keep is how many connections stay behind.
const keep = 64

// StartChurn begins to connect from the host's addresses, in turn, until Stop.
func StartChurn(h *lab.Host, locals []netip.Addr, target netip.AddrPort, seed uint64) *Churn {
	c := &Churn{ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = h.Do(func() error { return c.run(locals, target, rand.New(rand.NewPCG(seed, 0))) })
	}()
	return c
}

// Stop ends all connections and returns what came of them.
func (c *Churn) Stop() (Churned, error) {
	c.stop.Store(true)
	<-c.ended
	return c.churned, c.err
}

func (c *Churn) run(locals []netip.Addr, target netip.AddrPort, r *rand.Rand) error {
	to := &unix.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())}
	var kept []int
	defer func() {
		for _, fd := range kept {
			_ = unix.Close(fd) // it has had its time
		}
	}()
	for n := 0; !c.stop.Load(); n++ {
		fd, err := c.connect(locals[n%len(locals)], to)
		if err != nil {
			return err
		}
		if fd < 0 {
			continue
		}
		if r.IntN(4) > 0 {
			end(fd, r)
			continue
		}
		if kept = append(kept, fd); len(kept) > keep {
			i := r.IntN(len(kept))
			end(kept[i], r)
			kept[i] = kept[len(kept)-1]
			kept = kept[:len(kept)-1]
		}
	}
	return nil
}

// connect returns a connection, or -1 if it was not to be had.
func (c *Churn) connect(local netip.Addr, to unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	short := unix.Timeval{Sec: 2}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &short),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &short),
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}),
	)
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	switch err = unix.Connect(fd, to); {
	case err == nil:
		c.churned.Made++
		return fd, nil
	case errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET):
		c.churned.Refused++
		err = nil
	case errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.ETIMEDOUT):
		c.churned.TimedOut++
		err = nil
	}
	return -1, errors.Join(err, unix.Close(fd))
}

// end ends a connection in one of several ways. What goes wrong on the way is part of it:
// the server has ways of its own.
func end(fd int, r *rand.Rand) {
	word := []byte{'x'}
	switch r.IntN(6) {
	case 0: // at once
	case 1:
		reset(fd)
	case 2: // half closed, until the server has closed as well
		_ = unix.Shutdown(fd, unix.SHUT_WR)
		for n := 1; n > 0; {
			n, _ = unix.Read(fd, make([]byte, 64))
		}
	case 3: // with data that nobody reads
		_, _ = unix.SendmsgN(fd, word, nil, nil, unix.MSG_NOSIGNAL)
	case 4:
		_, _ = unix.SendmsgN(fd, word, nil, nil, unix.MSG_NOSIGNAL)
		_, _ = unix.Read(fd, word)
	case 5:
		_, _ = unix.SendmsgN(fd, word, nil, nil, unix.MSG_NOSIGNAL)
		reset(fd)
	}
	_ = unix.Close(fd)
}

func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
