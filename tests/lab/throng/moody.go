package throng

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"

	"qlbaas/tests/lab"
)

// Moody is a server that ends some connections at once, by FIN or by RST, and echoes what
// the others say.
type Moody struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand            // guarded by mu
	open   map[net.Conn]struct{} // guarded by mu; nil once closed
}

// StartMoody starts a server inside the host. The caller closes it.
func StartMoody(h *lab.Host, at netip.AddrPort, seed uint64) (*Moody, error) {
	l, err := h.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("start moody server on %s: %w", h.Name(), err)
	}
	m := &Moody{listener: l, random: rand.New(rand.NewPCG(seed, 1)), open: map[net.Conn]struct{}{}}
	m.serving.Go(m.accept)
	return m, nil
}

// Close ends the server and all its connections.
func (m *Moody) Close() error {
	err := m.listener.Close()
	m.mu.Lock()
	for c := range m.open {
		_ = c.Close() // or its client was faster
	}
	m.open = nil
	m.mu.Unlock()
	m.serving.Wait()
	return err
}

func (m *Moody) accept() {
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return // closed
		}
		mood, ok := m.enter(c)
		if !ok {
			_ = c.Close() // nobody cares any more
			return
		}
		m.serving.Go(func() { m.serve(c, mood) })
	}
}

// enter books a connection, unless the server is closing.
func (m *Moody) enter(c net.Conn) (mood int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		return 0, false
	}
	m.open[c] = struct{}{}
	return m.random.IntN(4), true
}

func (m *Moody) serve(c net.Conn, mood int) {
	switch mood {
	case 0:
	case 1:
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // fails only on a closed one
		}
	default:
		_, _ = io.Copy(c, c) // ends with the connection, whichever way
	}
	_ = c.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, c)
}
