package proxy

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// sources knows which connections have not sent a whole request yet, by client address.
// Honest clients send it at once; those that only want to occupy the balancer do not. So
// when a source has too many of them the oldest gives way, and others behind the same
// address are served all the time.
type sources struct {
	mu    sync.Mutex
	known map[netip.Addr]*list.List // of *waiting, the oldest in front
}

// waiting is a connection without a request.
type waiting struct {
	source netip.Addr
	conn   net.Conn
	at     *list.Element
}

// enter adds a connection, and returns the one that must give way for it, if any.
func (s *sources) enter(source netip.Addr, conn net.Conn, limit int) (*waiting, net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[netip.Addr]*list.List{}
	}
	of := s.known[source]
	if of == nil {
		of = list.New()
		s.known[source] = of
	}
	w := &waiting{source: source, conn: conn}
	w.at = of.PushBack(w)
	if of.Len() <= limit {
		return w, nil
	}
	oldest := of.Front().Value.(*waiting)
	s.remove(oldest)
	return w, oldest.conn
}

// leave removes a connection; nil and those that are gone already are none.
func (s *sources) leave(w *waiting) {
	if w == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(w)
}

func (s *sources) remove(w *waiting) {
	if w.at == nil {
		return
	}
	of := s.known[w.source]
	of.Remove(w.at)
	w.at = nil
	if of.Len() == 0 {
		delete(s.known, w.source)
	}
}
