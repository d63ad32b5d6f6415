package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/cookie"
)

// Sidecar is what is controlled.
type Sidecar interface {
	Apply(c Config) error
	SetUp(memberID string, up bool) error
	Stats() Stats
	State() State
	// Learned is the table of the application's cookies.
	Learned() *cookie.Learned
	// Sockets returns the two listening sockets.
	Sockets() (clients, control syscall.Conn)
	// Retire stops accepting; Done is closed when the last client has gone.
	Retire()
	Done() <-chan struct{}
}

// Server answers on a control socket.
type Server struct {
	sidecar  Sidecar
	log      *slog.Logger
	running  sync.WaitGroup
	retiring sync.WaitGroup
}

// NewServer returns a server; Serve starts it.
func NewServer(s Sidecar, log *slog.Logger) *Server { return &Server{sidecar: s, log: log} }

// Farewell waits until a successor has the last counters; Done must be closed.
func (s *Server) Farewell() { s.retiring.Wait() }

// sendTime bounds how long an answer may take: it fits into a socket's buffer, but for
// the state, which its reader waits for.
const sendTime = 5 * time.Second

// maxLine bounds a question: 1,024 members take some 200 bytes each.
const maxLine = 4 << 20

// Serve answers until ctx ends, and takes the listener over.
func (s *Server) Serve(ctx context.Context, listener *net.UnixListener) error {
	listener.SetUnlinkOnClose(false) // a successor listens on the same path
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.AcceptUnix()
		switch {
		case err == nil:
			s.running.Go(func() { s.answer(ctx, conn) })
		case errors.Is(err, net.ErrClosed):
			s.running.Wait() // a retired sidecar still answers those who are connected
			return nil
		default: // out of file descriptors or memory: some will be free again
			s.log.Warn("accept control connection", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// session is one connection of whoever controls.
type session struct {
	*Server
	conn       *net.UnixConn
	generation uint64
	// told is when the other side last got all that was learned.
	told time.Time
}

func (s *Server) answer(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := trusted(conn); err != nil {
		s.log.Warn("refuse control connection", "err", err)
		return
	}
	se := &session{Server: s, conn: conn}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var q request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			_ = se.send(reply{Error: "not a question: " + err.Error()}) // the connection ends anyway
			return
		}
		if err := se.obey(ctx, &q); err != nil {
			if !errors.Is(err, io.EOF) {
				s.log.Warn("answer control connection", "op", q.Op, "err", err)
			}
			return
		}
	}
}

// trusted: root, or whoever the sidecar itself runs as.
func trusted(conn *net.UnixConn) error {
	var peer *unix.Ucred
	if err := withFD(conn, func(fd int) (err error) {
		peer, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	}); err != nil {
		return fmt.Errorf("ask for peer: %w", err)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Getuid() {
		return fmt.Errorf("peer has uid %d: %w", peer.Uid, os.ErrPermission)
	}
	return nil
}

func (se *session) obey(ctx context.Context, q *request) error {
	switch q.Op {
	case opApply:
		return se.send(se.apply(q.Config))
	case opHealth:
		return se.send(failed(se.sidecar.SetUp(q.Member, q.Up)))
	case opStats:
		stats := se.sidecar.Stats()
		return se.send(reply{Stats: &stats})
	case opHandover:
		return se.handover()
	case opRetire:
		return se.retire(ctx)
	}
	return se.send(reply{Error: fmt.Sprintf("unknown op %q", q.Op)})
}

func (se *session) apply(c *Config) reply {
	if c == nil {
		return reply{Error: "apply without config"}
	}
	if c.Generation < se.generation {
		return failed(fmt.Errorf("%w: %d after %d", ErrStale, c.Generation, se.generation))
	}
	if err := se.sidecar.Apply(*c); err != nil {
		return failed(err)
	}
	se.generation = c.Generation
	return reply{}
}

func failed(err error) reply {
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{}
}

func (se *session) send(r reply) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode reply: %w", err)
	}
	_ = se.conn.SetWriteDeadline(time.Now().Add(sendTime)) // a closed connection says so below
	_, err = se.conn.Write(append(line, '\n'))
	return err
}

// handover sends the state and, with its first byte, the sockets.
func (se *session) handover() error {
	se.told = time.Now()
	state := se.sidecar.State()
	line, err := json.Marshal(reply{State: &state})
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	_ = se.conn.SetWriteDeadline(time.Now().Add(sendTime)) // a closed connection says so below
	clients, control := se.sidecar.Sockets()
	// Not by File: what that returns would make the sockets block, here as well.
	if err := withFD(clients, func(first int) error {
		return withFD(control, func(second int) error {
			_, _, err := se.conn.WriteMsgUnix(line[:1], unix.UnixRights(first, second), nil)
			return err
		})
	}); err != nil {
		return fmt.Errorf("send sockets: %w", err)
	}
	_, err = se.conn.Write(append(line[1:], '\n'))
	return err
}

// withFD calls use with the descriptor of a connection, which stays open meanwhile.
func withFD(c syscall.Conn, use func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = use(int(fd)) })
	return errors.Join(err, inner)
}

// retire reports until the last client has gone: every second, and at once what is
// learned, because whoever got that cookie asks the successor next.
func (se *session) retire(ctx context.Context) error {
	se.retiring.Add(1)
	defer se.retiring.Done()
	se.sidecar.Retire()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		if err := se.report(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-se.sidecar.Done():
			_ = se.report() // nobody else will hear of it
			return io.EOF
		case <-every.C:
		case <-se.sidecar.Learned().Changed():
		}
	}
}

// report sends counters, and what was learned since the last report.
func (se *session) report() error {
	stats, now := se.sidecar.Stats(), time.Now()
	if !se.told.IsZero() {
		stats.Learned = se.sidecar.Learned().Since(se.told)
	}
	se.told = now
	return se.send(reply{Stats: &stats})
}
