package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Client controls a sidecar. One question at a time; not safe for concurrent use.
type Client struct {
	conn  *net.UnixConn
	lines *bufio.Reader
}

// Dial connects to a sidecar's control socket.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("dial sidecar: %w", err)
	}
	return newClient(conn.(*net.UnixConn)), nil // "unix" gives nothing else
}

// NewClient controls over a connection that somebody else has made, and takes it over.
func NewClient(connected *os.File) (*Client, error) {
	defer connected.Close()
	conn, err := net.FileConn(connected)
	if err != nil {
		return nil, fmt.Errorf("adopt connection to sidecar: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("adopt connection to sidecar: %w", os.ErrInvalid)
	}
	return newClient(u), nil
}

func newClient(conn *net.UnixConn) *Client {
	return &Client{conn: conn, lines: bufio.NewReader(conn)}
}

// Close ends the connection; the sidecar goes on.
func (c *Client) Close() error { return c.conn.Close() }

// Apply makes the sidecar look as config says. ErrRefused: it does not, and looks as
// before.
func (c *Client) Apply(ctx context.Context, config Config) error {
	_, err := c.ask(ctx, request{Op: opApply, Config: &config})
	return err
}

// SetUp writes one member's liveness.
func (c *Client) SetUp(ctx context.Context, memberID string, up bool) error {
	_, err := c.ask(ctx, request{Op: opHealth, Member: memberID, Up: up})
	return err
}

// Stats asks for the counters. A sidecar that does not answer in time hangs: answering
// takes the same locks as serving.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return statsOf(c.ask(ctx, request{Op: opStats}))
}

// Retire makes the sidecar accept no more. Its counters come until it is gone, and then
// io.EOF from Final.
func (c *Client) Retire(ctx context.Context) (Stats, error) {
	return statsOf(c.ask(ctx, request{Op: opRetire}))
}

// Final waits for a retired sidecar's next counters; io.EOF means that it is gone.
func (c *Client) Final(ctx context.Context) (Stats, error) {
	defer c.bound(ctx)()
	return statsOf(c.receive())
}

func statsOf(r reply, err error) (Stats, error) {
	if err != nil {
		return Stats{}, err
	}
	if r.Stats == nil {
		return Stats{}, fmt.Errorf("%w: no stats", ErrRefused)
	}
	return *r.Stats, nil
}

// bound makes waiting end with ctx; the returned function undoes it.
func (c *Client) bound(ctx context.Context) func() {
	deadline, _ := ctx.Deadline()
	_ = c.conn.SetDeadline(deadline) // a closed connection says so when it is used
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

func (c *Client) ask(ctx context.Context, q request) (reply, error) {
	defer c.bound(ctx)()
	line, err := json.Marshal(q)
	if err != nil {
		return reply{}, fmt.Errorf("encode question: %w", err)
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return reply{}, fmt.Errorf("ask sidecar: %w", err)
	}
	return c.receive()
}

func (c *Client) receive() (reply, error) {
	line, err := c.readLine()
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return reply{}, io.EOF
		}
		return reply{}, fmt.Errorf("read from sidecar: %w", err)
	}
	return decode(line)
}

// maxAnswer bounds an answer: a full table of learned cookies takes some 7 MB. A sidecar
// that strangers have taken over shall not fill the memory of whoever asks.
const maxAnswer = 32 << 20

var errTooLong = errors.New("answer is too long")

func (c *Client) readLine() (line []byte, err error) {
	for {
		part, err := c.lines.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxAnswer:
			return nil, errTooLong
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}

func decode(line []byte) (reply, error) {
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return reply{}, fmt.Errorf("read from sidecar: %w", err)
	}
	if r.Error != "" {
		return reply{}, fmt.Errorf("%w: %s", ErrRefused, r.Error)
	}
	return r, nil
}

// Inheritance is what a sidecar got from the one before it. The sockets are the
// caller's to close.
type Inheritance struct {
	State            State
	Clients, Control *os.File
}

// Inherit asks a sidecar for its state and its sockets. It must be the first question
// of the connection.
func (c *Client) Inherit(ctx context.Context) (*Inheritance, error) {
	defer c.bound(ctx)()
	if _, err := c.conn.Write([]byte(`{"op":"handover"}` + "\n")); err != nil {
		return nil, fmt.Errorf("ask sidecar: %w", err)
	}
	var first [1]byte
	rights := make([]byte, unix.CmsgSpace(2*4))
	_, n, _, _, err := c.conn.ReadMsgUnix(first[:], rights)
	if err != nil {
		return nil, fmt.Errorf("receive sockets: %w", err)
	}
	files, err := socketsOf(rights[:n])
	if err != nil {
		return nil, err
	}
	line, err := c.readLine()
	if err != nil {
		closeAll(files)
		return nil, fmt.Errorf("receive state: %w", err)
	}
	r, err := decode(append(first[:], line...))
	if err != nil || r.State == nil || len(files) != 2 {
		closeAll(files)
		return nil, errors.Join(err, fmt.Errorf("%w: no state, or %d sockets", ErrRefused, len(files)))
	}
	return &Inheritance{State: *r.State, Clients: files[0], Control: files[1]}, nil
}

func socketsOf(control []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, fmt.Errorf("receive sockets: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("receive sockets: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "inherited"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // it was never used
	}
}
