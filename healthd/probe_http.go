package healthd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Bounds of a reply: its header, and what is read of its body.
const (
	maxHeader = 64 << 10
	maxBody   = 64 << 10
)

// drainTime is how long a probe that has its verdict reads on, so that a member may
// finish its reply instead of meeting a reset. It is part of the probe, and small
// against the second that the promised time to down has to spare.
const drainTime = 200 * time.Millisecond

var (
	errNotHTTP = errors.New("not a valid HTTP reply")
	errTooLong = fmt.Errorf("header of more than %d bytes", maxHeader)
)

// http sends one request and passes when the code of the reply is expected. The
// rest of the reply is of no account, but it must be HTTP, with a header of bounded
// size. https does the same over TLS.
func (p *prober) http(ctx context.Context, at endpoint, spec Check) error {
	c, err := p.dialTCP(ctx, at)
	if err != nil {
		return err
	}
	defer c.Close()
	var stream net.Conn = c
	if spec.Type == HTTPS {
		session := tls.Client(c, anyTLS())
		if err := session.Handshake(); err != nil {
			return &probeError{step: "TLS handshake", err: err}
		}
		stream = session
	}
	if _, err := io.WriteString(stream, request(at.addr.Addr(), spec)); err != nil {
		return &probeError{step: "send the request", err: err}
	}
	limited := &budget{from: stream, left: maxHeader}
	reply := bufio.NewReader(limited)
	code, err := readCode(reply)
	if err != nil {
		if limited.err != nil {
			err = limited.err // what the parser made of it says less
		}
		return &probeError{step: "read the reply", err: err}
	}
	if !spec.Codes.Match(code) {
		return &probeError{step: "read the reply", err: fmt.Errorf("status %03d, expected %v", code, spec.Codes)}
	}
	limited.left = maxBody
	c.drain(ctx, reply)
	return nil
}

// request is written by hand: the path goes out as the user wrote it, where
// net/url would take "//x" for a host. Validate has seen method and path.
func request(host netip.Addr, spec Check) string {
	method, path := spec.Method, spec.Path
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, escape(path), hostHeader(host))
	b.WriteString("User-Agent: qlbaas\r\nAccept: */*\r\nConnection: close\r\n")
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

func hostHeader(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	return "[" + ip.String() + "]"
}

// escape percent-encodes what is not ASCII, which a request line cannot carry.
func escape(path string) string {
	var b strings.Builder
	for i := range len(path) {
		if path[i] < 0x80 {
			b.WriteByte(path[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", path[i])
		}
	}
	return b.String()
}

// budget reads at most left bytes and keeps the error that ended it: the parser of
// replies drops it when half a line came before.
type budget struct {
	from io.Reader
	left int
	err  error
}

func (b *budget) Read(p []byte) (n int, err error) {
	if b.left <= 0 {
		b.err = errTooLong
		return 0, b.err
	}
	n, err = b.from.Read(p[:min(len(p), b.left)])
	b.left -= n
	b.err = err
	return n, err
}

// readCode reads replies up to the first that is not provisional (1xx) and returns
// its code. What the parser has to say holds text of the member, so it ends here.
func readCode(from *bufio.Reader) (int, error) {
	for {
		// The body is left alone: drain reads the connection itself. Without a
		// request the reply to a HEAD is taken to have a body, which changes nothing.
		reply, err := http.ReadResponse(from, nil)
		if err != nil {
			return 0, errNotHTTP
		}
		code := reply.StatusCode
		if code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			return code, nil
		}
	}
}

// drain reads what else comes, within bounds of size and time. If that is all, the
// connection ends in the regular way.
func (c *conn) drain(ctx context.Context, rest io.Reader) {
	if c.SetReadDeadline(time.Now().Add(drainTime)) != nil || ctx.Err() != nil {
		return // its deadline may have been set aside just now
	}
	_, err := io.Copy(io.Discard, rest)
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) { // TLS: not even a goodbye
		c.finishOnClose()
	}
}

// anyTLS accepts whatever a client of the member might: any certificate, old
// versions, weak ciphers. Post-quantum key shares are left out because they cost
// CPU for each probe and make a hello of two packets, on which some old servers
// hang.
func anyTLS() *tls.Config {
	config := &tls.Config{
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10,
		CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		config.CipherSuites = append(config.CipherSuites, suite.ID)
	}
	return config
}
