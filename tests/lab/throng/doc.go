// Package throng is many clients of an echo server (lab.Echo) at once: connections that
// are only held, ones that are busy, and new ones that come and go. What happens to them
// is counted, not judged.
package throng

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"qlbaas/tests/lab"
)

// Clients connect from a host to an echo server, or to a balancer of some.
type Clients struct {
	Host *lab.Host
	// Local is the address that they come from; the zero Addr leaves it to the kernel.
	Local  netip.Addr
	Target netip.AddrPort
}

// dial connects and reads the server's name, for who answers a SYN need not be the server.
func (c Clients) dial(ctx context.Context) (*client, error) {
	var local netip.AddrPort
	if c.Local.IsValid() {
		local = netip.AddrPortFrom(c.Local, 0)
	}
	conn, err := c.Host.DialFrom(ctx, local, "tcp", c.Target.String())
	if err != nil {
		return nil, err
	}
	// A deadline fails only on a closed connection, as the reading will.
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	one := &client{conn: conn, reader: bufio.NewReaderSize(conn, 64)}
	if _, err := one.reader.ReadString('\n'); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return one, nil
}

// client is one connection.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
}

// echo sends a byte and waits until it comes back.
func (c *client) echo(patience time.Duration) (time.Duration, error) {
	begin := time.Now()
	if err := c.conn.SetDeadline(begin.Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write([]byte{'x'}); err != nil {
		return 0, err
	}
	b, err := c.reader.ReadByte()
	if err == nil && b != 'x' {
		err = fmt.Errorf("%q came back", b)
	}
	return time.Since(begin), err
}

// Times are how long many things took.
type Times []time.Duration

// Quantile returns the time that a part of them, 0..1, did not exceed; 0 if there are none.
func (t Times) Quantile(part float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(int(part*float64(len(t))), len(t)-1)]
}
