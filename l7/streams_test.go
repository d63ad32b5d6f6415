package l7_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"qlbaas/tests/lab"
)

// serve starts an HTTP server as member i.
func (w *world) serve(i int, handler http.HandlerFunc) {
	w.t.Helper()
	l, err := w.members.Listen("tcp", fmt.Sprintf("%s:80", memberAddress(i)))
	w.must(err)
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is closed
	}()
	w.t.Cleanup(func() { server.Close(); <-done })
}

// held is a request that the member holds back until release is called, and then answers
// with the text.
func (w *world) held(text string) (conn *net.TCPConn, in *bufio.Reader, release func()) {
	w.t.Helper()
	released := make(chan struct{})
	w.serve(0, func(out http.ResponseWriter, _ *http.Request) {
		<-released
		fmt.Fprint(out, text)
	})
	conn, in = w.connect(w.context())
	_, err := io.WriteString(conn, get+"\r\n")
	w.must(err)
	return conn, in, func() { close(released) }
}

// awaitHeld waits until the sidecar has passed that request on.
func (w *world) awaitHeld() {
	w.t.Helper()
	w.await("the request", func() error {
		if w.stats().Pool.Members[0].Active != 1 {
			return errors.New("not there")
		}
		return nil
	})
}

// shadow is how many times its memory a sidecar takes.
var shadow = 1

// peak is the most memory that the sidecar has had resident, in bytes.
func (w *world) peak() int {
	w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.process.Pid()))
	w.must(err)
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kB, err := strconv.Atoi(strings.Fields(after)[0])
	w.must(err)
	return kB << 10
}

// Of chunks an eighth of the gigabyte has to do: they go through the same buffer.
const (
	gigabyte = 1 << 30
	inChunks = gigabyte / 8
)

