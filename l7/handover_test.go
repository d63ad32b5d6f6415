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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/control"
	"qlbaas/l7/pool"
	"qlbaas/tests/lab"
)

// load asks over and over, with new and with lasting connections, until stop is called,
// which tells how many requests there were and which failed.
func (w *world) load() (stop func() (requests int64, failures []error)) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	var count atomic.Int64
	var mu sync.Mutex
	var failures []error
	for i := range 8 {
		client := w.client.HTTPClient(lab.HTTPOptions{KeepAlive: i%2 == 0})
		running.Go(func() {
			for ctx.Err() == nil {
				status, body, err := lab.Get(context.WithoutCancel(ctx), client, "http://"+vip.Addr().String()+"/who")
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("%d %s", status, body)
				}
				if err != nil {
					mu.Lock()
					failures = append(failures, err)
					mu.Unlock()
				}
				count.Add(1)
			}
		})
	}
	return func() (int64, []error) {
		cancel()
		running.Wait()
		return count.Load(), failures
	}
}

// succeed starts a sidecar behind the running one, and returns the old process.
func (w *world) succeed() *lab.Process {
	w.t.Helper()
	conn, err := net.Dial("unix", w.path())
	w.must(err)
	file, err := conn.(*net.UnixConn).File()
	w.must(err)
	w.must(conn.Close())
	old := w.process
	w.process = w.launch([]string{sidecarEnv + "_AFTER=1"}, file)
	w.await("the successor", func() error {
		client, err := control.Dial(w.context(), w.path())
		if err != nil {
			return err
		}
		defer client.Close()
		s, err := client.Stats(w.context())
		if err == nil && s.PID != w.process.Pid() {
			err = fmt.Errorf("process %d answers", s.PID)
		}
		return err
	})
	return old
}

func TestHandover(t *testing.T) {
	c := basic(2)
	c.Limits.Idle = 3 * time.Second // clients may leave connections behind, and the old one waits for those
	c.Pool.Persistence, c.Pool.CookieName, c.Pool.Keys = pool.AppCookie, "SID", nil
	w := running(t, 2, c)
	w.nginx(2)
	client := w.client.HTTPClient(lab.HTTPOptions{})
	a, owner := w.get(client, "/session", nil)
	session, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	long, in := w.connect(w.context()) // lives in the old process until its next request
	_, err := io.WriteString(long, "GET /who HTTP/1.1\r\nHost: h\r\n\r\n")
	w.must(err)
	w.expect(in, "200")
	_, err = in.Discard(len("m0\n"))
	w.must(err)
	stop := w.load()
	late := 0
	for range 3 {
		old := w.succeed()
		late += w.learnedLate(long, in)
		long, in = w.connect(w.context())
		_, err = io.WriteString(long, "GET /who HTTP/1.1\r\nHost: h\r\n\r\n")
		w.must(err)
		w.expect(in, "200")
		_, err = in.Discard(len("m0\n"))
		w.must(err)
		w.must(old.Wait(w.context()))
	}
	requests, failures := stop()
	for i, err := range failures {
		if i < 5 {
			t.Errorf("request: %v", err)
		}
	}
	t.Logf("%d requests, %d failures", requests, len(failures))
	for range 4 {
		if _, got := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", session) }); got != owner {
			t.Errorf("the session of %s is now at %s", owner, got)
		}
	}
	_ = long.Close()
	w.await("the counters", func() error {
		s := w.stats()
		counted := s.Pool.Past.Requests
		for _, m := range s.Pool.Members {
			counted += m.Requests
		}
		// /session, the first /who, three on lasting connections, four at the end.
		if want := uint64(requests+int64(late)) + 1 + 1 + 3 + 4; counted != want || s.Proxy.Requests != want {
			return fmt.Errorf("%d requests given, %d taken, want %d", counted, s.Proxy.Requests, want)
		}
		return nil
	})
	if s := w.stats(); s.Generation != c.Generation {
		t.Errorf("generation %d, want %d", s.Generation, c.Generation)
	}
}

