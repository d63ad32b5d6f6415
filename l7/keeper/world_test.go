package keeper_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/control"
	"qlbaas/l7/keeper"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// client 10.1.0.2 ── 10.1.0.1 balancer 10.2.0.1 ── members 10.2.0.10, .11
var vip = netip.MustParseAddrPort("10.1.0.1:80")

const (
	id    = "3b1c5a3e-5d0c-4b59-8d6d-000000000001"
	bound = 30 * time.Second // for what must happen
	// mended is how long a crash or a hang may last.
	mended = time.Second
)

// world is a keeper with a client and members around it.
type world struct {
	t                         *testing.T
	client, balancer, members *lab.Host
	elsewhere                 *lab.Host
	dir                       string
	webs                      []*lab.Web
	keeper                    *keeper.Keeper
	changed                   chan string
	looks                     atomic.Int64 // into the space
	log                       *labtest.Log
}

// Inside implements keeper.Spaces: there is one space, unless the test says otherwise.
func (w *world) Inside(_ string, fn func() error) error {
	w.looks.Add(1)
	if w.elsewhere != nil {
		return w.elsewhere.Do(fn)
	}
	return w.balancer.Do(fn)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	l := labtest.New(t)
	dir, err := os.MkdirTemp("", "keeper") // short, for the sockets' sake
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, changed: make(chan string, 100), log: &labtest.Log{}}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, host := range map[string]**lab.Host{"client": &w.client, "lb": &w.balancer, "members": &w.members} {
		h, err := l.Host(name)
		w.must(err)
		*host = h
	}
	link := func(host *lab.Host, device, theirs string, ours ...string) {
		var places []netip.Prefix
		for _, a := range ours {
			places = append(places, netip.MustParsePrefix(a))
		}
		w.must(l.Link(lab.End{Host: host, Device: "eth0", Addresses: places},
			lab.End{Host: w.balancer, Device: device, Addresses: []netip.Prefix{netip.MustParsePrefix(theirs)}}, 0))
	}
	link(w.client, "out", "10.1.0.1/24", "10.1.0.2/24")
	link(w.members, "in", "10.2.0.1/24", "10.2.0.10/24", "10.2.0.11/24")
	w.must(w.members.AddRoute(netip.MustParsePrefix("10.1.0.0/24"), netip.MustParseAddr("10.2.0.1")))
	for i := range 2 {
		web, err := w.members.StartWeb(lab.WebOptions{Name: fmt.Sprint("m", i), Address: memberAddress(i)})
		w.must(err)
		w.webs = append(w.webs, web)
	}
	t.Cleanup(func() {
		if w.keeper != nil {
			w.must(w.keeper.Remove(context.Background(), id))
			w.keeper.Close()
		}
		if t.Failed() {
			t.Logf("the keeper says:\n%s", w.log)
		}
	})
	return w
}

func memberAddress(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, byte(10 + i)}), 80)
}

// open makes a keeper that starts sidecars of a version.
func (w *world) open(version string, more ...string) {
	w.t.Helper()
	exe, err := os.Executable()
	w.must(err)
	w.keeper, err = keeper.New(w.context(), keeper.Options{
		Spaces: w, RunDir: w.dir, Command: append([]string{exe, "l7", "-version", version}, more...), Version: version,
		Log:     slog.New(slog.NewTextHandler(w.log, nil)),
		Changed: func(id string) { w.changed <- id },
	})
	w.must(err)
}

// running is a world with a sidecar.
func running(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.open("1")
	w.must(w.keeper.Ensure(w.context(), id, vip, basic()))
	return w
}

func basic() control.Config {
	c := control.Config{Limits: proxy.Limits{Connections: -1}, Pool: pool.Config{
		AdminUp: true, Method: pool.RoundRobin, Persistence: pool.HTTPCookie, Keys: [][]byte{[]byte("0123456789abcdef")},
	}}
	for i := range 2 {
		c.Pool.Members = append(c.Pool.Members, pool.MemberConfig{
			ID: fmt.Sprint("m", i), Address: memberAddress(i), Weight: 1, AdminUp: true, Up: true,
		})
	}
	return c
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), bound)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) pid() int {
	info, _ := w.keeper.Info(id)
	return info.PID
}

func (w *world) path(kind string) string { return filepath.Join(w.dir, "l7", id+"."+kind) }

// get asks once, over a new connection.
func (w *world) get(ctx context.Context) (string, error) {
	status, body, err := lab.Get(ctx, w.client.HTTPClient(lab.HTTPOptions{}), "http://"+vip.Addr().String()+"/")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, body)
	}
	return strings.TrimSpace(body), err
}

func (w *world) mustGet() string {
	w.t.Helper()
	body, err := w.get(w.context())
	w.must(err)
	return body
}

// await waits until f returns nil.
func (w *world) await(what string, f func() error) {
	w.t.Helper()
	if _, err := labtest.Eventually(bound, f); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// awaitMended waits for another process than old, and tells how long that took.
func (w *world) awaitMended(old int) time.Duration {
	w.t.Helper()
	start := time.Now()
	w.await("a new sidecar", func() error {
		if now := w.pid(); now == 0 || now == old {
			return fmt.Errorf("it is process %d", now)
		}
		return nil
	})
	return time.Since(start)
}

// awaitChanged waits until the keeper tells of a change.
func (w *world) awaitChanged() {
	w.t.Helper()
	select {
	case <-w.changed:
	case <-w.context().Done():
		w.t.Fatal("the keeper tells of no change")
	}
}

// load asks over and over by new connections until stop is called.
func (w *world) load() (stop func() (requests int64, failures []error)) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	var count atomic.Int64
	var mu sync.Mutex
	var failures []error
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				_, err := w.get(context.WithoutCancel(ctx))
				count.Add(1)
				if err != nil {
					mu.Lock()
					failures = append(failures, err)
					mu.Unlock()
				}
			}
		})
	}
	return func() (int64, []error) { cancel(); running.Wait(); return count.Load(), failures }
}

// lasting is a connection with an answered request.
type lasting struct {
	net.Conn
	in *bufio.Reader
}

func (w *world) connect() *lasting {
	w.t.Helper()
	conn, err := w.client.Dial(w.context(), "tcp", vip.String())
	w.must(err)
	w.t.Cleanup(func() { conn.Close() })
	l := &lasting{conn, bufio.NewReader(conn)}
	w.must(l.ask())
	return l
}

func (l *lasting) ask() error {
	if _, err := io.WriteString(l, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

func (w *world) signal(pid int, s unix.Signal) {
	w.t.Helper()
	w.must(unix.Kill(pid, s))
}

// hang stops a process and waits until all of its threads have stopped.
func (w *world) hang(pid int) {
	w.t.Helper()
	w.signal(pid, unix.SIGSTOP)
	w.await("all threads to stop", func() error { return lab.Stopped(pid) })
}

// counted is what the sidecars have counted.
func (w *world) counted() control.Stats {
	w.t.Helper()
	s, ok := w.keeper.Stats(id)
	if !ok {
		w.t.Fatal("there are no counters")
	}
	return s
}

// giveCookies makes the members give everybody a cookie of the application's.
func (w *world) giveCookies() {
	w.t.Helper()
	for i, web := range w.webs {
		w.must(web.Close())
		l, err := w.members.Listen("tcp", memberAddress(i).String())
		w.must(err)
		server := &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			http.SetCookie(out, &http.Cookie{Name: "SID", Value: "of-somebody"})
		})}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(l) }) // fails when it is closed
		w.t.Cleanup(func() { server.Close(); serving.Wait() })
	}
}
