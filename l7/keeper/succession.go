package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"qlbaas/l7/control"
	"qlbaas/l7/cookie"
)

// forebear answers a new sidecar's questions in place of a predecessor that is not
// there: the first one's, or one that died. It is control.Sidecar.
type forebear struct {
	state            control.State
	clients, control syscall.Conn
	nothing          *cookie.Learned
	once             sync.Once
	done             chan struct{}
}

// Apply and SetUp are for sidecars.
func (f *forebear) Apply(control.Config) error { return errors.ErrUnsupported }

// SetUp is for sidecars.
func (f *forebear) SetUp(string, bool) error { return errors.ErrUnsupported }

// Stats are what the predecessor has counted.
func (f *forebear) Stats() control.Stats { return f.state.Stats }

// State is what it leaves.
func (f *forebear) State() control.State { return f.state }

// Learned is what it learns after it has retired: nothing.
func (f *forebear) Learned() *cookie.Learned { return f.nothing }

// Sockets are the keeper's.
func (f *forebear) Sockets() (clients, control syscall.Conn) { return f.clients, f.control }

// Retire is the end of it.
func (f *forebear) Retire() { f.once.Do(func() { close(f.done) }) }

// Done is closed once the successor has taken over.
func (f *forebear) Done() <-chan struct{} { return f.done }

// estate is a forebear that answers.
type estate struct {
	*forebear
	server  *control.Server
	cancel  context.CancelFunc
	serving sync.WaitGroup
}

// leave makes a forebear answer, and a connection to it. Its end must be called.
func (k *Keeper) leave(p *place, state control.State, ctl *net.UnixListener) (e *estate, connected *os.File, err error) {
	path := k.path(p.id, "start")
	listener, err := listenUnix(path)
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(path)
	ctx, cancel := context.WithCancel(context.Background())
	f := &forebear{state: state, clients: p.listener, control: ctl, nothing: cookie.NewLearned(1, 0), done: make(chan struct{})}
	e = &estate{forebear: f, server: control.NewServer(f, k.log), cancel: cancel}
	e.serving.Go(func() { _ = e.server.Serve(ctx, listener) }) // ends with ctx only
	if connected, err = connection(path); err != nil {
		e.end()
		return nil, nil, err
	}
	return e, connected, nil
}

func (e *estate) end() { e.cancel(); e.serving.Wait() }

// settle waits until a successor that serves has made it retire.
func (e *estate) settle() {
	select {
	case <-e.done:
		e.server.Farewell()
	case <-time.After(silence):
	}
}

// connection is one to a control socket, for another process.
func connection(path string) (*os.File, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to sidecar: %w", err)
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return nil, fmt.Errorf("connect to sidecar: %w", err)
	}
	return f, nil
}

// listenUnix listens at a path, in place of whoever did before.
func listenUnix(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for sidecar: %w", err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}
