package healthd

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// readAll is a member that accepts, listens and never says a word.
func readAll(c net.Conn) { io.Copy(io.Discard, c) }

func TestTCPProbe(t *testing.T) {
	ns := newNetns(t)
	ns.serve(t, "127.0.0.1:8001", readAll)
	ns.serve(t, "[::1]:8001", readAll)
	ns.full(t, "127.0.0.1:8002")
	for _, c := range []struct{ name, addr, want string }{
		{"accepts", "127.0.0.1:8001", "passed"},
		{"accepts, IPv6", "[::1]:8001", "passed"},
		{"accepts, IPv4 written as IPv6", "[::ffff:127.0.0.1]:8001", "passed"},
		{"refuses", "127.0.0.1:8003", "failed: connect: connection refused"},
		{"refuses, IPv6", "[::1]:8003", "failed: connect: connection refused"},
		{"does not answer the SYN", "127.0.0.1:8002", "failed: connect: timed out"},
		{"cannot be reached", "192.0.2.1:80", "failed: connect: network is unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := Check{Type: TCP}
			if strings.HasSuffix(c.want, "timed out") {
				spec.Timeout = soon
			}
			if got := outcome(t, ns, c.addr, spec); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A namespace has few local ports for probes; each TIME_WAIT would hold one for a
// minute.
func TestTCPProbesLeaveNoTimeWait(t *testing.T) {
	ns := newNetns(t)
	ns.serve(t, "127.0.0.1:8001", readAll)
	ns.serve(t, "127.0.0.1:8002", replyAndLinger)
	for range 3 {
		for addr, typ := range map[string]Type{"127.0.0.1:8001": TCP, "127.0.0.1:8002": HTTP} {
			if got := outcome(t, ns, addr, Check{Type: typ}); got != "passed" {
				t.Fatal(got)
			}
		}
	}
	var table []byte
	var err error
	ns.do(func() { table, err = os.ReadFile("/proc/thread-self/net/tcp") })
	if err != nil {
		t.Fatal(err)
	}
	const timeWait = "06"
	lines := strings.Split(strings.TrimSpace(string(table)), "\n")[1:]
	if len(lines) < 2 {
		t.Fatalf("the listeners are missing:\n%s", table)
	}
	for _, line := range lines {
		if f := strings.Fields(line); f[3] == timeWait {
			t.Errorf("in TIME_WAIT: %s", line)
		}
	}
}

// replyAndLinger answers a request and leaves it to the client to close.
func replyAndLinger(c net.Conn) {
	c.Read(make([]byte, 4096))
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	readAll(c)
}

func TestNoLocalPortIsVoid(t *testing.T) {
	ns := newNetns(t)
	ns.serve(t, "127.0.0.1:8001", readAll)
	ns.sysctl(t, "net.ipv4.ip_local_port_range", "65024 65024")
	_, sa := sockaddr(memberAddr(0), unix.SOCK_STREAM)
	sa.(*unix.SockaddrInet4).Addr, sa.(*unix.SockaddrInet4).Port = [4]byte{127, 0, 0, 1}, 8001
	fd, err := ns.Socket("p", unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	got := outcome(t, ns, "127.0.0.1:8001", Check{Type: TCP})
	if want := "void: connect: cannot assign requested address"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
