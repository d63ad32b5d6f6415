package healthd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// past is a deadline that makes all waiting on a connection end at once.
var past = time.Unix(1, 0)

// conn is a connected socket whose waiting is done by the runtime's poller. It is a
// net.Conn, for crypto/tls. Reads and writes end when the context given to dial
// does.
type conn struct {
	*os.File
	remote netip.AddrPort
	stop   func() bool
}

// dial opens a connected socket of the given type to at, in at's namespace. Options
// are set by prepare before it connects. The returned error is a *probeError.
func (p *prober) dial(ctx context.Context, at endpoint, typ, proto int, prepare func(fd int) error) (*conn, error) {
	domain, remote := sockaddr(at.addr, typ)
	fd, err := p.sockets.Socket(at.pool, domain, typ, proto)
	if err != nil {
		return nil, &probeError{step: "open a socket", err: err, local: true}
	}
	if err := prepare(fd); err != nil {
		unix.Close(fd)
		return nil, &probeError{step: "prepare the socket", err: err, local: true}
	}
	// Connecting before the poller knows the socket spares a false wake-up: a fresh
	// TCP socket counts as hung up.
	err = unix.Connect(fd, remote)
	pending := errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR)
	if err != nil && !pending {
		unix.Close(fd)
		return nil, &probeError{step: "connect", err: err, local: exhausted(err)}
	}
	c := &conn{File: os.NewFile(uintptr(fd), "probe"), remote: at.addr}
	// A descriptor that is closed already needs no deadline.
	c.stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(past) })
	if !pending {
		return c, nil
	}
	if err := c.established(); err != nil {
		c.Close()
		return nil, &probeError{step: "connect", err: err, local: exhausted(err)}
	}
	return c, nil
}

// established waits for the connection to come about.
func (c *conn) established() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("access socket: %w", err)
	}
	var result error
	err = raw.Write(func(fd uintptr) (done bool) {
		done, result = connected(int(fd))
		return done
	})
	if err != nil {
		return err
	}
	return result
}

// connected says whether connecting has ended, and how. The poller may wake its
// callers early, so "no error" alone does not mean connected.
func connected(fd int) (done bool, err error) {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return true, fmt.Errorf("read socket error: %w", err)
	}
	switch errno := unix.Errno(code); errno {
	case 0, unix.EISCONN:
		_, err := unix.Getpeername(fd)
		return err == nil, nil
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR:
		return false, nil
	default:
		return true, errno
	}
}

// Close closes the socket; it may be called more than once.
func (c *conn) Close() error {
	c.stop()
	return c.File.Close()
}

// LocalAddr and RemoteAddr complete net.Conn; nobody asks a probe for the first.
func (c *conn) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// sockaddr returns the address family and the address to connect to. Only stream
// sockets have a port.
func sockaddr(addr netip.AddrPort, typ int) (domain int, sa unix.Sockaddr) {
	ip, port := addr.Addr().Unmap(), int(addr.Port())
	if typ != unix.SOCK_STREAM {
		port = 0
	}
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: port}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: port}
}
