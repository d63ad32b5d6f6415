package l7_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// answer is what a member sends for one request, and what the client gets of it.
type answer struct {
	name, send string
	statuses   []int
	// has are parts that the client must get, not those that it must not.
	has, not []string
	// cut: the client's connection is reset, so that nobody takes the part for the whole.
	cut bool
	// method and version of the request; GET and HTTP/1.1.
	method, version string
}

func badAnswers() []answer {
	const head = "HTTP/1.1 200 OK\r\n"
	var all []answer
	for name, send := range map[string]string{
		"NUL in a value":         head + "X: a\x00b\r\nContent-Length: 1\r\n\r\nx",
		"CR in a value":          head + "X: a\rSet-Cookie: evil=1\r\nContent-Length: 1\r\n\r\nx",
		"two lengths":            head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
		"length +1":              head + "Content-Length: +1\r\n\r\nx",
		"unknown coding":         head + "Transfer-Encoding: gzip\r\n\r\nx",
		"two codings":            head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"no status":              "HTTP/1.1 OK\r\n\r\n",
		"status of four digits":  "HTTP/1.1 2000 OK\r\n\r\n",
		"not HTTP":               "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"empty name":             head + ": a\r\nContent-Length: 1\r\n\r\nx",
		"bare LF at the end":     "HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
		"head too large":         head + "X: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		"endless 1xx":            strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100) + head + "Content-Length: 0\r\n\r\n",
		"switching without wish": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"nothing":                "",
	} {
		a := answer{name: name, send: send, statuses: []int{502}, not: []string{"evil"}}
		if name == "endless 1xx" {
			a.statuses = append(slices.Repeat([]int{102}, 16), 502)
		}
		all = append(all, a)
	}
	return all
}

func goodAnswers() []answer {
	const head = "HTTP/1.1 200 OK\r\n"
	return []answer{
		{name: "length", send: head + "Content-Length: 2\r\n\r\nok", has: []string{"\r\nContent-Length: 2\r\n", "\r\n\r\nok"}},
		{
			name: "chunks and trailers", send: head + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
			has: []string{"\r\nTransfer-Encoding: chunked\r\n", "\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"},
		},
		{
			name: "chunks for HTTP/1.0", version: "1.0", send: head + "Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
			has: []string{"\r\n\r\nok", "\r\nConnection: close\r\n"}, not: []string{"chunked"},
		},
		{name: "until the end", send: head + "Connection: close\r\n\r\nok", has: []string{"\r\nConnection: close\r\n", "\r\n\r\nok"}, not: []string{"Content-Length"}},
		{
			name: "length beside chunks", send: head + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
			has: []string{"\r\n\r\n2\r\nok\r\n0\r\n\r\n"}, not: []string{"99"},
		},
		{name: "HEAD with length", method: "HEAD", send: head + "Content-Length: 99\r\n\r\n", has: []string{"\r\nContent-Length: 99\r\n"}},
		{name: "HEAD with chunks", method: "HEAD", send: head + "Transfer-Encoding: chunked\r\n\r\n", has: []string{"\r\nTransfer-Encoding: chunked\r\n"}},
		{name: "204", send: "HTTP/1.1 204 No Content\r\n\r\n", statuses: []int{204}, not: []string{"Content-Type", "Content-Length"}},
		{name: "304 with length", send: "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"a\"\r\n\r\n", statuses: []int{304}, has: []string{"ETag: \"a\""}},
		{
			name: "early hints", send: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head + "Content-Length: 2\r\n\r\nok",
			statuses: []int{103, 200}, has: []string{"103 Early Hints\r\nLink: </a>\r\n\r\n", "\r\n\r\nok"},
		},
		{name: "no type for the empty", send: head + "Content-Length: 0\r\n\r\n", has: []string{"\r\nContent-Length: 0\r\n"}, not: []string{"Content-Type", "Date"}},
		{
			name: "cookies stay", send: head + "Set-Cookie: a=b; Path=/\r\nSet-Cookie: SRV=mine\r\nSet-Cookie: c=d, e; HttpOnly\r\nContent-Length: 0\r\n\r\n",
			has: []string{"\r\nSet-Cookie: a=b; Path=/\r\n", "\r\nSet-Cookie: c=d, e; HttpOnly\r\n"}, not: []string{"mine"},
		},
		{name: "no reason", send: "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", statuses: []int{299}},
		{name: "private already", send: head + "Cache-Control: max-age=5, private\r\nContent-Length: 0\r\n\r\n", not: []string{"Cache-control: private"}},
		{name: "public", send: head + "Cache-Control: public\r\nContent-Length: 0\r\n\r\n", has: []string{"Cache-Control: public", "\r\nCache-control: private\r\n"}},
		{name: "not cacheable", method: "POST", send: head + "Content-Length: 0\r\n\r\n", has: []string{"SRV="}, not: []string{"private"}},
		{name: "named headers end here", send: head + "Connection: X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\nX-B: 2\r\nContent-Length: 0\r\n\r\n", has: []string{"X-B: 2"}, not: []string{"X-A", "Keep-Alive"}},
		{name: "body cut short", send: head + "Content-Length: 20000\r\nConnection: close\r\n\r\nok", cut: true},
		{name: "chunks cut short", send: head + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nok", cut: true},
		{name: "broken chunks", send: head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nok", cut: true},
		{name: "forbidden trailer", send: head + "Transfer-Encoding: chunked\r\n\r\n0\r\nSet-Cookie: SRV=mine\r\n\r\n", cut: true},
	}
}

func TestAnswers(t *testing.T) {
	w := running(t, 1, basic(1))
	next := make(chan string, 1)
	w.record(0, func(string) string { return <-next })
	for _, a := range append(badAnswers(), goodAnswers()...) {
		if a.statuses == nil {
			a.statuses = []int{200}
		}
		method, version := "GET", "1.1"
		if a.method != "" {
			method = a.method
		}
		if a.version != "" {
			version = a.version
		}
		next <- a.send
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		got, err := w.say(ctx, method+" / HTTP/"+version+"\r\nHost: h\r\nConnection: close\r\n\r\n")
		cancel()
		if a.cut != (err != nil) {
			t.Errorf("%s: error %v, want one: %v; %q", a.name, err, a.cut, got)
		}
		if all, _ := statuses(got); !slices.Equal(all, a.statuses) {
			t.Errorf("%s: answers %v, want %v: %q", a.name, all, a.statuses, got)
		}
		for _, part := range a.has {
			if !strings.Contains(got, part) {
				t.Errorf("%s: no %q in %q", a.name, part, got)
			}
		}
		for _, part := range a.not {
			if strings.Contains(got, part) {
				t.Errorf("%s: %q in %q", a.name, part, got)
			}
		}
	}
	if s := w.stats(); s.Proxy.Panics > 0 {
		t.Errorf("%d panics:\n%s", s.Proxy.Panics, w.log)
	}
}

// What a member sends unasked is nobody's answer.
func TestNoAnswerIsMixedUp(t *testing.T) {
	w := running(t, 1, basic(1))
	w.record(0, func(request string) string {
		if strings.HasPrefix(request, "GET /extra") {
			return ok("first")("") + ok("evil")("")
		}
		return ok("right")(request)
	})
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		got, err := w.say(ctx, "GET /extra HTTP/1.1\r\nHost: h\r\n\r\n"+get+"\r\n")
		cancel()
		if err != nil || strings.Contains(got, "evil") || !strings.Contains(got, "first") || !strings.Contains(got, "right") {
			t.Fatalf("%v, %q", err, got)
		}
	}
}
