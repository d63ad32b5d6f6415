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
	errNotHTTP    = errors.New("not a valid HTTP reply")
	errHeaderSize = fmt.Errorf("header of more than %d bytes", maxHeader)
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
	limited := &io.LimitedReader{R: stream, N: maxHeader}
	reply := bufio.NewReader(limited)
	code, err := readCode(reply)
	if err != nil {
		if limited.N <= 0 {
			err = errHeaderSize
		}
		return &probeError{step: "read the reply", err: err}
	}
	if !spec.Codes.Match(code) {
		return &probeError{step: "read the reply", err: fmt.Errorf("status %03d, expected %v", code, spec.Codes)}
	}
	limited.N = maxBody
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

// readCode reads replies up to the first that is not provisional (1xx) and returns
// its code. Errors of parsing carry text of the member, so they end here.
func readCode(from *bufio.Reader) (int, error) {
	for {
		// The body is left alone: drain reads the connection itself. Without a
		// request the reply to a HEAD is taken to have a body, which changes nothing.
		reply, err := http.ReadResponse(from, nil)
		var lower net.Error
		switch {
		case err == nil:
		case errors.As(err, &lower), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			return 0, err
		default:
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
	c.SetReadDeadline(time.Now().Add(drainTime))
	if ctx.Err() != nil {
		return // its deadline may have been set aside just now
	}
	n, err := io.Copy(io.Discard, rest)
	if n < maxBody && (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) {
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
