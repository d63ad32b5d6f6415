package lab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

var here = netip.MustParseAddrPort("127.0.0.1:80")

func TestWebMoods(t *testing.T) {
	h := host(t)
	w, err := h.StartWeb(lab.WebOptions{Name: "WEB1", Address: here})
	if err != nil {
		t.Fatal(err)
	}
	client := h.HTTPClient(lab.HTTPOptions{})
	get := func(ctx context.Context) (int, string, error) {
		return lab.Get(ctx, client, "http://127.0.0.1/any/path")
	}
	answers := func(code int, body string) {
		t.Helper()
		if c, b, err := get(within(t)); err != nil || c != code || b != body {
			t.Errorf("got %d %q, %v; want %d %q", c, b, err, code, body)
		}
	}
	answers(200, "WEB1\n")
	w.SetBody("other")
	w.SetStatus(503)
	answers(503, "other")

	for range 2 {
		if err := w.Refuse(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := get(within(t)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a refusing server: %v", err)
		}
	}
	if err := w.Hang(); err != nil {
		t.Fatal(err)
	}
	requests := w.Requests()
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := get(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hanging server: %v", err)
	}
	if w.Requests() != requests+1 {
		t.Error("the hanging server did not take the request")
	}
	held := make(chan error)
	go func() {
		_, _, err := get(within(t))
		held <- err
	}()
	for ctx := within(t); w.Requests() < requests+2 && ctx.Err() == nil; { // until it is in
		runtime.Gosched()
	}
	if err := w.Answer(); err != nil {
		t.Fatal(err)
	}
	if err := <-held; !errors.Is(err, io.EOF) {
		t.Errorf("a request that was held back: %v", err)
	}
	answers(503, "other")
}

func TestWebTLS(t *testing.T) {
	h := host(t)
	if _, err := h.StartWeb(lab.WebOptions{Name: "SAFE", Address: here, TLS: true}); err != nil {
		t.Fatal(err)
	}
	client := h.HTTPClient(lab.HTTPOptions{})
	if code, body, err := lab.Get(within(t), client, "https://127.0.0.1:80/"); err != nil || code != 200 || body != "SAFE\n" {
		t.Errorf("got %d %q, %v", code, body, err)
	}
}

// TestWebInItsOwnProcess is how the demo's servers run.
func TestWebInItsOwnProcess(t *testing.T) {
	w, err := lab.NewWeb(lab.WebOptions{Name: "OWN", Address: netip.MustParseAddrPort("127.0.0.1:8099")})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := lab.NewWeb(lab.WebOptions{Address: netip.MustParseAddrPort("192.0.2.1:80")}); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("listening on a foreign address: %v", err)
	}
}

func TestBulkNoticesDamage(t *testing.T) {
	const seed, size = 5, 300_000
	good := make([]byte, size)
	if _, err := io.ReadFull(lab.Pattern(seed), good); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[200_001] ^= 1
	for want, stream := range map[string]io.Reader{
		"":                            bytes.NewReader(good),
		"byte 200001 is ":             bytes.NewReader(flipped),
		"got 299999 bytes, want 3000": bytes.NewReader(good[:size-1]),
		"byte 100000 is ":             bytes.NewReader(append(good[:100_000:100_000], good[100_001:]...)),
		"after 300000 of 300000 byte": io.MultiReader(bytes.NewReader(good), iotest.ErrReader(io.ErrUnexpectedEOF)),
	} {
		err := lab.Compare(stream, seed, size)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	longer := io.LimitReader(lab.Pattern(seed), size+1)
	if err := lab.Compare(longer, seed, size); err == nil {
		t.Error("a byte too much went unnoticed")
	}
	h := host(t)
	w, err := h.StartWeb(lab.WebOptions{Name: "W", Address: here})
	if err != nil {
		t.Fatal(err)
	}
	client := h.HTTPClient(lab.HTTPOptions{})
	ctx := within(t)
	if err := lab.Download(ctx, client, "http://127.0.0.1/x?", 1000, 1); err == nil {
		t.Error("an answer of another kind passed for a download")
	}
	if err := lab.Upload(ctx, client, "http://127.0.0.1/x?", 1000, 1); err == nil {
		t.Error("an answer of another kind passed for an upload")
	}
	if w.Requests() != 2 {
		t.Errorf("%d requests", w.Requests())
	}
}

func TestEcho(t *testing.T) {
	h := host(t)
	e, err := h.StartEcho("ECHO", here)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := h.Dial(within(t), "tcp", here.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len("ECHO\nhello"))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ECHO\nhello" {
		t.Errorf("got %q, %v", b, err)
	}
	if e.Name() != "ECHO" || e.Active() != 1 || e.Accepted() != 1 {
		t.Errorf("%s: %d active of %d", e.Name(), e.Active(), e.Accepted())
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if e.Active() != 0 {
		t.Errorf("%d active after close", e.Active())
	}
	if _, err := conn.Read(b); err == nil {
		t.Error("the connection lives on")
	}
}
