package l7_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qlbaas/l7/control"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// The network of a sidecar. Its address toward the clients is a member's client as well.
//
//	client 10.1.0.2 ── 10.1.0.1 balancer 10.2.0.1 ── members 10.2.0.10 …
var (
	vip     = netip.MustParseAddrPort("10.1.0.1:80")
	outside = netip.MustParsePrefix("10.1.0.1/24")
	inside  = netip.MustParsePrefix("10.2.0.1/24")
)

const (
	sidecarUID = 64123
	bound      = 30 * time.Second // for what must happen
)

// world is a sidecar with a client and members around it.
type world struct {
	t                         *testing.T
	client, balancer, members *lab.Host
	dir                       string
	process                   *lab.Process
	log                       *labtest.Log
	clients                   *net.TCPListener
	control                   *net.UnixListener
	config                    control.Config
	from                      netip.Addr // what members see
	stderr                    io.Writer  // of sidecars
}

// newWorld builds the network with places for n members.
func newWorld(t *testing.T, n int) *world {
	t.Helper()
	l := labtest.New(t)
	w := &world{t: t, dir: t.TempDir(), log: &labtest.Log{}, from: vip.Addr()}
	w.stderr = w.log
	for name, host := range map[string]**lab.Host{"client": &w.client, "lb": &w.balancer, "members": &w.members} {
		h, err := l.Host(name)
		w.must(err)
		*host = h
	}
	var places []netip.Prefix
	for i := range n {
		places = append(places, netip.PrefixFrom(memberAddress(i), 24))
	}
	w.must(l.Link(
		lab.End{Host: w.client, Device: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}},
		lab.End{Host: w.balancer, Device: "out", Addresses: []netip.Prefix{outside}}, 0))
	w.must(l.Link(
		lab.End{Host: w.members, Device: "eth0", Addresses: places},
		lab.End{Host: w.balancer, Device: "in", Addresses: []netip.Prefix{inside}}, 0))
	w.must(w.members.AddRoute(netip.MustParsePrefix("10.1.0.0/24"), inside.Addr()))
	w.open()
	t.Cleanup(func() {
		if said := w.log.String(); strings.Contains(said, "DATA RACE") || strings.Contains(said, "panic") {
			t.Error("the sidecar has a fault")
		}
		if t.Failed() {
			t.Logf("the sidecar says:\n%s", w.log)
		}
	})
	return w
}

// open makes the two sockets that a sidecar gets.
func (w *world) open() {
	w.t.Helper()
	listener, err := w.balancer.Listen("tcp", vip.String())
	w.must(err)
	w.clients = listener.(*net.TCPListener)
	w.control, err = net.ListenUnix("unix", &net.UnixAddr{Name: w.path(), Net: "unix"})
	w.must(err)
	w.control.SetUnlinkOnClose(false)
	w.t.Cleanup(func() { w.clients.Close(); w.control.Close() })
}

func memberAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 2, 0, byte(10 + i)}) }

func (w *world) path() string { return filepath.Join(w.dir, "control.sock") }

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

// start starts a sidecar with the world's sockets.
func (w *world) start() {
	w.t.Helper()
	clients, err := w.clients.File()
	w.must(err)
	control, err := w.control.File()
	w.must(err)
	w.process = w.launch(nil, clients, control)
}

// launch starts a sidecar process and closes what it was given here.
func (w *world) launch(env []string, files ...*os.File) *lab.Process {
	w.t.Helper()
	cmd := exec.Command(exePath(w.t))
	cmd.Env = append(append(os.Environ(), sidecarEnv+"="+w.from.String()), env...)
	cmd.ExtraFiles, cmd.Stderr, cmd.Dir = files, w.stderr, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: sidecarUID, Gid: sidecarUID}}
	p, err := w.balancer.Start(cmd)
	w.must(err)
	for _, f := range files {
		_ = f.Close() // the process has its own
	}
	return p
}

// exePath is the test binary, where anybody may execute it.
func exePath(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := "/run/l7test"
	path := filepath.Join(dir, "sidecar")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	content, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// basic is a configuration of round robin and SRV cookies over members at port 80.
func basic(n int) control.Config {
	c := control.Config{Generation: 1, Limits: proxy.Limits{Connections: -1}, Pool: pool.Config{
		AdminUp: true, Method: pool.RoundRobin, Persistence: pool.HTTPCookie, Keys: [][]byte{[]byte("0123456789abcdef")},
	}}
	for i := range n {
		c.Pool.Members = append(c.Pool.Members, pool.MemberConfig{
			ID: fmt.Sprint("m", i), Address: netip.AddrPortFrom(memberAddress(i), 80), Weight: 1, AdminUp: true, Up: true,
		})
	}
	return c
}

// apply configures the sidecar.
func (w *world) apply(c control.Config) {
	w.t.Helper()
	client := w.dial()
	defer client.Close()
	w.must(client.Apply(w.context(), c))
	w.config = c
}

func (w *world) dial() *control.Client {
	w.t.Helper()
	client, err := control.Dial(w.context(), w.path())
	w.must(err)
	return client
}

func (w *world) stats() control.Stats {
	w.t.Helper()
	client := w.dial()
	defer client.Close()
	s, err := client.Stats(w.context())
	w.must(err)
	return s
}

// running starts a sidecar and applies a configuration.
func running(t *testing.T, members int, c control.Config) *world {
	t.Helper()
	w := newWorld(t, members)
	w.start()
	w.apply(c)
	return w
}

// await waits until f returns nil.
func (w *world) await(what string, f func() error) {
	w.t.Helper()
	if _, err := labtest.Eventually(bound, f); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}
