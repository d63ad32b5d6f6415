package healthd

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// tcp passes when the member completes a handshake; nothing is sent on the
// connection.
func (p *prober) tcp(ctx context.Context, at endpoint) error {
	c, err := p.dialTCP(ctx, at)
	if err != nil {
		return err
	}
	c.Close()
	return nil
}

// dialTCP returns a connection that Close resets.
func (p *prober) dialTCP(ctx context.Context, at endpoint) (*conn, error) {
	return p.dial(ctx, at, unix.SOCK_STREAM, unix.IPPROTO_TCP, resetOnClose)
}

// resetOnClose keeps connections that we close first out of TIME_WAIT: a namespace
// has few local ports for its own sockets, and each would be held for a minute.
func resetOnClose(fd int) error {
	err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	if err != nil {
		return fmt.Errorf("set linger: %w", err)
	}
	return nil
}

// finishOnClose makes Close end the connection in the regular way.
func (c *conn) finishOnClose() {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// If either fails, Close resets, which is only less polite.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
	})
}
