package l7_test

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"qlbaas/l7/cookie"
)

// Forged cookies over the wire, many requests in a row on each connection: everyone gets
// a new cookie and an answer, and the members share them as if there were none. (A
// million of them without a network: see package pool.)
func TestForgedCookies(t *testing.T) {
	const (
		connections = 20
		each        = 500
	)
	w := running(t, 4, basic(4))
	w.nginx(4)
	right := cookie.Value(w.config.Pool.Keys[0], "m1")
	got := map[string]int{}
	for range connections {
		conn, in := w.connect(w.context())
		var requests strings.Builder
		for i := range each {
			fmt.Fprintf(&requests, "GET /who HTTP/1.1\r\nHost: h\r\nCookie: %s\r\n\r\n", forged(i, right))
		}
		go func() { _, _ = io.WriteString(conn, requests.String()) }() // the answers tell
		for range each {
			a, err := http.ReadResponse(in, nil)
			w.must(err)
			body, err := io.ReadAll(a.Body)
			w.must(err)
			name := strings.TrimSpace(string(body))
			want := "SRV=" + cookie.Value(w.config.Pool.Keys[0], name) + ";"
			if a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Header.Get("Set-Cookie"), want) {
				t.Fatalf("%d %s, Set-Cookie %q, want %s", a.StatusCode, name, a.Header.Get("Set-Cookie"), want)
			}
			got[name]++
		}
	}
	for i := range 4 {
		if name := fmt.Sprint("m", i); got[name] != connections*each/4 {
			t.Errorf("%s has %d of %d requests", name, got[name], connections*each)
		}
	}
	if s := w.stats().Pool; s.Strange != connections*each {
		t.Errorf("%d cookies counted as strange, want %d", s.Strange, connections*each)
	}
}

// forged is a Cookie line that must keep nobody anywhere.
func forged(i int, right string) string {
	random := make([]byte, cookie.Length/2)
	_, _ = rand.Read(random) // never fails
	switch i % 5 {
	case 0:
		return "SRV=" + hex.EncodeToString(random)
	case 1:
		return "SRV=" + cookie.Value([]byte("the key of another pool"), "m1")
	case 2:
		return "SRV=" + right + "; SRV=" + hex.EncodeToString(random) // which one is meant?
	case 3:
		return "a=b; SRV=" + strings.ToUpper(right)
	}
	return "SRV=m1"
}

// Many requests sent at once are answered in their order.
func TestPipelining(t *testing.T) {
	w := running(t, 3, basic(3))
	w.nginx(3)
	conn, in := w.connect(w.context())
	var requests strings.Builder
	const n = 1000
	for i := range n {
		fmt.Fprintf(&requests, "GET /echo HTTP/1.1\r\nHost: h%d\r\n\r\n", i)
	}
	go func() { _, _ = io.WriteString(conn, requests.String()) }() // the answers tell
	for i := range n {
		if got, want := answered(t, in), fmt.Sprintf("GET h%d []", i); !strings.HasPrefix(got, want) {
			t.Fatalf("answer %d is %q, want %q", i, got, want)
		}
	}
}

func answered(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	a, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
