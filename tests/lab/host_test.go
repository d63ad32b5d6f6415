package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

func command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }

// inode identifies the network namespace of the calling thread, or that of the
// main thread, which is what the process is taken for.
func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestThreadsStayApart enters namespaces from many goroutines at once, and finds
// each function in its own and the rest of the process where it was.
func TestThreadsStayApart(t *testing.T) {
	l := labtest.New(t)
	home := inode(t, "/proc/self/ns/net")
	var wg sync.WaitGroup
	for i := range 4 {
		h, err := l.Host(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			wg.Go(func() {
				want := inode(t, h.Path())
				err := h.Do(func() error {
					if got := inode(t, "/proc/thread-self/ns/net"); got != want {
						return fmt.Errorf("in namespace %d, want %d", got, want)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if got := inode(t, "/proc/thread-self/ns/net"); got != home {
					t.Errorf("a goroutine runs in namespace %d, home is %d", got, home)
				}
			})
		}
	}
	wg.Wait()
	if got := inode(t, "/proc/self/ns/net"); got != home {
		t.Errorf("the process moved from %d to %d", home, got)
	}
}

func TestDoSurvivesGoexit(t *testing.T) {
	h := host(t)
	err := h.Do(func() error {
		runtime.Goexit() // as t.FailNow does
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "did not return") {
		t.Errorf("got %v", err)
	}
}

func host(t *testing.T) *lab.Host {
	t.Helper()
	h, err := labtest.New(t).Host("host")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNamesAreGuarded(t *testing.T) {
	l := labtest.New(t)
	for _, name := range []string{"../x", "a/b", "UPPER", strings.Repeat("x", 70), "a b"} {
		if _, err := l.Host(name); err == nil {
			t.Errorf("host %q was made", name)
		}
	}
	if err := lab.Remove("../tmp"); err == nil {
		t.Error("a path was removed")
	}
	if _, err := l.Host("twice"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Host("twice"); !errors.Is(err, os.ErrExist) {
		t.Errorf("second host of a name: %v", err)
	}
	if _, err := lab.New(lab.Options{OnMachine: true}); err == nil {
		t.Error("a laboratory on the machine without prefix")
	}
}

func TestOnlyLiteralAddresses(t *testing.T) {
	h := host(t)
	for _, address := range []string{"localhost:80", "127.0.0.1", "127.0.0.1:http", ""} {
		if _, err := h.Listen("tcp", address); err == nil {
			t.Errorf("listens on %q", address)
		}
		if _, err := h.Dial(within(t), "tcp", address); err == nil {
			t.Errorf("dialled %q", address)
		}
	}
}

func TestDialFrom(t *testing.T) {
	h := host(t)
	l, err := h.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	local := netip.MustParseAddrPort("127.0.0.77:5555")
	conn, err := h.DialFrom(within(t), local, "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	if got := peer.RemoteAddr().String(); got != local.String() {
		t.Errorf("the connection comes from %s", got)
	}
	for name, end := range map[string]net.Conn{"client": conn, "server": peer} {
		if on, err := option(end, unix.SO_KEEPALIVE); err != nil || on != 0 {
			t.Errorf("the %s sends keepalives by itself: %d, %v", name, on, err)
		}
	}
	// The port is taken in the host and nowhere else.
	other, err := net.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

// option is one of a connection's socket.
func option(c net.Conn, name int) (value int, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, name) })
	return value, errors.Join(failed, err)
}

func TestDatagrams(t *testing.T) {
	h := host(t)
	server, err := h.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	client, err := h.DialFrom(within(t), netip.MustParseAddrPort("127.0.0.9:0"), "udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	n, from, err := server.ReadFrom(b)
	if err != nil || string(b[:n]) != "hello" || !strings.HasPrefix(from.String(), "127.0.0.9:") {
		t.Errorf("got %q from %v, %v", b[:n], from, err)
	}
}

func TestSysctl(t *testing.T) {
	h := host(t)
	const path = "/proc/sys/net/ipv4/ip_forward"
	if err := h.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	out, err := h.Run(within(t), "cat", path)
	if err != nil || out != "1\n" {
		t.Errorf("in the host: %q, %v", out, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "0\n" {
		t.Errorf("outside: %q, %v", b, err)
	}
	for _, key := range []string{"kernel.panic", "net.ipv4.nothing", "net./../kernel.panic"} {
		if err := h.Sysctl(key, "1"); err == nil {
			t.Errorf("%s was set", key)
		}
	}
}

func TestRun(t *testing.T) {
	h := host(t)
	out, err := h.Run(within(t), "readlink", "/proc/self/ns/net")
	if err != nil || out != fmt.Sprintf("net:[%d]\n", inode(t, h.Path())) {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = h.Run(within(t), "sh", "-c", "echo sorry; exit 3")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "sorry") {
		t.Errorf("got %v", err)
	}
	cmd := command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if _, err := h.Start(cmd); err == nil {
		t.Error("a process that would die with the thread was started")
	}
}

// TestStrays leaves a process in a host that the lab did not start there.
func TestStrays(t *testing.T) {
	l, err := lab.New(lab.Options{Prefix: "stray-"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Host("host")
	if err != nil {
		t.Fatal(err)
	}
	cmd := command("sleep", "4321")
	if err := h.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "sleep 4321") {
		t.Fatalf("got %v, want an error that names the process", err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("the process ended with %v", err)
	}
}

// TestReleaseAndRemove is what the demo does with KEEP=1.
func TestReleaseAndRemove(t *testing.T) {
	l, err := lab.New(lab.Options{Prefix: "kept-", OnMachine: true})
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Host("host")
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Start(command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process is gone: %v", err)
	}
	if names, err := lab.Namespaces("kept-"); err != nil || len(names) != 1 || names[0] != "kept-host" {
		t.Fatalf("namespaces %v, %v", names, err)
	}
	for range 2 { // the second time there is nothing to do
		if err := lab.Remove("kept-host"); err != nil {
			t.Error(err)
		}
	}
	var exit *exec.ExitError
	if err := p.Wait(within(t)); !errors.As(err, &exit) {
		t.Errorf("the process ended with %v", err)
	}
	if names, err := lab.Namespaces("kept-"); err != nil || len(names) != 0 {
		t.Errorf("namespaces %v, %v", names, err)
	}
}

func TestDump(t *testing.T) {
	net := labtest.Tutorial(t, lab.TutorialOptions{})
	if _, err := net.Client.Capture(lab.Uplink); err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	if _, err := net.Client.Run(ctx, "ping", "-c1", "-W5", "172.16.100.9"); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Router.Run(ctx, "nft", "add", "table", "inet", "marked"); err != nil {
		t.Fatal(err)
	}
	const pin = "/sys/fs/bpf/dumped/maps/answers"
	if err := os.MkdirAll("/sys/fs/bpf/dumped/maps", 0o700); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll("/sys/fs/bpf/dumped") }()
	for _, line := range []string{
		"bpftool map create " + pin + " type array key 4 value 4 entries 1 name answers",
		"bpftool map update pinned " + pin + " key 0 0 0 0 value 42 0 0 0",
	} {
		if out, err := exec.CommandContext(ctx, "sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	var out bytes.Buffer
	net.Lab.Dump(ctx, &out)
	for _, want := range []string{
		"=== namespace " + net.Client.Name(), "inet 10.10.10.4/24", "default via 10.10.10.1",
		"table inet marked", "port-web2", "=== pinned map " + pin, "42",
		"10.10.10.4 > 172.16.100.9 icmp type 8", "172.16.100.9 > 10.10.10.4 icmp type 0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the dump", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