// learnedLate begins a session in the old process, and wants the new one to know it. It
// returns how many requests that took.
func (w *world) learnedLate(old net.Conn, in *bufio.Reader) (requests int) {
	w.t.Helper()
	_, err := io.WriteString(old, "GET /session HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
	w.must(err)
	a, err := http.ReadResponse(in, nil)
	w.must(err)
	owner, err := io.ReadAll(a.Body)
	w.must(err)
	if !a.Close {
		w.t.Error("a retired sidecar keeps its clients")
	}
	session, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	client := w.client.HTTPClient(lab.HTTPOptions{})
	requests, right := 1, 0
	w.await("the session to be known", func() error {
		requests++
		_, got := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", session) })
		if got != strings.TrimSpace(string(owner)) {
			right = 0
			return fmt.Errorf("it is at %s, not %s", got, owner)
		}
		if right++; right < 4 { // once may be chance
			return errors.New("not sure yet")
		}
		return nil
	})
	return requests
}

// The socket outlives a sidecar that dies: its clients wait for the next one.
func TestCrash(t *testing.T) {
	w := running(t, 1, basic(1))
	w.nginx(1)
	w.must(w.process.Signal(unix.SIGKILL))
	<-w.process.Exited()
	answered := make(chan error, 1)
	client := w.client.HTTPClient(lab.HTTPOptions{})
	go func() {
		status, body, err := lab.Get(w.context(), client, "http://"+vip.Addr().String()+"/who")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		answered <- err
	}()
	w.start()
	w.apply(w.config)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// Who controls finds out that a sidecar hangs by asking.
func TestHang(t *testing.T) {
	w := running(t, 1, basic(1))
	client := w.dial()
	defer client.Close()
	w.must(w.process.Signal(unix.SIGSTOP))
	w.await("all threads to stop", func() error { return lab.Stopped(w.process.Pid()) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Stats(ctx); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stopped sidecar says %v", err)
	}
	w.must(w.process.Signal(unix.SIGCONT))
}

func TestEnd(t *testing.T) {
	w := running(t, 1, basic(1))
	_, in, release := w.held("done")
	w.awaitHeld()
	w.must(w.process.Signal(unix.SIGTERM))
	release()
	w.expect(in, "200")
	if rest, err := io.ReadAll(in); string(rest) != "done" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	w.must(w.process.Wait(w.context()))
}

func TestControl(t *testing.T) {
	w := running(t, 2, basic(2))
	client := w.dial()
	defer client.Close()
	c := w.config
	c.Generation = 7
	w.must(client.Apply(w.context(), c))
	c.Generation = 6
	if err := client.Apply(w.context(), c); !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), "stale") {
		t.Errorf("an older generation: %v", err)
	}
	if s := w.stats(); s.Generation != 7 || s.Version != "test" || s.PID != w.process.Pid() {
		t.Errorf("stats %+v", s)
	}
	bad := c
	bad.Generation, bad.Pool.Method = 8, "RANDOM"
	if err := client.Apply(w.context(), bad); !errors.Is(err, control.ErrRefused) {
		t.Errorf("a bad configuration: %v", err)
	}
	if err := client.SetUp(w.context(), "nobody", true); !errors.Is(err, control.ErrRefused) {
		t.Errorf("an unknown member: %v", err)
	}
	w.must(client.SetUp(w.context(), "m1", false))
	if s, err := client.Stats(w.context()); err != nil || s.Generation != 7 || s.Pool.Members[1].Up || !s.Pool.Members[0].Up {
		t.Errorf("stats %+v, %v", s, err)
	}
	// Another agent may begin anywhere.
	w.apply(c)
	if s := w.stats(); s.Generation != 6 {
		t.Errorf("generation %d", s.Generation)
	}
	raw, err := net.Dial("unix", w.path())
	w.must(err)
	defer raw.Close()
	_, err = io.WriteString(raw, "{\"op\":\"dance\"}\nnonsense\n")
	w.must(err)
	if got, err := io.ReadAll(raw); err != nil || strings.Count(string(got), "error") != 2 {
		t.Errorf("%s, %v", got, err)
	}
}
