package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"qlbaas/l7/pool"
)

// Picker chooses members. A pool.Pool is one.
type Picker interface {
	// Choose returns the member for a request, or an error where there is none.
	Choose(q *pool.Query) (pool.Choice, error)
	// Learn notes that a member gave the application's cookie this value.
	Learn(value []byte, m *pool.Member)
	// Settings says which cookies to look for.
	Settings() pool.Settings
	// Overdue returns the members whose requests have had their time to end, and those
	// that nobody will ever ask again.
	Overdue(now time.Time) (overdue, gone []*pool.Member)
}

// Limits bound what a client may take. Zero fields of Server.SetLimits' argument mean
// the default.
type Limits struct {
	// Connections is how many clients are served at once: the others wait. Negative
	// means no limit of the user's; 0 serves nobody.
	Connections int64 `json:"connections"`
	// Idle is how long either side may stand still; DefaultIdle.
	Idle time.Duration `json:"idle,omitempty"`
	// Head is how long a request's head may take, from its first byte on.
	Head time.Duration `json:"head,omitempty"`
	// HeadBytes and HeadLines bound a request's head.
	HeadBytes int `json:"head_bytes,omitempty"`
	HeadLines int `json:"head_lines,omitempty"`
	// Waiting is how many connections without a request one address may have.
	Waiting int `json:"waiting,omitempty"`
}

// Defaults of Limits.
const (
	DefaultIdle      = 50 * time.Second
	DefaultHead      = 10 * time.Second
	DefaultHeadBytes = 32 << 10
	DefaultHeadLines = 256
	DefaultWaiting   = 256
	// MostConnections holds where the user sets no limit, or a higher one: each
	// takes up to two file descriptors.
	MostConnections = 16384
	// connectTime bounds connecting to a member.
	connectTime = 5 * time.Second
)

func (l Limits) withDefaults() *Limits {
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{{&l.Idle, DefaultIdle}, {&l.Head, DefaultHead}} {
		if *d.field == 0 {
			*d.field = d.standard
		}
	}
	for _, d := range []struct {
		field    *int
		standard int
	}{{&l.HeadBytes, DefaultHeadBytes}, {&l.HeadLines, DefaultHeadLines}, {&l.Waiting, DefaultWaiting}} {
		if *d.field == 0 {
			*d.field = d.standard
		}
	}
	if l.Connections < 0 || l.Connections > MostConnections {
		l.Connections = MostConnections
	}
	return &l
}

// Server is the proxy of one pool. Safe for concurrent use.
type Server struct {
	picker  Picker
	log     *slog.Logger
	dialer  *net.Dialer
	limits  atomic.Pointer[Limits]
	count   counts
	sources sources
	// draining: connections end with the answer that they wait for. ending: those that
	// wait for none end at once.
	draining, ending atomic.Bool

	mu       sync.Mutex
	changed  *sync.Cond // the number of clients, limits, draining
	clients  map[*client]struct{}
	listener *net.TCPListener // of Serve
	ups      sync.Map         // *pool.Member -> *upstream
	running  sync.WaitGroup
}

// New returns a server that connects to members from an address; the zero Addr leaves
// that to the kernel.
func New(picker Picker, from netip.Addr, log *slog.Logger) *Server {
	s := &Server{picker: picker, log: log, dialer: newDialer(from, connectTime), clients: map[*client]struct{}{}}
	s.changed = sync.NewCond(&s.mu)
	s.SetLimits(Limits{Connections: -1})
	return s
}

// SetLimits makes l hold for requests that begin from now on.
func (s *Server) SetLimits(l Limits) {
	s.limits.Store(l.withDefaults())
	s.changed.Broadcast()
}

