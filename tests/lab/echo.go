package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// Echo is a TCP server that first says its name and a newline, and then returns
// whatever it gets until the client closes its side. Safe for concurrent use.
type Echo struct {
	name     string
	listener net.Listener
	serving  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	accepted int
	open     map[net.Conn]struct{}
}

// StartEcho starts an echo server inside the host; the lab closes it.
func (h *Host) StartEcho(name string, address netip.AddrPort) (*Echo, error) {
	l, err := h.Listen("tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("start echo server on %s: %w", h.name, err)
	}
	e := &Echo{name: name, listener: l, open: map[net.Conn]struct{}{}}
	e.serving.Go(e.accept)
	h.lab.own(e)
	return e, nil
}

// Name is what the server says first.
func (e *Echo) Name() string { return e.name }

// Active is how many connections are open now.
func (e *Echo) Active() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.open)
}

// Peers are the clients that are connected now, as the server sees them.
func (e *Echo) Peers() []netip.AddrPort {
	e.mu.Lock()
	defer e.mu.Unlock()
	peers := make([]netip.AddrPort, 0, len(e.open))
	for c := range e.open {
		if peer, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			peers = append(peers, peer.AddrPort())
		}
	}
	return peers
}

// Accepted is how many connections there have been.
func (e *Echo) Accepted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.accepted
}

// Close closes the port and every connection and waits for them.
func (e *Echo) Close() error {
	e.mu.Lock()
	e.closed = true
	errs := []error{e.listener.Close()}
	for c := range e.open {
		errs = append(errs, c.Close())
	}
	e.mu.Unlock()
	e.serving.Wait()
	for i, err := range errs {
		if errors.Is(err, net.ErrClosed) {
			errs[i] = nil // it was faster
		}
	}
	return errors.Join(errs...)
}

func (e *Echo) accept() {
	for {
		c, err := e.listener.Accept()
		if err != nil {
			return // the listener is closed
		}
		if !e.enter(c) {
			_ = c.Close() // nobody cares any more
			return
		}
		e.serving.Go(func() { e.serve(c) })
	}
}

// enter books a connection, unless the server is closing.
func (e *Echo) enter(c net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.accepted++
	e.open[c] = struct{}{}
	return true
}

func (e *Echo) serve(c net.Conn) {
	defer func() {
		_ = c.Close() // closing was all that was left to do
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.open, c)
	}()
	if _, err := io.WriteString(c, e.name+"\n"); err != nil {
		return
	}
	_, _ = io.Copy(c, c) // ends with the connection, whichever way
}
