package healthd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcome makes one real probe and words what came of it: "passed", "failed: …" or
// "void: …". The timeout is long, so that what ends earlier ended by itself; pass
// a short one where the timeout is what is tested.
func outcome(t *testing.T, sockets Sockets, addr string, spec Check) string {
	t.Helper()
	if spec.Timeout == 0 {
		spec.Timeout = time.Minute
	}
	spec.MaxRetries = 1
	c := newChecker((&prober{sockets: sockets}).probe, nil, Options{})
	defer c.Close()
	at := endpoint{pool: "p", addr: netip.MustParseAddrPort(addr)}
	p, timedOut := c.probeOnce(context.Background(), at, spec)
	if strings.Contains(p.Reason, "timed out") != timedOut {
		t.Errorf("%q, but timed out = %v", p.Reason, timedOut)
	}
	if p.Result == Passed {
		return "passed"
	}
	return p.Result.String() + ": " + p.Reason
}

// soon is a timeout for probes of members that hang.
const soon = 300 * time.Millisecond

func TestReasonsAreHarmless(t *testing.T) {
	err := &probeError{step: "connect", err: errors.New("<script>alert(\"x\")</script> \x1b[31m\r\n& 'é` \\" + strings.Repeat("y", 1000))}
	text := err.Error()
	for _, r := range text {
		if r < ' ' || r > '~' || strings.ContainsRune("<>\"'&`\\", r) {
			t.Errorf("%q holds %q", text, r)
		}
	}
	if len(text) > maxReason {
		t.Errorf("%d bytes", len(text))
	}
}

func TestLackOnThisNodeIsLocal(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.EMFILE: true, syscall.ENFILE: true, syscall.ENOMEM: true, syscall.ENOBUFS: true, syscall.EADDRNOTAVAIL: true,
		syscall.ECONNREFUSED: false, syscall.EHOSTUNREACH: false, syscall.ENETUNREACH: false, syscall.ETIMEDOUT: false,
	} {
		if got := exhausted(fmt.Errorf("connect: %w", err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

type noSockets struct{}

func (noSockets) Socket(string, int, int, int) (int, error) { return -1, syscall.EMFILE }

func TestNoSocketIsVoid(t *testing.T) {
	for _, typ := range []Type{PING, TCP, HTTP, HTTPS} {
		got := outcome(t, noSockets{}, "127.0.0.1:80", Check{Type: typ})
		if want := "void: open a socket: too many open files"; got != want {
			t.Errorf("%s: %q, want %q", typ, got, want)
		}
	}
}

// Every kind of probe ends when its context does, wherever it is waiting.
func TestProbesEndWithTheirContext(t *testing.T) {
	ns := newNetns(t)
	ns.full(t, "127.0.0.1:8001")
	ns.serve(t, "127.0.0.1:8002", readAll)
	ns.sysctl(t, "net.ipv4.icmp_echo_ignore_all", "1")
	for _, c := range []struct {
		typ  Type
		addr string
	}{
		{PING, "127.0.0.1:1"}, {TCP, "127.0.0.1:8001"}, {HTTP, "127.0.0.1:8001"}, {HTTP, "127.0.0.1:8002"}, {HTTPS, "127.0.0.1:8002"},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			p := &prober{sockets: ns}
			done <- p.probe(ctx, endpoint{"p", netip.MustParseAddrPort(c.addr)}, Check{Type: c.typ, MaxRetries: 1})
		}()
		select {
		case err := <-done:
			t.Errorf("%s %s: ended by itself: %v", c.typ, c.addr, err)
		case <-time.After(50 * time.Millisecond): // likely to be waiting now; passes anyway if not
			cancel()
			if err := <-done; err == nil {
				t.Errorf("%s %s: passed", c.typ, c.addr)
			}
		}
		cancel()
	}
}