// Serve accepts clients until ctx ends or Drain is called, and then returns nil. It does
// not wait for the clients, who may finish: see Wait. It takes over the listener.
func (s *Server) Serve(ctx context.Context, listener *net.TCPListener) error {
	defer listener.Close()
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	defer context.AfterFunc(ctx, s.Drain)()
	ctx = context.WithoutCancel(ctx)
	s.running.Go(func() { s.housekeep(ctx) })
	for s.room() {
		conn, err := listener.AcceptTCP()
		switch {
		case err == nil:
			s.start(ctx, conn)
		case s.draining.Load():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default: // out of file descriptors or memory: some will be free again
			pause(ctx, 10*time.Millisecond)
		}
	}
	return nil
}

// room waits until there may be another client; false means that there will be none.
func (s *Server) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for int64(len(s.clients)) >= s.limits.Load().Connections && !s.draining.Load() {
		s.changed.Wait()
	}
	return !s.draining.Load()
}

func (s *Server) start(ctx context.Context, conn *net.TCPConn) {
	c, err := newClient(s, conn)
	if err != nil {
		return // it is closed
	}
	s.mu.Lock()
	s.clients[c] = struct{}{}
	s.mu.Unlock()
	s.count.Accepted.Add(1)
	s.running.Go(func() {
		defer s.gone(c)
		var oldest []*waiting
		c.pending, oldest = s.sources.enter(c.source, conn, s.limits.Load().Waiting)
		s.displace(oldest)
		s.guard(c, func() { c.serve(ctx) })
	})
}

// errFault: this program has a fault, which the log describes.
var errFault = errors.New("internal fault")

// guard runs part of a client's exchange: a fault in one must not end all the others'.
// A goroutine without it would.
func (s *Server) guard(c *client, f func()) {
	defer func() {
		if fault := recover(); fault != nil {
			s.count.panics.Add(1)
			s.log.Error("serve client", "client", c.source, "panic", fault, "stack", string(debug.Stack()))
			_ = c.conn.Close() // nobody knows what it has been told
		}
	}()
	f()
}

// displace ends connections that have occupied a place for nothing.
func (s *Server) displace(oldest []*waiting) {
	for _, w := range oldest {
		s.count.Displaced.Add(1)
		_ = w.conn.Close() // whatever it says, it is gone
	}
}

// gone ends a client's part here.
func (s *Server) gone(c *client) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	s.changed.Broadcast()
}

// Drain makes Serve return; connections that exist go on until the answer that they
// wait for, or until they are idle for too long.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	if s.listener != nil {
		_ = s.listener.SetDeadline(time.Unix(1, 0)) // fails for a closed one, which is as well
	}
	s.changed.Broadcast()
}

// End is Drain for clients that shall not wait: connections without a request end now.
func (s *Server) End() {
	s.ending.Store(true)
	s.Drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		if c.resting.Load() {
			_ = c.conn.Close() // whatever it says, it is gone
		}
	}
}

// Wait returns when no client is left.
func (s *Server) Wait() { s.running.Wait() }

// housekeep closes connections to members that are of no more use.
func (s *Server) housekeep(ctx context.Context) {
	for pause(ctx, time.Second) {
		now := time.Now()
		s.displace(s.sources.overdue(now, s.limits.Load().Waiting))
		s.ups.Range(func(key, value any) bool {
			u := value.(*upstream)
			u.reap(now)
			return true
		})
		overdue, gone := s.picker.Overdue(now)
		for _, m := range overdue {
			if u, found := s.ups.Load(m); found {
				u.(*upstream).abortAll()
			}
		}
		for _, m := range gone {
			s.ups.Delete(m)
		}
		if s.draining.Load() && s.Clients() == 0 {
			return
		}
	}
}

// upstream returns the connections to a member.
func (s *Server) upstream(m *pool.Member) *upstream {
	if u, found := s.ups.Load(m); found {
		return u.(*upstream)
	}
	u, _ := s.ups.LoadOrStore(m, &upstream{member: m, dialer: s.dialer, open: map[*line]struct{}{}})
	return u.(*upstream)
}

// Clients is the number of clients' connections.
func (s *Server) Clients() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.clients))
}
