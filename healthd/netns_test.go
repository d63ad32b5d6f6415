package healthd

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// netns is a network namespace of one test, with lo up and nothing else. One
// thread lives in it and does what has to be done there.
type netns struct{ calls chan func() }

func newNetns(t testing.TB) *netns {
	t.Helper()
	n := &netns{calls: make(chan func())}
	ready := make(chan error)
	go n.live(ready)
	if err := <-ready; err != nil {
		t.Fatalf("make namespace (needs root): %v", err)
	}
	t.Cleanup(func() { close(n.calls) })
	// As in a pool's namespace: own sockets have the upper ports to themselves.
	n.sysctl(t, "net.ipv4.ip_local_port_range", "65024 65535")
	return n
}

// live never unlocks its thread, so that it dies with the goroutine.
func (n *netns) live(ready chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- fmt.Errorf("unshare: %w", err)
		return
	}
	ready <- loopbackUp()
	for call := range n.calls {
		call()
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// do runs f on the thread inside.
func (n *netns) do(f func()) {
	done := make(chan struct{})
	n.calls <- func() { defer close(done); f() }
	<-done
}

// Socket makes a netns the Sockets of a Checker.
func (n *netns) Socket(_ string, domain, typ, proto int) (fd int, err error) {
	n.do(func() { fd, err = unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto) })
	return fd, err
}

func (n *netns) sysctl(t testing.TB, name, value string) {
	t.Helper()
	var err error
	n.do(func() { err = os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0) })
	if err != nil {
		t.Fatal(err)
	}
}

func (n *netns) listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	n.do(func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve runs handle for each connection to addr. When the test ends, connections
// are closed and handlers waited for.
func (n *netns) serve(t testing.TB, addr string, handle func(net.Conn)) {
	t.Helper()
	l := n.listen(t, addr)
	var work sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			work.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		work.Wait()
	})
}

// full listens on addr with an accept queue that is full, so that the kernel drops
// further SYNs: a member that hangs before the handshake.
func (n *netns) full(t testing.TB, addr string) {
	t.Helper()
	_, sa := sockaddr(netip.MustParseAddrPort(addr), unix.SOCK_STREAM)
	var fds [2]int
	var err error
	n.do(func() {
		for i := range fds {
			if fds[i], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return
			}
		}
		if err = unix.Bind(fds[0], sa); err != nil {
			return
		}
		if err = unix.Listen(fds[0], 0); err != nil {
			return
		}
		err = unix.Connect(fds[1], sa)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
}
