package l7

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"qlbaas/l7/control"
	"qlbaas/l7/cookie"
	"qlbaas/l7/jail"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
)

// Options are what a sidecar gets from whoever starts it.
type Options struct {
	// Clients is the listening socket for the VIP, Control the one for questions; or
	// Predecessor is a connection to a running sidecar's control socket, and both
	// come from there. Run takes them over.
	Clients, Control, Predecessor *os.File
	// From is the address that members see: the VIP.
	From netip.Addr
	// Version is reported.
	Version string
	// Free leaves out the jail.
	Free bool
	Log  *slog.Logger
}

// patience bounds what a successor asks of its predecessor, and how long clients may
// still take when a sidecar is told to end at once.
const patience = 5 * time.Second

// Run is the whole sidecar. It returns nil when ctx has ended and the answers under way
// are delivered, or when the sidecar has retired and its last client is gone.
func Run(ctx context.Context, o Options) error {
	// Whoever reads the log may go before the sidecar does.
	signal.Ignore(syscall.SIGPIPE)
	s := &sidecar{options: o, pool: pool.New(), ready: make(chan struct{}), done: make(chan struct{})}
	s.proxy = proxy.New(s.pool, o.From, o.Log)
	if o.Predecessor != nil {
		if err := s.inherit(ctx); err != nil {
			return err
		}
		defer s.before.Close()
	}
	if err := s.listen(); err != nil {
		return err
	}
	if !o.Free {
		if err := jail.Enter(); err != nil {
			return err
		}
	}
	return s.run(ctx)
}

// sidecar is control.Sidecar.
type sidecar struct {
	options Options
	pool    *pool.Pool
	proxy   *proxy.Server
	clients *net.TCPListener
	control *net.UnixListener
	before  *control.Client // predecessor
	left    control.Stats   // what the predecessor has counted, as far as it is added here

	mu     sync.Mutex
	config *control.Config
	ready  chan struct{} // closed by the first configuration
	retire context.CancelFunc
	done   chan struct{}
}

func (s *sidecar) inherit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	if s.before, err = control.NewClient(s.options.Predecessor); err != nil {
		return err
	}
	got, err := s.before.Inherit(ctx)
	if err != nil {
		return fmt.Errorf("inherit: %w", err)
	}
	s.options.Clients, s.options.Control = got.Clients, got.Control
	if got.State.Config != nil {
		if err := s.Apply(*got.State.Config); err != nil {
			return fmt.Errorf("inherit: %w", err)
		}
	}
	if err := s.pool.Learned().Restore(got.State.Learned); err != nil {
		return fmt.Errorf("inherit: %w", err)
	}
	s.left = got.State.Stats
	s.pool.Add(s.left.Pool)
	s.proxy.Add(s.left.Proxy)
	return nil
}

// listen adopts the two sockets.
func (s *sidecar) listen() error {
	clients, err := adopt[*net.TCPListener](s.options.Clients)
	if err != nil {
		return fmt.Errorf("adopt clients' socket: %w", err)
	}
	control, err := adopt[*net.UnixListener](s.options.Control)
	if err != nil {
		_ = clients.Close()
		return fmt.Errorf("adopt control socket: %w", err)
	}
	s.clients, s.control = clients, control
	return nil
}

func adopt[T net.Listener](f *os.File) (T, error) {
	var none T
	if f == nil {
		return none, os.ErrInvalid
	}
	defer f.Close()
	listener, err := net.FileListener(f)
	if err != nil {
		return none, err
	}
	l, ok := listener.(T)
	if !ok {
		_ = listener.Close()
		return none, fmt.Errorf("it is a %T", listener)
	}
	return l, nil
}

// run serves until the end.
func (s *sidecar) run(ctx context.Context) error {
	// Questions are answered until the last client is gone.
	asked, stopAsking := context.WithCancel(context.WithoutCancel(ctx))
	serving, retire := context.WithCancel(ctx)
	defer retire()
	s.mu.Lock()
	s.retire = retire
	s.mu.Unlock()
	var running sync.WaitGroup
	questions := control.NewServer(s, s.options.Log)
	running.Go(func() {
		if err := questions.Serve(asked, s.control); err != nil {
			s.options.Log.Error("serve control socket", "err", err)
		}
	})
	if s.before != nil {
		running.Go(func() { s.succeed(asked) })
	}
	err := s.serve(serving)
	s.drain(ctx)
	close(s.done)
	questions.Farewell()
	stopAsking()
	running.Wait()
	return err
}

// serve accepts clients once there is a configuration: before, they wait.
func (s *sidecar) serve(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return s.clients.Close()
	case <-s.ready:
	}
	return s.proxy.Serve(ctx, s.clients)
}

// drain waits for the clients: as long as they take when the sidecar has retired, not
// for long when it was told to end.
func (s *sidecar) drain(ctx context.Context) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.proxy.Wait()
	}()
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	s.proxy.End()
	select {
	case <-gone:
	case <-time.After(patience):
	}
}

// succeed ends the predecessor, and adds what it still counts.
func (s *sidecar) succeed(ctx context.Context) {
	stats, err := s.before.Retire(ctx)
	for err == nil {
		s.pool.Add(control.PoolSince(stats.Pool, s.left.Pool))
		s.proxy.Add(stats.Proxy.Since(s.left.Proxy))
		if err := s.pool.Learned().Restore(stats.Learned); err != nil {
			s.options.Log.Error("learn from predecessor", "err", err)
		}
		s.left = stats
		stats, err = s.before.Final(ctx)
	}
	s.options.Log.Info("predecessor has ended", "pid", s.left.PID, "err", err)
}

// Apply makes c the configuration.
func (s *sidecar) Apply(c control.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.pool.Apply(c.Pool); err != nil {
		return err
	}
	s.proxy.SetLimits(c.Limits)
	if s.config == nil {
		close(s.ready)
	}
	s.config = &c
	return nil
}

// SetUp writes one member's liveness.
func (s *sidecar) SetUp(memberID string, up bool) error { return s.pool.SetUp(memberID, up) }

// Stats are the counters of now.
func (s *sidecar) Stats() control.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := control.Stats{
		PID: os.Getpid(), Version: s.options.Version, Pool: s.pool.Stats(), Proxy: s.proxy.Stats(),
	}
	if s.config != nil {
		stats.Generation = s.config.Generation
	}
	return stats
}

// State is what a successor needs.
func (s *sidecar) State() control.State {
	state := control.State{Stats: s.Stats(), Learned: s.pool.Learned().Records()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config != nil {
		config := *s.config
		config.Pool = s.pool.Config() // members' liveness of now
		state.Config = &config
	}
	return state
}

// Learned is the table of the application's cookies.
func (s *sidecar) Learned() *cookie.Learned { return s.pool.Learned() }

// Sockets are the two listening ones.
func (s *sidecar) Sockets() (clients, control syscall.Conn) { return s.clients, s.control }

// Retire stops accepting, and leaves the control socket to the successor.
func (s *sidecar) Retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire()
	_ = s.control.Close() // whoever is connected stays
}

// Done is closed when the last client has gone.
func (s *sidecar) Done() <-chan struct{} { return s.done }
