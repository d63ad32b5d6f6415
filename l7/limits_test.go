package l7_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qlbaas/l7/cookie"
	"qlbaas/l7/pool"
	"qlbaas/tests/lab"
)

func TestTimeouts(t *testing.T) {
	c := basic(1)
	c.Limits.Idle, c.Limits.Head = 500*time.Millisecond, 300*time.Millisecond
	w := running(t, 1, c)
	stuck := make(chan struct{})
	w.serve(0, func(out http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/stuck" {
			<-stuck
		}
		if q.URL.Path == "/half" {
			out.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(out, "half")
			_ = http.NewResponseController(out).Flush()
			<-stuck
		}
		_, _ = io.Copy(io.Discard, q.Body)
	})
	t.Cleanup(func() { close(stuck) })
	var running sync.WaitGroup
	for name, c := range map[string]struct {
		send   string
		status []int
	}{
		"nothing":          {"", []int{408}},
		"half a head":      {get + "X: ", []int{408}},
		"half a body":      {post + "Content-Length: 5\r\n\r\nhel", []int{408}},
		"half of chunks":   {post + te + "\r\n5\r\nhe", []int{408}},
		"silent member":    {"GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n", []int{504}},
		"nothing more":     {get + "\r\n", []int{200}},
		"half of an other": {get + "\r\n" + get, []int{200, 408}},
	} {
		conn, in := w.connect(w.context())
		_, err := io.WriteString(conn, c.send)
		w.must(err)
		running.Go(func() {
			got, err := io.ReadAll(in)
			if all, _ := statuses(string(got)); !slices.Equal(all, c.status) || err != nil {
				t.Errorf("%s: %v, %v, want %v", name, all, err, c.status)
			}
		})
	}
	running.Wait()
	conn, in := w.connect(w.context())
	_, err := io.WriteString(conn, "GET /half HTTP/1.1\r\nHost: h\r\n\r\n")
	w.must(err)
	if got, err := io.ReadAll(in); err == nil || !strings.HasSuffix(string(got), "half") {
		t.Errorf("half an answer: %q, %v", got, err)
	}
	if s := w.stats().Proxy; s.Slow != 5 || s.Late != 1 {
		t.Errorf("counted %d slow, %d late", s.Slow, s.Late)
	}
}

// Many clients behind one address are told apart by their cookies, and their idle
// connections are nobody's harm.
func TestManyClientsOfOneSource(t *testing.T) {
	c := basic(4)
	w := running(t, 4, c)
	w.nginx(4)
	got := map[string]int{}
	var mu sync.Mutex
	var running sync.WaitGroup
	for range 400 {
		running.Go(func() {
			client := w.client.HTTPClient(lab.HTTPOptions{KeepAlive: true})
			a, first := w.get(client, "/who", nil)
			session, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
			for range 3 {
				if _, again := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", session) }); again != first {
					t.Errorf("%s after %s", again, first)
				}
			}
			mu.Lock()
			got[first]++
			mu.Unlock()
		})
	}
	running.Wait()
	for i := range 4 {
		if name := fmt.Sprint("m", i); got[name] != 100 {
			t.Errorf("%s has %d of 400 clients", name, got[name])
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	c := basic(1)
	c.Limits.Connections = 2
	w := running(t, 1, c)
	w.nginx(1)
	var held []io.Closer
	for range 2 {
		conn, in := w.connect(w.context())
		_, err := io.WriteString(conn, "GET /who HTTP/1.1\r\nHost: h\r\n\r\n")
		w.must(err)
		w.expect(in, "200")
		held = append(held, conn)
	}
	conn, in := w.connect(w.context())
	_, err := io.WriteString(conn, "GET /who HTTP/1.1\r\nHost: h\r\n\r\n")
	w.must(err)
	w.must(conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)))
	if b, err := in.ReadByte(); err == nil {
		t.Fatalf("the third client has %q", b)
	}
	w.must(conn.SetReadDeadline(time.Now().Add(bound)))
	w.must(held[0].Close())
	w.expect(in, "200")
	more, in := w.connect(w.context())
	_, err = io.WriteString(more, "GET /who HTTP/1.1\r\nHost: h\r\n\r\n")
	w.must(err)
	c.Generation++
	c.Limits.Connections = -1
	w.apply(c)
	w.expect(in, "200")
}

// Least connections counts what is under way, per request, whatever connection it came by.
func TestLeastConnectionsCountsRequests(t *testing.T) {
	c := basic(2)
	c.Pool.Method, c.Pool.Persistence = pool.LeastConnections, pool.NoPersistence
	w := running(t, 2, c)
	release := make(chan struct{})
	for i := range 2 {
		w.serve(i, func(out http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/hold" {
				<-release
			}
			fmt.Fprintf(out, "m%d", i)
		})
	}
	client := w.client.HTTPClient(lab.HTTPOptions{KeepAlive: true})
	var running sync.WaitGroup
	running.Go(func() { w.get(client, "/hold", nil) })
	w.await("the held request", func() error {
		if w.stats().Pool.Members[0].Active != 1 {
			return errors.New("not there")
		}
		return nil
	})
	for range 5 {
		if _, body := w.get(client, "/who", nil); body != "m1" {
			t.Errorf("%s is chosen while m0 is busy", body)
		}
	}
	close(release)
	running.Wait()
}

// What runs at a member that was taken away may end, until its time is over.
func TestDrain(t *testing.T) {
	c := basic(2)
	w := running(t, 2, c)
	release := make(chan struct{})
	for i := range 2 {
		w.serve(i, func(out http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/hold" {
				_ = http.NewResponseController(out).Flush()
				<-release
			}
			fmt.Fprintf(out, "m%d", i)
		})
	}
	hold := func() (io.Reader, io.Closer) {
		conn, in := w.connect(w.context())
		_, err := io.WriteString(conn, "GET /hold HTTP/1.0\r\nCookie: SRV="+cookie.Value(c.Pool.Keys[0], "m0")+"\r\n\r\n")
		w.must(err)
		w.expect(in, "200")
		return in, conn
	}
	first, _ := hold()
	c.Generation++
	c.Pool.Members[0].AdminUp = false
	w.apply(c)
	client := w.client.HTTPClient(lab.HTTPOptions{})
	for range 4 {
		if _, body := w.get(client, "/who", nil); body != "m1" {
			t.Errorf("%s serves a new client", body)
		}
	}
	close(release)
	if rest, err := io.ReadAll(first); string(rest) != "m0" || err != nil {
		t.Errorf("what was under way: %q, %v", rest, err)
	}
	release = make(chan struct{})
	defer close(release)
	c.Generation++
	c.Pool.Members[0].AdminUp = true
	w.apply(c)
	second, _ := hold()
	c.Generation++
	c.Pool.DrainTimeout = time.Second
	c.Pool.Members = c.Pool.Members[1:]
	w.apply(c)
	if rest, err := io.ReadAll(second); err == nil {
		t.Errorf("behind its time it ended with %q", rest)
	}
	if s := w.stats().Pool; s.Past.Requests != 2 {
		t.Errorf("the share of the member that is gone: %+v", s.Past)
	}
}
