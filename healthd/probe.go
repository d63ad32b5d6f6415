package healthd

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// endpoint is where a probe goes: an address in the namespace of a pool.
type endpoint struct {
	pool string
	addr netip.AddrPort
}

// probeFunc makes one probe. It returns nil when the member passed, a *probeError
// that is local when the probe could not be made, else why the member failed. It
// ends soon after ctx does.
type probeFunc func(ctx context.Context, at endpoint, spec Check) error

// prober makes the real probes.
type prober struct{ sockets Sockets }

func (p *prober) probe(ctx context.Context, at endpoint, spec Check) error {
	if err := spec.Validate(); err != nil {
		return &probeError{step: "check the monitor", err: err, local: true}
	}
	if !at.addr.IsValid() {
		return &probeError{step: "check the monitor", err: errors.New("the member has no address"), local: true}
	}
	switch spec.Type {
	case PING:
		return p.ping(ctx, at)
	case TCP:
		return p.tcp(ctx, at)
	default:
		return p.http(ctx, at, spec)
	}
}

// probeError says in which step a probe ended and why.
type probeError struct {
	step string
	err  error
	// local: the fault is on this node, the probe says nothing about the member.
	local bool
}

// Error returns printable ASCII without quotes and angle brackets, so that it can
// be shown anywhere as it is.
func (e *probeError) Error() string { return plain(e.step + ": " + cause(e.err)) }

func (e *probeError) Unwrap() error { return e.err }

// cause words an error for people: without the layers of the standard library, and
// without what the member sent.
func cause(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the member"
	default:
		return err.Error()
	}
}

// maxReason is the length of a reason in bytes.
const maxReason = 160

// plain replaces whatever could mean something to a terminal, a log or a page.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune("<>&\"'`\\", r) {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxReason)]
}

// exhausted reports whether a system call failed for want of something on this
// node.
func exhausted(err error) bool {
	for _, want := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS,
		syscall.EAGAIN, syscall.EADDRNOTAVAIL, // no local port
	} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
