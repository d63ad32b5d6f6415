package l7_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qlbaas/tests/lab"
)

// report says what was measured, for the scoreboard.
func report(t *testing.T, numbers map[string]any) {
	t.Helper()
	text, err := json.Marshal(numbers)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("scoreboard: %s", text)
}

// crowd is what those send who only want to occupy the balancer: most do not end a head,
// some do not end a body, some do not read their answer.
func crowd(i int) (request string) {
	switch {
	case i%10 == 8:
		return post + "Content-Length: 1000000\r\n\r\nx"
	case i%50 == 9:
		return "GET /large HTTP/1.1\r\nHost: h\r\n\r\n"
	}
	return "GET / HTTP/1.1\r\nX"
}

// 5,000 connections that stand still: others, behind the same address, are served all the
// time, and what is held is bounded.
func TestSlowloris(t *testing.T) {
	w := running(t, 1, basic(1))
	large := strings.Repeat("x", 4<<20)
	w.serve(0, func(out http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/large" {
			_, _ = io.WriteString(out, large)
		}
		_, _ = io.Copy(io.Discard, q.Body)
	})
	before := w.peak()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	const all = 5000
	begun := make(chan struct{}, all)
	for worker := range 50 {
		running.Go(func() {
			for i := range all / 50 {
				if conn, err := w.client.Dial(ctx, "tcp", vip.String()); err == nil {
					context.AfterFunc(ctx, func() { conn.Close() })
					_, _ = io.WriteString(conn, crowd(worker+i)) // may be cut at once
				}
				begun <- struct{}{}
			}
		})
	}
	for done := 0; done < all; {
		select {
		case <-begun:
			done++
		default:
			w.timed() // the crowd takes the processors as well: that it is served is enough
		}
	}
	var times []time.Duration
	for range 200 {
		times = append(times, w.timed())
	}
	w.await("the crowd's end", func() error {
		if s := w.stats().Proxy; s.Clients > 300+all/8 || s.Displaced < all*7/8-300 {
			return fmt.Errorf("%d clients held, %d displaced", s.Clients, s.Displaced)
		}
		return nil
	})
	slices.Sort(times)
	grown := w.peak() - before
	report(t, map[string]any{
		"slow_clients": all, "others": len(times), "others_p99_ms": times[len(times)*99/100].Milliseconds(), "memory_mb": grown >> 20,
	})
	if grown > shadow*100<<20 {
		t.Errorf("memory grew by %d MB", grown>>20)
	}
}

// timed is how long an honest client waits for its answer.
func (w *world) timed() time.Duration {
	w.t.Helper()
	start := time.Now()
	if a, body := w.get(w.client.HTTPClient(lab.HTTPOptions{}), "/who", nil); a.StatusCode != http.StatusOK {
		w.t.Fatalf("%d %s", a.StatusCode, body)
	}
	return time.Since(start)
}

// 200 heads at once that are as large as they can be: none costs more than its bound.
func TestHugeHeads(t *testing.T) {
	w := running(t, 1, basic(1))
	w.nginx(1)
	heads := map[string]struct{ head, status string }{
		"1 MB":             {get + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", "431"},
		"10,000 lines":     {get + strings.Repeat("a: b\r\n", 10_000) + "\r\n", "431"},
		"3,001 cookies":    {get + "Cookie: " + strings.Repeat("a=b; ", 3000) + "c=d\r\n\r\n", ""},
		"cookie of 64 kB":  {get + "Cookie: a=" + strings.Repeat("b", 64<<10) + "\r\n\r\n", "431"},
		"10,000 arguments": {"GET /?" + strings.Repeat("a=b&", 10_000) + " HTTP/1.1\r\nHost: h\r\n\r\n", "431"},
	}
	before := w.peak()
	var running sync.WaitGroup
	for range 40 {
		for name, c := range heads {
			running.Go(func() {
				got, err := w.say(w.context(), c.head)
				if err != nil || !strings.HasPrefix(got, "HTTP/1.") || c.status != "" && !strings.Contains(got[:16], c.status) {
					t.Errorf("%s: %.40q, %v, want %s", name, got, err, c.status)
				}
			})
		}
	}
	running.Wait()
	grown := w.peak() - before
	report(t, map[string]any{"huge_heads": 40 * len(heads), "huge_heads_memory_mb": grown >> 20})
	if grown > shadow*50<<20 {
		t.Errorf("memory grew by %d MB", grown>>20)
	}
}
