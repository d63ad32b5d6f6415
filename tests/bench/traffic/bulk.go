package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// What a client's first byte asks the bulk server for.
const (
	download = 'd' // send until I close
	upload   = 'u' // take what I send
)

// chunk is how much is read or written at once.
const chunk = 256 << 10

// bulkServers send and take bytes at the members.
type bulkServers struct {
	listeners []net.Listener
	// taken counts what uploads have brought, and held what stands.
	taken atomic.Int64
	held  sync.WaitGroup
}

func (b *bulkServers) serve(m *member) error {
	l, err := m.host.Listen("tcp4", netip.AddrPortFrom(m.address, bulkPort).String())
	if err != nil {
		return err
	}
	b.listeners = append(b.listeners, l)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			b.held.Go(func() { b.handle(conn) })
		}
	}()
	return nil
}

// handle serves one connection, until the client has enough.
func (b *bulkServers) handle(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // the client's end may get lost
	buffer := make([]byte, chunk)
	if _, err := io.ReadFull(conn, buffer[:1]); err != nil {
		return
	}
	for asked := buffer[0]; ; {
		var err error
		if asked == download {
			_, err = conn.Write(buffer)
		} else {
			var n int
			n, err = conn.Read(buffer)
			b.taken.Add(int64(n))
		}
		if err != nil {
			return
		}
	}
}

func (b *bulkServers) close() error {
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// bulkLoad is how bytes are moved.
type bulkLoad struct {
	flows  int
	upload bool
	time   time.Duration
}

// bulkSample is what was received.
type bulkSample struct {
	rate   float64 // MB/s
	counts counts
	bytes  int64
}

// ramp is how long flows get to reach their speed.
const ramp = 60 * time.Millisecond

// move moves bytes by some flows at once, and counts where they arrive.
func (l *laboratory) move(ctx context.Context, s *subject, how bulkLoad) (m bulkSample, err error) {
	flows, err := l.open(ctx, s, how)
	var work sync.WaitGroup
	defer func() {
		for _, f := range flows {
			_ = f.SetDeadline(time.Now()) // ends what it waits for
		}
		work.Wait()
		for _, f := range flows {
			_ = f.(*net.TCPConn).SetLinger(0) // what is on its way is nobody's
			_ = f.Close()
		}
		l.bulk.held.Wait()
	}()
	if err != nil {
		return m, err
	}
	arrived := &l.bulk.taken
	if !how.upload {
		arrived = new(atomic.Int64)
	}
	for _, f := range flows {
		work.Go(func() { flow(f, how.upload, arrived) })
	}
	var before, after counts
	if err := pause(ctx, ramp); err != nil {
		return m, err
	}
	if s.inspectBulk != nil {
		if before, err = s.inspectBulk(); err != nil {
			return m, err
		}
	}
	began, had := time.Now(), arrived.Load()
	if err := pause(ctx, how.time); err != nil {
		return m, err
	}
	m.bytes = arrived.Load() - had
	m.rate = float64(m.bytes) / 1e6 / time.Since(began).Seconds()
	if s.inspectBulk != nil {
		if after, err = s.inspectBulk(); err != nil {
			return m, err
		}
	}
	m.counts = after.since(before)
	if m.bytes == 0 {
		return m, errors.New("no byte arrived")
	}
	return m, nil
}

// open opens flows, one after the other.
func (l *laboratory) open(ctx context.Context, s *subject, how bulkLoad) (flows []net.Conn, err error) {
	ask := []byte{download}
	if how.upload {
		ask[0] = upload
	}
	for i := range how.flows {
		f, err := l.clients[0].Dial(ctx, "tcp4", s.bulk[i%len(s.bulk)].String())
		if err != nil {
			return flows, err
		}
		flows = append(flows, f)
		if _, err := f.Write(ask); err != nil {
			return flows, fmt.Errorf("ask: %w", err)
		}
	}
	return flows, nil
}

// flow moves bytes until the connection's deadline.
func flow(conn net.Conn, upload bool, arrived *atomic.Int64) {
	buffer := make([]byte, chunk)
	for {
		if upload {
			if _, err := conn.Write(buffer); err != nil {
				return
			}
			continue
		}
		n, err := conn.Read(buffer)
		arrived.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
