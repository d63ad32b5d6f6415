package tests

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// halfClosed: a client that has said all it has to say gets an answer of ten million
// bytes all the same, and the member one from a client likewise.
func halfClosed(w *world) {
	rows.Proves(w.t, 62)
	const port, size = 5062, 10 << 20
	m := w.Members[0]
	l, err := m.Host.Listen("tcp", netip.AddrPortFrom(m.Address, port).String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	served := make(chan error, 1)
	go func() { served <- answerTheEnd(l, size) }()
	b := w.balance(balancerOptions{endpoints: w.endpoints(port)[:1]})
	conn, err := w.Client.Dial(bounded(w.t, requestTimeout), "tcp", b.at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		w.t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	if err := lab.Compare(conn, 3, size); err != nil {
		w.t.Error(err)
	}
	if err := <-served; err != nil {
		w.t.Error(err)
	}
	b.awaitActive(0)
}

// answerTheEnd takes one connection, reads it to its end, and answers then.
func answerTheEnd(l net.Listener, size int64) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if said, err := io.ReadAll(conn); err != nil || len(said) > 0 {
		return fmt.Errorf("the client said %d bytes: %w", len(said), err)
	}
	_, err = io.Copy(conn, io.LimitReader(lab.Pattern(3), size))
	return err
}

// keptAlive is a connection that says nothing but keepalives, far more often than its
// flow would be given up.
func (b *balancer) keptAlive() *flow {
	b.w.t.Helper()
	f := b.open()
	err := f.conn.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: 3 * time.Second, Interval: 3 * time.Second, Count: 9,
	})
	if err != nil {
		b.w.t.Fatal(err)
	}
	return f
}

// stuffed is a connection whose client does not read what comes back, until neither side
// takes any more; and how many bytes of the pattern it has sent.
func (b *balancer) stuffed() (f *flow, sent int64) {
	b.w.t.Helper()
	f = b.open()
	words := lab.Pattern(4)
	chunk := make([]byte, 64<<10)
	for {
		if err := f.conn.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			b.w.t.Fatal(err)
		}
		if _, err := io.ReadFull(words, chunk); err != nil {
			b.w.t.Fatal(err)
		}
		n, err := f.conn.Write(chunk)
		sent += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return f, sent
		}
		if err != nil {
			b.w.t.Fatal(err)
		}
	}
}

// unstuff reads all that has been sent, and compares it.
func (f *flow) unstuff(sent int64) error {
	if err := f.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := f.conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	return lab.Compare(f.reader, 4, sent)
}
