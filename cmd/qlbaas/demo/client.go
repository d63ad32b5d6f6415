package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"qlbaas/tests/lab"
)

// The VIP, as clients know it.
const (
	vipAddress = "172.16.100.11:80"
	vipURL     = "http://172.16.100.11/"
)

// answer is what became of one request.
type answer struct {
	began time.Time
	took  time.Duration
	who   string // the member's name, when err is nil
	err   error
}

// ask sends one request over a new connection and waits at most bound.
//
// Why not http.Client: it lets a connection that took too long come about later, for
// the next request, and that one would take a turn that nobody has asked for.
func ask(ctx context.Context, from *lab.Host, bound time.Duration) answer {
	return askAt(ctx, from, vipAddress, bound)
}

// askAt asks at another address than the VIP.
func askAt(ctx context.Context, from *lab.Host, address string, bound time.Duration) answer {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	a := answer{began: time.Now()}
	a.who, a.err = askOnce(ctx, from, address)
	a.took = time.Since(a.began)
	return a
}

func askOnce(ctx context.Context, from *lab.Host, address string) (who string, err error) {
	conn, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close() // the answer has been read, or does not matter
	return exchange(ctx, conn, bufio.NewReader(conn), true)
}

// exchange sends a request on a connection, the last one if it says so, and reads
// the answer.
func exchange(ctx context.Context, conn net.Conn, in *bufio.Reader, last bool) (who string, err error) {
	deadline := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("set deadline: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, vipURL, nil)
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	request.Close = last
	if err := request.Write(conn); err != nil {
		return "", fmt.Errorf("send request: %w", err)
	}
	response, err := http.ReadResponse(in, request)
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("answered %s", response.Status)
	}
	return strings.TrimSpace(string(body)), nil
}

// askTimes asks n times, one after the other, and fails with the first request that
// nobody answers.
func askTimes(ctx context.Context, from *lab.Host, n int) (who []string, err error) {
	for i := range n {
		a := ask(ctx, from, patience)
		if a.err != nil {
			return who, fmt.Errorf("request %d of %d: %w", i+1, n, a.err)
		}
		who = append(who, a.who)
	}
	return who, nil
}

// get is the command of that name: it asks from a namespace and prints each answer.
func get(ctx context.Context, w io.Writer, from, url string, n int) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = lab.Within(from, func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	for range n {
		ctx, cancel := context.WithTimeout(ctx, patience)
		_, body, err := lab.Get(ctx, client, url)
		cancel()
		if err != nil {
			return err
		}
		fmt.Fprint(w, body)
	}
	return nil
}

// held is a connection to the VIP that stays open; it is never replaced by another.
type held struct {
	conn net.Conn
	in   *bufio.Reader
}

func newHeld(conn net.Conn) *held { return &held{conn: conn, in: bufio.NewReader(conn)} }

// hold opens connections from the client until one leads to the member, and keeps
// that.
func (d *demo) hold(ctx context.Context, member string) (*held, error) {
	for range 2 * members {
		conn, err := d.client().Dial(ctx, "tcp", vipAddress)
		if err != nil {
			return nil, err
		}
		d.completed++
		h := newHeld(conn)
		who, err := h.ask(ctx)
		if err == nil && who == member {
			return h, nil
		}
		if err := errors.Join(err, conn.Close()); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no connection led to %s", member)
}

// ask sends one request on the held connection.
func (h *held) ask(ctx context.Context) (who string, err error) {
	if who, err = exchange(ctx, h.conn, h.in, false); err != nil {
		return "", fmt.Errorf("ask on the open connection: %w", err)
	}
	return who, nil
}

// mustBe asks on the held connection and fails unless the member answers.
func (h *held) mustBe(ctx context.Context, member string) error {
	who, err := h.ask(ctx)
	if err == nil && who != member {
		err = fmt.Errorf("the open connection is answered by %s, want %s", who, member)
	}
	return err
}

func (h *held) Close() error { return h.conn.Close() }
