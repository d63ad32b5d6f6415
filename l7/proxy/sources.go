package proxy

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// sources knows which connections have not sent a whole request yet, by client address.
// Honest clients send it at once; those that only want to occupy the balancer do not. So
// when a source has too many of them the oldest give way, and others behind the same
// address are served all the time.
type sources struct {
	mu    sync.Mutex
	known map[netip.Addr]*list.List // of *waiting, the oldest in front
}

// waiting is a connection without a request.
type waiting struct {
	source netip.Addr
	conn   net.Conn
	since  time.Time
	at     *list.Element
}

const (
	// honest clients have sent their request after that time, however busy the
	// machine is, unless there are far too many.
	honest     = time.Second
	farTooMany = 4
)

// enter adds a connection, and returns those that must give way for it.
func (s *sources) enter(source netip.Addr, conn net.Conn, limit int) (*waiting, []*waiting) {
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
	w := &waiting{source: source, conn: conn, since: time.Now()}
	w.at = of.PushBack(w)
	return w, s.trim(of, w.since, limit)
}

// trim removes those that are too many.
func (s *sources) trim(of *list.List, now time.Time, limit int) (out []*waiting) {
	for of.Len() > limit {
		oldest := of.Front().Value.(*waiting)
		if of.Len() <= limit*farTooMany && now.Sub(oldest.since) < honest {
			break
		}
		s.remove(oldest)
		out = append(out, oldest)
	}
	return out
}

// overdue returns those that are too many everywhere.
func (s *sources) overdue(now time.Time, limit int) (out []*waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.known {
		out = append(out, s.trim(of, now, limit)...)
	}
	return out
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
