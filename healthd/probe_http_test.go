package healthd

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// reply is a member that reads one request, writes text and closes.
func reply(text string) func(net.Conn) {
	return func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, text)
	}
}

// replyAndHang writes text and then nothing more, without closing.
func replyAndHang(text string) func(net.Conn) {
	return func(c net.Conn) {
		reply(text)(c)
		readAll(c)
	}
}

// replyForever writes start and then chunk again and again until it cannot.
func replyForever(start, chunk string) func(net.Conn) {
	return func(c net.Conn) {
		reply(start)(c)
		for {
			if _, err := io.WriteString(c, chunk); err != nil {
				return
			}
		}
	}
}

func reset(c net.Conn) {
	c.Read(make([]byte, 4096))
	c.(*net.TCPConn).SetLinger(0)
}

func TestHTTPProbe(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	for _, c := range []struct {
		name   string
		member func(net.Conn)
		codes  string
		want   string // "… timed out" makes the timeout short
	}{
		{"expected code", reply(ok), "200", "passed"},
		{"HTTP/1.0", reply("HTTP/1.0 200 OK\r\n\r\nok"), "200", "passed"},
		{"code in the list", reply("HTTP/1.1 202 Accepted\r\n\r\n"), "200, 202", "passed"},
		{"code in the range", reply("HTTP/1.1 204 No Content\r\n\r\n"), "200-204", "passed"},
		{"code out of the range", reply("HTTP/1.1 205 x\r\n\r\n"), "200-204", "failed: read the reply: status 205, expected 200-204"},
		{"wrong code", reply("HTTP/1.1 503 <script>\r\n\r\n"), "200", "failed: read the reply: status 503, expected 200"},
		{"redirect that is expected", reply("HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:9000/\r\n\r\n"), "302", "passed"},
		{"redirect that is not", reply("HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:9000/\r\n\r\n"), "200", "failed: read the reply: status 302, expected 200"},
		{"provisional replies first", reply("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok), "200", "passed"},
		{"code only, then silence", replyAndHang("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "200", "passed"},
		{"body without end", replyForever("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1<<16)), "200", "passed"},
		{"body of bad chunks", reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n"), "200", "passed"},
		{"accepts and hangs", readAll, "200", "failed: read the reply: timed out"},
		{"hangs in the status line", replyAndHang("HTTP/1.1 20"), "200", "failed: read the reply: timed out"},
		{"hangs in the header", replyAndHang("HTTP/1.1 200 OK\r\nX: y\r\n"), "200", "failed: read the reply: timed out"},
		{"header without end", replyForever("HTTP/1.1 200 OK\r\n", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"), "200", "failed: read the reply: header of more than 65536 bytes"},
		{"header line without end", replyForever("HTTP/1.1 200 OK\r\nX: ", "yyyyyyyyyyyyyyyyyyyyyyy"), "200", "failed: read the reply: header of more than 65536 bytes"},
		{"status line without end", replyForever("", "HTTP/1.1 200 OK "), "200", "failed: read the reply: header of more than 65536 bytes"},
		{"provisional replies without end", replyForever("", "HTTP/1.1 100 Continue\r\n\r\n"), "200", "failed: read the reply: header of more than 65536 bytes"},
		{"closes without a word", reply(""), "200", "failed: read the reply: closed by the member"},
		{"closes in the header", reply("HTTP/1.1 200 OK\r\nX:"), "200", "failed: read the reply: closed by the member"},
		{"resets", reset, "200", "failed: read the reply: connection reset by peer"},
		{"speaks something else", reply("SSH-2.0-<script>\r\n\r\n"), "200", "failed: read the reply: not a valid HTTP reply"},
		{"bad header", reply("HTTP/1.1 200 OK\r\n<script>\r\n\r\n"), "200", "failed: read the reply: not a valid HTTP reply"},
		{"bad code", reply("HTTP/1.1 2x0 OK\r\n\r\n"), "200", "failed: read the reply: not a valid HTTP reply"},
		{"speaks TLS", speakTLS, "200", "failed: read the reply: closed by the member"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := newNetns(t)
			ns.serve(t, "127.0.0.1:8001", c.member)
			var elsewhere atomic.Int32
			ns.serve(t, "127.0.0.1:9000", func(net.Conn) { elsewhere.Add(1) })
			codes, err := ParseCodes(c.codes)
			if err != nil {
				t.Fatal(err)
			}
			spec := Check{Type: HTTP, Codes: codes}
			if strings.HasSuffix(c.want, "timed out") {
				spec.Timeout = soon
			}
			if got := outcome(t, ns, "127.0.0.1:8001", spec); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if elsewhere.Load() != 0 {
				t.Error("the redirect was followed")
			}
		})
	}
}

// speakTLS is a TLS server, which answers a plain request with an alert.
func speakTLS(c net.Conn) {
	s := tls.Server(c, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF }})
	s.Handshake()
	c.(*net.TCPConn).CloseWrite()
	readAll(c)
}

func TestHTTPProbeRefusedAndUnanswered(t *testing.T) {
	ns := newNetns(t)
	ns.full(t, "127.0.0.1:8002")
	for _, typ := range []Type{HTTP, HTTPS} {
		if got, want := outcome(t, ns, "127.0.0.1:8001", Check{Type: typ}), "failed: connect: connection refused"; got != want {
			t.Errorf("%s: got %q, want %q", typ, got, want)
		}
		if got, want := outcome(t, ns, "127.0.0.1:8002", Check{Type: typ, Timeout: soon}), "failed: connect: timed out"; got != want {
			t.Errorf("%s: got %q, want %q", typ, got, want)
		}
	}
}

// A big body is not read to its end.
func TestHTTPProbeReadsLittleOfTheBody(t *testing.T) {
	const size = 64 << 20 // far above what socket buffers swallow
	ns := newNetns(t)
	sent := make(chan int64, 1)
	ns.serve(t, "127.0.0.1:8001", func(c net.Conn) {
		reply("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")(c)
		n, _ := io.Copy(c, io.LimitReader(zeros{}, size))
		sent <- n
	})
	if got := outcome(t, ns, "127.0.0.1:8001", Check{Type: HTTP}); got != "passed" {
		t.Error(got)
	}
	if n := <-sent; n >= size {
		t.Errorf("the member could send all %d bytes", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A member that finishes its reply and closes sees the probe close regularly.
func TestHTTPProbeEndsRegularly(t *testing.T) {
	ns := newNetns(t)
	ended := make(chan error, 1)
	ns.serve(t, "127.0.0.1:8001", func(c net.Conn) {
		reply("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat("x", 10000))(c)
		c.(*net.TCPConn).CloseWrite()
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	if got := outcome(t, ns, "127.0.0.1:8001", Check{Type: HTTP}); got != "passed" {
		t.Error(got)
	}
	if err := <-ended; err != nil {
		t.Errorf("the member got %v", err)
	}
}

func TestRequestOnTheWire(t *testing.T) {
	const rest = "User-Agent: qlbaas\r\nAccept: */*\r\nConnection: close\r\n"
	ns := newNetns(t)
	for _, c := range []struct {
		addr, method, path, want string
	}{
		{"127.0.0.1:8001", "", "", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + rest + "\r\n"},
		{"127.0.0.1:8002", "HEAD", "/health?deep=1&x=%20#y", "HEAD /health?deep=1&x=%20#y HTTP/1.1\r\nHost: 127.0.0.1\r\n" + rest + "\r\n"},
		{"127.0.0.1:8003", "POST", "/", "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + rest + "Content-Length: 0\r\n\r\n"},
		{"127.0.0.1:8004", "get", "//host/../x", "get //host/../x HTTP/1.1\r\nHost: 127.0.0.1\r\n" + rest + "\r\n"},
		{"127.0.0.1:8005", "GET", "/é", "GET /%C3%A9 HTTP/1.1\r\nHost: 127.0.0.1\r\n" + rest + "\r\n"},
		{"[::1]:8006", "GET", "/", "GET / HTTP/1.1\r\nHost: [::1]\r\n" + rest + "\r\n"},
		{"[::ffff:127.0.0.1]:8007", "GET", "/", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + rest + "\r\n"},
	} {
		seen := make(chan string, 1)
		ns.serve(t, netip.MustParseAddrPort(c.addr).String(), func(conn net.Conn) {
			buf := make([]byte, 4096)
			n, _ := conn.Read(buf)
			seen <- string(buf[:n])
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		})
		if got := outcome(t, ns, c.addr, Check{Type: HTTP, Method: c.method, Path: c.path}); got != "passed" {
			t.Errorf("%s: %q", c.path, got)
			continue
		}
		got := <-seen
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(got))); err != nil && !strings.HasPrefix(c.path, "//") {
			t.Errorf("net/http does not understand it: %v", err)
		}
	}
}

func TestHTTPSProbe(t *testing.T) {
	ns := newNetns(t)
	serve := func(addr string, config *tls.Config) {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/good" || r.Method != "HEAD" || r.Proto != "HTTP/1.1" {
				w.WriteHeader(http.StatusTeapot)
			}
		}))
		s.Listener.Close()
		s.Listener = ns.listen(t, addr)
		s.TLS = config
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
	}
	serve("127.0.0.1:8001", nil)
	serve("127.0.0.1:8002", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	serve("127.0.0.1:8003", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}})
	serve("127.0.0.1:8004", &tls.Config{ClientAuth: tls.RequireAnyClientCert})
	ns.serve(t, "127.0.0.1:8005", reply("HTTP/1.1 400 Bad Request\r\n\r\n"))
	ns.serve(t, "127.0.0.1:8006", readAll)
	ns.serve(t, "127.0.0.1:8007", reset)
	for _, c := range []struct{ name, addr, path, want string }{
		{"certificate of nobody", "127.0.0.1:8001", "/good", "passed"},
		{"the code counts", "127.0.0.1:8001", "/bad", "failed: read the reply: status 418, expected 200"},
		{"TLS 1.0", "127.0.0.1:8002", "/good", "passed"},
		{"RSA key exchange", "127.0.0.1:8003", "/good", "passed"},
		{"wants a certificate of ours", "127.0.0.1:8004", "/good", "failed: read the reply: remote error: tls: certificate required"},
		{"speaks no TLS", "127.0.0.1:8005", "/good", "failed: TLS handshake: tls: first record does not look like a TLS handshake"},
		{"hangs in the handshake", "127.0.0.1:8006", "/good", "failed: TLS handshake: timed out"},
		{"resets in the handshake", "127.0.0.1:8007", "/good", "failed: TLS handshake: connection reset by peer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := Check{Type: HTTPS, Method: "HEAD", Path: c.path}
			if strings.HasSuffix(c.want, "timed out") {
				spec.Timeout = soon
			}
			if got := outcome(t, ns, c.addr, spec); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// The environment's proxy is for others.
func TestProbesUseNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9000")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:9000")
	ns := newNetns(t)
	var proxied atomic.Int32
	ns.serve(t, "127.0.0.1:9000", func(net.Conn) { proxied.Add(1) })
	ns.serve(t, "127.0.0.1:8001", reply("HTTP/1.1 200 OK\r\n\r\n"))
	if got := outcome(t, ns, "127.0.0.1:8001", Check{Type: HTTP}); got != "passed" || proxied.Load() != 0 {
		t.Errorf("%q, %d connections to the proxy", got, proxied.Load())
	}
}
