package healthd

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Type is what a check does to find out whether a member serves.
type Type string

// The kinds of checks.
const (
	// PING sends one ICMP (ICMPv6) echo request.
	PING Type = "PING"
	// TCP opens a connection to the member's port.
	TCP Type = "TCP"
	// HTTP sends a request and compares the code of the reply.
	HTTP Type = "HTTP"
	// HTTPS does the same over TLS, verifying no certificate.
	HTTPS Type = "HTTPS"
)

// Check is one monitor as it applies to a member. Checks are compared with ==: one
// that differs in any field is another check.
type Check struct {
	// ID names the check; the health of a member is kept by member and check ID.
	ID   string
	Type Type
	// Delay is the gap between the end of one probe and the start of the next;
	// 0 means 1 s.
	Delay time.Duration
	// Timeout bounds a probe from its first packet to its verdict; 0 means Delay,
	// but at least 1 s.
	Timeout time.Duration
	// MaxRetries is how many failures in a row take the member down, at least 1.
	// Coming up always takes two passes in a row.
	MaxRetries int
	// Method and Path are for HTTP and HTTPS; empty means GET and "/". Path is the
	// request target as it is sent, query included; only bytes above 0x7f are
	// percent-encoded on the way.
	Method, Path string
	// Codes are the status codes that pass, for HTTP and HTTPS.
	Codes Codes
}

// Validate says what makes c impossible to run, naming the field as the API does.
// A Checker that is given such a check runs no probe of it: the check keeps the
// state it started with, and its history says why.
func (c Check) Validate() error {
	switch c.Type {
	case PING, TCP, HTTP, HTTPS:
	default:
		return fmt.Errorf("type: %q is none of PING, TCP, HTTP, HTTPS", string(c.Type))
	}
	if c.Delay < 0 {
		return fmt.Errorf("delay: %v is negative", c.Delay)
	}
	if c.Timeout < 0 {
		return fmt.Errorf("timeout: %v is negative", c.Timeout)
	}
	if c.MaxRetries < 1 {
		return fmt.Errorf("max_retries: %d is less than 1", c.MaxRetries)
	}
	if err := validMethod(c.Method); err != nil {
		return fmt.Errorf("http_method: %w", err)
	}
	if err := validPath(c.Path); err != nil {
		return fmt.Errorf("url_path: %w", err)
	}
	return nil
}

// validMethod holds methods to the characters of an HTTP token, so that nothing
// but a method can come out of them on the wire.
func validMethod(method string) error {
	const marks = "!#$%&'*+-.^_`|~"
	for _, r := range method {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && !strings.ContainsRune(marks, r) {
			return fmt.Errorf("%q is not allowed in a method", r)
		}
	}
	return nil
}

// validPath refuses what could end the request line early or start another one.
func validPath(path string) error {
	if path == "" {
		return nil
	}
	if path[0] != '/' {
		return fmt.Errorf("%q does not start with /", path)
	}
	if !utf8.ValidString(path) {
		return errors.New("not valid UTF-8")
	}
	for _, r := range path {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return fmt.Errorf("%q is a blank or control character", r)
		}
	}
	return nil
}

func (c Check) delay() time.Duration {
	if c.Delay <= 0 {
		return time.Second
	}
	return c.Delay
}

func (c Check) timeout() time.Duration {
	if c.Timeout <= 0 {
		return max(c.delay(), time.Second)
	}
	return c.Timeout
}

// Target is one member and what it has to pass. A member without checks is up.
type Target struct {
	// Pool repeats the pool for the reader; the argument of Set is what counts.
	Pool string
	// Member is the member's ID, unique within the pool.
	Member  string
	Address netip.AddrPort
	Checks  []Check
	// Up is the verdict to start from if the member was not known: what the caller
	// takes it for now. Nothing is reported until the checks say otherwise.
	Up bool
}

// Sockets opens sockets where the members of a pool can be reached.
type Sockets interface {
	// Socket is socket(2) inside the pool's network namespace. The descriptor is
	// non-blocking and close-on-exec and belongs to the caller. An error is taken
	// for a fault of this node: the probe is void. Safe for concurrent use.
	Socket(pool string, domain, typ, proto int) (fd int, err error)
}

// Verdict is the outcome of a member's checks together.
type Verdict struct {
	Pool, Member string
	Up           bool
	// Reason names the check that decided and what it saw, in printable ASCII
	// without quotes or angle brackets.
	Reason string
	At     time.Time
}

// Sink is told of every change.
type Sink interface {
	// SetUp is called when a member goes up or down, never twice in a row with the
	// same Up, and for one member never from two goroutines at a time. While a call
	// lasts, newer verdicts wait and only the last of them is told next. It may call
	// the Checker's methods, but for Close. A call that is under way when the
	// member is dropped (Set, Remove) may end after that.
	SetUp(Verdict)
}
