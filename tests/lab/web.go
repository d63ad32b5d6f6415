package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// WebOptions describe a web server.
type WebOptions struct {
	// Name and a newline are the answer to every path but those of bulk transfers.
	Name string
	// Address to listen on.
	Address netip.AddrPort
	// TLS serves HTTPS with a certificate that nobody has signed.
	TLS bool
	// Listen makes the socket; nil means net.Listen, in the namespace of the process.
	Listen func(network, address string) (net.Listener, error)
}

// Web is an HTTP server with moods. It starts answering; Hang and Refuse make it a
// server in trouble, Answer mends it. Besides its name it serves
// GET /download?size=N&seed=S and POST /upload?seed=S, see Download and Upload.
// Safe for concurrent use.
type Web struct {
	options WebOptions
	tls     *tls.Config

	change sync.Mutex // one change of mood at a time; taken before mu

	mu       sync.Mutex
	server   *http.Server  // nil while refusing; guarded by mu, as all below
	served   chan struct{} // closed when server has ended
	mood     chan struct{} // closed when a hanging server's mood changes; nil while it answers
	body     string
	cookie   string // of Set-Cookie
	status   int
	requests int
	open     map[net.Conn]struct{}
}

// StartWeb starts a web server inside the host; the lab closes it.
func (h *Host) StartWeb(o WebOptions) (*Web, error) {
	o.Listen = h.Listen
	w, err := NewWeb(o)
	if err != nil {
		return nil, fmt.Errorf("start web server on %s: %w", h.name, err)
	}
	h.lab.own(w)
	return w, nil
}

// NewWeb starts a web server; the caller closes it.
func NewWeb(o WebOptions) (*Web, error) {
	w := &Web{options: o, body: o.Name + "\n", status: http.StatusOK, open: map[net.Conn]struct{}{}}
	if w.options.Listen == nil {
		w.options.Listen = net.Listen
	}
	if o.TLS {
		certificate, err := selfSigned()
		if err != nil {
			return nil, err
		}
		w.tls = &tls.Config{Certificates: []tls.Certificate{certificate}}
	}
	return w, w.Answer()
}

// Name is what the server answers with.
func (w *Web) Name() string { return w.options.Name }

// Answer makes the server answer, listening again if it has refused.
func (w *Web) Answer() error {
	w.change.Lock()
	defer w.change.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endMood()
	return w.listen()
}

// Hang makes the server accept connections and requests and answer none of them,
// until Answer or Refuse is called. Requests held back then end without answer.
func (w *Web) Hang() error {
	w.change.Lock()
	defer w.change.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mood == nil {
		w.mood = make(chan struct{})
	}
	return w.listen()
}

// Refuse closes the server's port and its connections: new ones meet a RST.
func (w *Web) Refuse() error {
	w.change.Lock()
	defer w.change.Unlock()
	w.mu.Lock()
	server, served := w.server, w.served
	w.server = nil
	w.endMood()
	w.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Close()
	<-served
	if err != nil {
		return fmt.Errorf("close web server %s: %w", w.options.Name, err)
	}
	return nil
}

// Close ends the server.
func (w *Web) Close() error { return w.Refuse() }

// SetBody changes the answer.
func (w *Web) SetBody(body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body = body
}

// SetStatus changes the answer's status code.
func (w *Web) SetStatus(code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = code
}

// SetCookie makes the server send a Set-Cookie line to whoever sends no cookies; an empty
// one ends that.
func (w *Web) SetCookie(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cookie = line
}

// Requests is how many requests have come in so far.
func (w *Web) Requests() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

// Connections is how many connections are open now.
func (w *Web) Connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.open)
}

// endMood lets hanging requests go. The caller holds mu.
func (w *Web) endMood() {
	if w.mood != nil {
		close(w.mood)
		w.mood = nil
	}
}

// listen opens the port if it is closed. The caller holds mu.
func (w *Web) listen() error {
	if w.server != nil {
		return nil
	}
	l, err := w.options.Listen("tcp", w.options.Address.String())
	if err != nil {
		return fmt.Errorf("listen on %s: %w", w.options.Address, err)
	}
	if w.tls != nil {
		l = tls.NewListener(l, w.tls)
	}
	server := &http.Server{
		Handler:   http.HandlerFunc(w.serve),
		ConnState: w.track,
		// Clients that give up are part of the tests.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // always fails in the end: the server was closed
	}()
	w.server, w.served = server, served
	return nil
}

func (w *Web) track(c net.Conn, state http.ConnState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch state {
	case http.StateNew:
		w.open[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(w.open, c)
	}
}

func (w *Web) serve(out http.ResponseWriter, in *http.Request) {
	w.mu.Lock()
	w.requests++
	mood, body, status, cookie := w.mood, w.body, w.status, w.cookie
	w.mu.Unlock()
	if mood != nil {
		select {
		case <-mood:
		case <-in.Context().Done():
		}
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	switch in.URL.Path {
	case "/download":
		w.download(out, in)
	case "/upload":
		w.upload(out, in)
	default:
		out.Header().Set("Content-Type", "text/plain")
		if cookie != "" && in.Header.Get("Cookie") == "" {
			out.Header().Set("Set-Cookie", cookie)
		}
		out.WriteHeader(status)
		_, _ = io.WriteString(out, body) // the client's loss
	}
}

func (w *Web) download(out http.ResponseWriter, in *http.Request) {
	size, err := strconv.ParseInt(in.FormValue("size"), 10, 64)
	seed, err2 := strconv.ParseUint(in.FormValue("seed"), 10, 64)
	if err := errors.Join(err, err2); err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	out.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = io.CopyN(out, Pattern(seed), size) // the client notices what is missing
}

func (w *Web) upload(out http.ResponseWriter, in *http.Request) {
	seed, err := strconv.ParseUint(in.URL.Query().Get("seed"), 10, 64)
	if err == nil {
		err = Compare(in.Body, seed, in.ContentLength)
	}
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(out, "%d bytes\n", in.ContentLength) // the client's loss
}

// selfSigned makes a certificate for TLS servers that nobody verifies.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// insecure is for clients that meet such certificates.
func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} // that is its purpose
}

// Get asks for a URL and returns status code and body.
func Get(ctx context.Context, client *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", fmt.Errorf("get %s: %w", url, err)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err // names method and URL
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return 0, "", fmt.Errorf("get %s: read body: %w", url, err)
	}
	return res.StatusCode, string(body), nil
}
