package l7_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"testing"

	"qlbaas/l7/cookie"
	"qlbaas/l7/pool"
	"qlbaas/tests/lab"
)

// get asks with a client and returns the whole answer.
func (w *world) get(client *http.Client, path string, change func(*http.Request)) (*http.Response, string) {
	w.t.Helper()
	q, err := http.NewRequestWithContext(w.context(), http.MethodGet, "http://"+vip.Addr().String()+path, nil)
	w.must(err)
	if change != nil {
		change(q)
	}
	a, err := client.Do(q)
	w.must(err)
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	w.must(err)
	return a, strings.TrimSpace(string(body))
}

func TestSidecarIsLockedIn(t *testing.T) {
	w := running(t, 1, basic(1))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.process.Pid()))
	w.must(err)
	for _, want := range []string{"Uid:\t64123\t64123\t64123\t64123", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", w.process.Pid()))
	w.must(err)
	for _, task := range tasks {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", w.process.Pid(), task.Name()))
		if err == nil && !strings.Contains(string(status), "Seccomp:\t2") {
			t.Errorf("thread %s is free", task.Name())
		}
	}
}

func TestCookieJar(t *testing.T) {
	w := running(t, 3, basic(3))
	w.nginx(3)
	for _, keepAlive := range []bool{false, true} {
		plain := w.client.HTTPClient(lab.HTTPOptions{KeepAlive: keepAlive})
		for i := range 6 {
			a, body := w.get(plain, "/who", nil)
			if want := fmt.Sprint("m", i%3); body != want {
				t.Errorf("request %d without cookie: %s, want %s", i, body, want)
			}
			want := "SRV=" + cookie.Value(w.config.Pool.Keys[0], body) + "; path=/; HttpOnly; SameSite=Lax"
			if got := a.Header.Get("Set-Cookie"); got != want {
				t.Errorf("Set-Cookie %q, want %q", got, want)
			}
			if got := a.Header.Get("Cache-Control"); got != "private" {
				t.Errorf("Cache-Control %q", got)
			}
		}
		kept := w.client.HTTPClient(lab.HTTPOptions{KeepAlive: keepAlive})
		jar, err := cookiejar.New(nil)
		w.must(err)
		kept.Jar = jar
		_, first := w.get(kept, "/who", nil)
		for range 5 {
			a, body := w.get(kept, "/who", nil)
			if body != first || a.Header.Get("Set-Cookie") != "" || a.Header.Get("Cache-Control") != "" {
				t.Errorf("with its cookie %s after %s, headers %v", body, first, a.Header)
			}
		}
		// The next one without a cookie goes on where the others were.
		for range 2 {
			w.get(plain, "/who", nil)
		}
	}
}

func TestMemberSeesNoCookieOfOurs(t *testing.T) {
	w := running(t, 1, basic(1))
	w.nginx(1)
	client := w.client.HTTPClient(lab.HTTPOptions{})
	_, body := w.get(client, "/echo", func(q *http.Request) {
		q.Header.Set("Cookie", "a=b; SRV=deadbeef; c=d")
		q.Header.Set("X-Forwarded-For", "192.0.2.7")
	})
	if want := "GET 10.1.0.1 [a=b; c=d] [192.0.2.7, 10.1.0.2] 10.1.0.1"; body != want {
		t.Errorf("the member sees %q, want %q", body, want)
	}
	_, body = w.get(client, "/echo", func(q *http.Request) { q.Header.Set("Cookie", "SRV=deadbeef") })
	if want := "GET 10.1.0.1 [] [10.1.0.2] 10.1.0.1"; body != want {
		t.Errorf("the member sees %q, want %q", body, want)
	}
}

func TestAppCookie(t *testing.T) {
	c := basic(3)
	c.Pool.Persistence, c.Pool.CookieName, c.Pool.Keys = pool.AppCookie, "SID", nil
	w := running(t, 3, c)
	w.nginx(3)
	client := w.client.HTTPClient(lab.HTTPOptions{KeepAlive: true})
	a, owner := w.get(client, "/session", nil)
	session, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	value := strings.TrimPrefix(session, "SID=")
	for i := range 4 {
		_, byCookie := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", session) })
		_, byPath := w.get(client, "/who;SID="+value, nil)
		if byCookie != owner || byPath != owner {
			t.Errorf("request %d of %s's session: by cookie %s, by path %s", i, owner, byCookie, byPath)
		}
	}
	c.Generation++
	c.Pool.Method = pool.LeastConnections
	w.apply(c)
	for range 3 {
		if _, got := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", session) }); got != owner {
			t.Errorf("after a change: %s, want %s", got, owner)
		}
	}
	seen := map[string]bool{}
	for range 3 {
		_, got := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", "SID=unknown") })
		seen[got] = true
	}
	if len(seen) != 3 {
		t.Errorf("an unknown value is learned: %v", seen)
	}
}

func TestNobodyServes(t *testing.T) {
	c := basic(2)
	w := running(t, 2, c)
	w.nginx(2)
	client := w.client.HTTPClient(lab.HTTPOptions{})
	value := cookie.Value(c.Pool.Keys[0], "m1")
	ask := func(with string) (int, string) {
		a, body := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", "SRV="+with) })
		return a.StatusCode, body
	}
	c.Generation++
	c.Pool.Members[0].Weight, c.Pool.Members[1].Weight = 0, 0
	w.apply(c)
	if status, _ := ask("none"); status != http.StatusServiceUnavailable {
		t.Errorf("all weights 0: %d", status)
	}
	if status, body := ask(value); status != http.StatusOK || body != "m1" {
		t.Errorf("all weights 0, with a cookie: %d %s", status, body)
	}
	c.Generation++
	c.Pool.Members[0].Weight = 1
	c.Pool.Members[1].AdminUp = false
	w.apply(c)
	if status, body := ask(value); status != http.StatusOK || body != "m0" {
		t.Errorf("its member is admin-down: %d %s", status, body)
	}
	c.Generation++
	c.Pool.AdminUp = false
	w.apply(c)
	a, body := w.get(client, "/who", nil)
	if a.StatusCode != http.StatusServiceUnavailable || a.Proto != "HTTP/1.0" || !strings.Contains(body, "No server is available") ||
		a.Header.Get("Cache-Control") != "no-cache" || a.Header.Get("Content-Type") != "text/html" {
		t.Errorf("pool admin-down: %s %d %v %q", a.Proto, a.StatusCode, a.Header, body)
	}
}

// A member that refuses is passed by, and its client gets a new cookie.
func TestRefusedConnection(t *testing.T) {
	w := running(t, 3, basic(3))
	w.nginx(2) // nobody listens at m2
	client := w.client.HTTPClient(lab.HTTPOptions{})
	for range 6 {
		if a, body := w.get(client, "/who", nil); a.StatusCode != http.StatusOK {
			t.Errorf("%d %s", a.StatusCode, body)
		}
	}
	value := cookie.Value(w.config.Pool.Keys[0], "m2")
	a, body := w.get(client, "/who", func(q *http.Request) { q.Header.Set("Cookie", "SRV="+value) })
	if a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Header.Get("Set-Cookie"), "SRV="+cookie.Value(w.config.Pool.Keys[0], body)) {
		t.Errorf("persistent client of a member that refuses: %d %s %v", a.StatusCode, body, a.Header)
	}
	if failures := w.stats().Pool.Members[2].Failures; failures == 0 {
		t.Error("refusals are not counted")
	}
}