func TestGigabyte(t *testing.T) {
	w := running(t, 1, basic(1))
	w.serve(0, func(out http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/known":
			out.Header().Set("Content-Length", strconv.Itoa(gigabyte))
			_, _ = io.CopyN(out, zeros{}, gigabyte)
		case "/chunked":
			_, _ = io.CopyN(out, zeros{}, inChunks)
		default:
			n, err := io.Copy(io.Discard, q.Body)
			fmt.Fprintf(out, "%d %v %v", n, err, q.TransferEncoding)
		}
	})
	client := w.client.HTTPClient(lab.HTTPOptions{KeepAlive: true})
	url := "http://" + vip.Addr().String()
	before := w.peak()
	for path, want := range map[string]int64{"/known": gigabyte, "/chunked": inChunks} {
		a, err := client.Get(url + path)
		w.must(err)
		n, err := io.Copy(io.Discard, a.Body)
		a.Body.Close()
		if n != want || err != nil {
			t.Errorf("%s: %d bytes, %v", path, n, err)
		}
	}
	for want, length := range map[string]int64{"1073741824 <nil> []": gigabyte, "134217728 <nil> [chunked]": -1} {
		size := max(length, inChunks)
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/up", io.LimitReader(zeros{}, size))
		w.must(err)
		q.ContentLength = length
		a, err := client.Do(q)
		w.must(err)
		body, err := io.ReadAll(a.Body)
		a.Body.Close()
		if string(body) != want || err != nil {
			t.Errorf("upload: %s, %v, want %s", body, err, want)
		}
	}
	if grown := w.peak() - before; grown > shadow*24<<20 {
		t.Errorf("bodies took %d MB of memory", grown>>20)
	}
	if s := w.stats().Pool.Members[0]; s.BytesIn < gigabyte+inChunks || s.BytesOut < gigabyte+inChunks {
		t.Errorf("counted %d in, %d out", s.BytesIn, s.BytesOut)
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// connect dials the VIP.
func (w *world) connect(ctx context.Context) (*net.TCPConn, *bufio.Reader) {
	w.t.Helper()
	conn, err := w.client.Dial(ctx, "tcp", vip.String())
	w.must(err)
	w.t.Cleanup(func() { conn.Close() })
	deadline, _ := ctx.Deadline()
	w.must(conn.SetDeadline(deadline))
	return conn.(*net.TCPConn), bufio.NewReader(conn)
}

// expect reads a head and wants its status line.
func (w *world) expect(in *bufio.Reader, status string) {
	w.t.Helper()
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if err != nil {
			w.t.Fatalf("wait for %s: %v after %q", status, err, line)
		}
		if first && !strings.Contains(line, status) {
			w.t.Fatalf("%q, want %s", line, status)
		}
		if line == "\r\n" {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	c := basic(1)
	c.Limits.Idle = time.Second // a tunnel that is used lives longer
	w := running(t, 1, c)
	w.serve(0, func(out http.ResponseWriter, q *http.Request) {
		conn, rw, err := http.NewResponseController(out).Hijack()
		if err != nil || q.Header.Get("Upgrade") != "websocket" || q.Header.Get("Connection") != "Upgrade" {
			http.Error(out, "no upgrade", http.StatusBadRequest)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		_, _ = io.Copy(conn, rw)
		_, _ = io.WriteString(conn, "bye")
	})
	conn, in := w.connect(w.context())
	_, err := io.WriteString(conn, get+"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n0")
	w.must(err)
	w.expect(in, "101")
	want := func(text string) {
		t.Helper()
		got := make([]byte, len(text))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != text {
			t.Fatalf("%q, %v, want %q", got, err, text)
		}
	}
	want("hello0")
	for i, tick := 1, time.NewTicker(200*time.Millisecond); i < 10; i++ {
		<-tick.C
		_, err := fmt.Fprint(conn, i)
		w.must(err)
		want(strconv.Itoa(i))
	}
	w.must(conn.CloseWrite())
	want("bye")
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	idle, in := w.connect(w.context())
	_, err = io.WriteString(idle, get+"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	w.must(err)
	w.expect(in, "101")
	want("hello")
	if _, err := in.ReadByte(); err == nil {
		t.Error("an idle tunnel goes on")
	}
}

func TestExpectation(t *testing.T) {
	w := running(t, 1, basic(1))
	w.serve(0, func(out http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/no" {
			http.Error(out, "no", http.StatusForbidden)
			return
		}
		body, _ := io.ReadAll(q.Body)
		fmt.Fprintf(out, "got %s", body)
	})
	conn, in := w.connect(w.context())
	const head = " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	_, err := io.WriteString(conn, "POST /yes"+head)
	w.must(err)
	w.expect(in, "100 Continue")
	_, err = io.WriteString(conn, "hello")
	w.must(err)
	w.expect(in, "200 OK")
	body := make([]byte, len("got hello"))
	if _, err := io.ReadFull(in, body); err != nil || string(body) != "got hello" {
		t.Fatalf("%q, %v", body, err)
	}
	_, err = io.WriteString(conn, "POST /no"+head)
	w.must(err)
	w.expect(in, "403")
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "no\n" {
		t.Errorf("after a refused expectation: %q, %v", rest, err)
	}
}

// A client that has ended its side gets its answer, however late.
func TestHalfClosed(t *testing.T) {
	w := running(t, 1, basic(1))
	conn, in, release := w.held("late")
	w.must(conn.CloseWrite())
	w.awaitHeld()
	release()
	w.expect(in, "200")
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "late" {
		t.Errorf("%q, %v", rest, err)
	}
}

// An answer that begins before the request has ended, and both go on.
func TestBothWaysAtOnce(t *testing.T) {
	w := running(t, 1, basic(1))
	w.serve(0, func(out http.ResponseWriter, q *http.Request) {
		control := http.NewResponseController(out)
		_ = control.EnableFullDuplex()
		out.WriteHeader(http.StatusOK)
		_ = control.Flush()
		buffer := make([]byte, 1)
		for {
			n, err := q.Body.Read(buffer)
			_, _ = out.Write(buffer[:n])
			_ = control.Flush()
			if err != nil {
				return
			}
		}
	})
	conn, in := w.connect(w.context())
	for round := range 2 {
		_, err := io.WriteString(conn, post+te+"\r\n")
		w.must(err)
		w.expect(in, "200")
		for range 5 {
			_, err := io.WriteString(conn, "1\r\nx\r\n")
			w.must(err)
			echo := make([]byte, len("1\r\nx\r\n"))
			if _, err := io.ReadFull(in, echo); err != nil || string(echo) != "1\r\nx\r\n" {
				t.Fatalf("round %d: %q, %v", round, echo, err)
			}
		}
		_, err = io.WriteString(conn, "0\r\n\r\n")
		w.must(err)
		end := make([]byte, len("0\r\n\r\n"))
		if _, err := io.ReadFull(in, end); err != nil || string(end) != "0\r\n\r\n" {
			t.Fatalf("round %d: %q, %v", round, end, err)
		}
	}
}

// A member that answers before it has read an endless body, and closes.
func TestEarlyAnswer(t *testing.T) {
	w := running(t, 1, basic(1))
	w.record(0, func(string) string { return "" })
	l, err := w.members.Listen("tcp", memberAddress(0).String()+":81")
	w.must(err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
			_, _ = io.CopyN(io.Discard, conn, 1<<16)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	c := basic(1)
	c.Generation++
	c.Pool.Members[0].ID, c.Pool.Members[0].Address = "early", l.Addr().(*net.TCPAddr).AddrPort()
	w.apply(c)
	conn, in := w.connect(w.context())
	go func() {
		_, _ = io.WriteString(conn, post+"Content-Length: 1000000000\r\n\r\n")
		_, _ = io.CopyN(conn, zeros{}, 1_000_000_000) // until it is refused
	}()
	w.expect(in, "413")
	body := make([]byte, 3)
	if _, err := io.ReadFull(in, body); err != nil || string(body) != "big" {
		t.Errorf("%q, %v", body, err)
	}
}
