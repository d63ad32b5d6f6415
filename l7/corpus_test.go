package l7_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostile is what a client sends over one connection before it ends its side, and what
// comes of it: the statuses of the answers, and the member's requests, byte by byte. In
// those, ~ stands for the line that the proxy adds and the end of the head.
type hostile struct {
	name     string
	send     string
	statuses []int
	member   []string
	// partial: a member may see the beginning of the request, but never a whole one.
	partial bool
}

const (
	get   = "GET / HTTP/1.1\r\nHost: h\r\n"
	post  = "POST / HTTP/1.1\r\nHost: h\r\n"
	added = "X-Forwarded-For: 10.1.0.2\r\n\r\n"
	te    = "Transfer-Encoding: chunked\r\n"
)

// one is a request that arrives as the one given.
func one(name, send, member string) hostile {
	return hostile{name: name, send: send, statuses: []int{200}, member: []string{member}}
}

// no is a request that is refused before a member sees it. What follows on the
// connection is not looked at.
func no(name, send string, status int) hostile {
	return hostile{name: name, send: send + get + "\r\n", statuses: []int{status}}
}

// half is a request whose body turns out to be wrong.
func half(name, send string) hostile {
	return hostile{name: name, send: send, statuses: []int{400}, partial: true}
}

func corpus() []hostile {
	return slices.Concat(lengths(), codings(), chunks(), lines(), targets(), hops(), sizes())
}

func lengths() []hostile {
	five := func(value string) string { return post + "Content-Length: " + value + "\r\n\r\nhello" }
	clean := post + "Content-Length: 5\r\n~hello"
	return []hostile{
		one("plain", get+"\r\n", get+"~"),
		one("body", five("5"), clean),
		one("blanks around the length", five("  5\t "), clean),
		one("leading zero", five("05"), clean),
		{"pipelined", get + "\r\n" + get + "\r\n", []int{200, 200}, []string{get + "~", get + "~"}, false},
		{"pipelined behind a body", five("5") + get + "\r\n", []int{200, 200}, []string{clean, get + "~"}, false},
		{
			"GET with a body", get + "Content-Length: 5\r\n\r\nhello" + get + "\r\n",
			[]int{200, 200},
			[]string{get + "Content-Length: 5\r\n~hello", get + "~"},
			false,
		},
		one("HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: h\r\n~"),
		one("length 0", post+"Content-Length: 0\r\n\r\n", post+"Content-Length: 0\r\n~"),
		no("two lengths", post+"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
		no("two equal lengths", post+"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
		no("list of lengths", five("5, 5"), 400),
		no("length +5", five("+5"), 400),
		no("length -5", five("-5"), 400),
		no("length 0x5", five("0x5"), 400),
		no("empty length", five(""), 400),
		no("length 5 5", five("5 5"), 400),
		no("length 5;", five("5;"), 400),
		no("length 5 NUL", five("5\x00"), 400),
		no("length of 2^64+5", five("18446744073709551621"), 400),
		no("length of 10^19", five("10000000000000000000"), 400),
		half("body cut short", five("50")),
	}
}

func codings() []hostile {
	body := "5\r\nhello\r\n0\r\n\r\n"
	clean := post + te + "~" + body
	return []hostile{
		one("chunked", post+te+"\r\n"+body, clean),
		one("chunked, other case", post+"transfer-encoding: Chunked\r\n\r\n"+body, clean),
		one("chunked behind a tab", post+"Transfer-Encoding:\tchunked\r\n\r\n"+body, clean),
		no("length and coding", post+"Content-Length: 5\r\n"+te+"\r\n"+body, 400),
		no("coding and length", post+te+"Content-Length: 5\r\n\r\n"+body, 400),
		no("length hides a request", post+te+"Content-Length: 60\r\n\r\n0\r\n\r\n"+get+"\r\n", 400),
		no("two codings", post+te+te+"\r\n"+body, 400),
		no("coding and another one", post+te+"Transfer-Encoding: identity\r\n\r\n"+body, 400),
		no("list of codings", post+"Transfer-Encoding: gzip, chunked\r\n\r\n"+body, 400),
		no("list ends otherwise", post+"Transfer-Encoding: chunked, identity\r\n\r\n"+body, 400),
		no("unknown coding", post+"Transfer-Encoding: xchunked\r\n\r\n"+body, 400),
		no("quoted coding", post+"Transfer-Encoding: \"chunked\"\r\n\r\n"+body, 400),
		no("identity", post+"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 501),
		no("empty coding", post+"Transfer-Encoding:\r\n\r\n"+body, 400),
		no("coding with vertical tab", post+"Transfer-Encoding: \vchunked\r\n\r\n"+body, 400),
		no("coding before a blank colon", post+"Transfer-Encoding : chunked\r\n\r\n"+body, 400),
		no("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: h\r\n"+te+"\r\n"+body, 400),
	}
}

func chunks() []hostile {
	chunked := post + te + "\r\n"
	clean := post + te + "~5\r\nhello\r\n0\r\n\r\n"
	return []hostile{
		one("extension", chunked+"5;a=b\r\nhello\r\n0\r\n\r\n", clean),
		one("quoted extension", chunked+"5;a=\"b;c\"\r\nhello\r\n0;x\r\n\r\n", clean),
		one("leading zeros", chunked+"0005\r\nhello\r\n000\r\n\r\n", clean),
		one("trailers", chunked+"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n",
			post+te+"~5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n"),
		half("bare LF behind a size", chunked+"5\nhello\r\n0\r\n\r\n"),
		half("bare LF behind an extension", chunked+"5;a\nhello\r\n0\r\n\r\n"),
		half("CR in a size", chunked+"5\r\r\nhello\r\n0\r\n\r\n"),
		half("size 0x5", chunked+"0x5\r\nhello\r\n0\r\n\r\n"),
		half("size -5", chunked+"-5\r\nhello\r\n0\r\n\r\n"),
		half("size +5", chunked+"+5\r\nhello\r\n0\r\n\r\n"),
		half("no size", chunked+"\r\nhello\r\n0\r\n\r\n"),
		half("size of 68 bits", chunked+"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
		half("size of 2^64", chunked+"10000000000000000\r\nhello\r\n0\r\n\r\n"),
		half("chunk too long", chunked+"5\r\nhello!\r\n0\r\n\r\n"),
		half("chunk too short", chunked+"5\r\nhell\r\n0\r\n\r\n"),
		half("no last chunk", chunked+"5\r\nhello\r\n"),
		half("no end of trailers", chunked+"5\r\nhello\r\n0\r\nX-Sum: 1\r\n"),
		half("length in trailers", chunked+"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
		half("address in trailers", chunked+"5\r\nhello\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"),
		half("NUL in trailers", chunked+"5\r\nhello\r\n0\r\nX: a\x00b\r\n\r\n"),
		half("endless extension", chunked+"5;"+strings.Repeat("a", 5000)+"\r\nhello\r\n0\r\n\r\n"),
	}
}

func lines() []hostile {
	return []hostile{
		one("folded line", get+"X: a\r\n  b\r\nY: c\r\n\r\n", get+"X: a b\r\nY: c\r\n~"),
		one("long name", get+strings.Repeat("a", 300)+": b\r\n\r\n", get+strings.Repeat("a", 300)+": b\r\n~"),
		one("long name before a length", post+"Content-Length0"+strings.Repeat("a", 255)+":\r\nContent-Length: 5\r\n\r\nhello",
			post+"Content-Length0"+strings.Repeat("a", 255)+": \r\nContent-Length: 5\r\n~hello"),
		one("bare LF inside", "GET / HTTP/1.1\nHost: h\nX: a\r\n\r\n", get+"X: a\r\n~"),
		one("names keep their case", get+"x-lOwEr: a\r\n\r\n", get+"x-lOwEr: a\r\n~"),
		one("order and repetition", get+"B: 1\r\nA: 2\r\nB: 3\r\n\r\n", get+"B: 1\r\nA: 2\r\nB: 3\r\n~"),
		one("empty lines before", "\r\n\r\n"+get+"\r\n", get+"~"),
		no("bare LF at the end", "GET / HTTP/1.1\nHost: h\n\n", 400),
		no("bare LF at the end, CR before", get+"X: a\n\r\n", 400),
		no("empty line of LF", get+"X: a\r\n\n", 400),
		no("CR in a value", get+"X: a\rb\r\n\r\n", 400),
		no("CR in a name", get+"X\r: a\r\n\r\n", 400),
		no("CR hides a line", get+"X: a\rContent-Length: 5\r\n\r\n", 400),
		no("NUL in a value", get+"X: a\x00b\r\n\r\n", 400),
		no("NUL in a name", get+"X\x00: a\r\n\r\n", 400),
		no("DEL in a value", get+"X: a\x7f\r\n\r\n", 400),
		no("escape in a value", get+"X: \x1b[2J\r\n\r\n", 400),
		no("blank before the colon", get+"X : a\r\n\r\n", 400),
		no("tab before the colon", get+"X\t: a\r\n\r\n", 400),
		no("blank in a name", get+"X Y: a\r\n\r\n", 400),
		no("empty name", get+": a\r\n\r\n", 400),
		no("no colon", get+"X\r\n\r\n", 400),
		no("first line folded", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
		no("name of other bytes", get+"X\xff: a\r\n\r\n", 400),
	}
}

func targets() []hostile {
	with := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n" }
	return []hostile{
		one("HTTP/1.0 without host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n~"),
		one("absolute form", with("http://h/a?b"), "GET /a?b HTTP/1.1\r\nHost: h\r\n~"),
		one("absolute form without path", with("http://H"), get+"~"),
		one("absolute form with query only", with("http://h?a"), "GET /?a HTTP/1.1\r\nHost: h\r\n~"),
		one("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n~"),
		one("encoded twice", with("/%252e%252e/%00"), "GET /%252e%252e/%00 HTTP/1.1\r\nHost: h\r\n~"),
		one("two slashes", with("//other/path"), "GET //other/path HTTP/1.1\r\nHost: h\r\n~"),
		no("absolute form of another host", with("http://other/"), 400),
		no("absolute form with user", with("http://h@other/"), 400),
		no("absolute form with user of ours", with("http://user@h/"), 400),
		no("another scheme", with("ftp://h/"), 400),
		no("no slash", with("path"), 400),
		no("GET *", with("*"), 400),
		no("empty target", "GET  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
		no("blank in target", with("/a b"), 400),
		no("tab in target", with("/a\tb"), 400),
		no("NUL in target", with("/a\x00"), 400),
		no("CR in target", with("/a\rb"), 400),
		no("CONNECT", "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 405),
		no("no host", "GET / HTTP/1.1\r\nX: a\r\n\r\n", 400),
		no("two hosts", get+"Host: other\r\n\r\n", 400),
		no("two equal hosts", get+"Host: h\r\n\r\n", 400),
		no("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
		no("host with path", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", 400),
		no("host with user", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
		no("host with blank", "GET / HTTP/1.1\r\nHost: h x\r\n\r\n", 400),
		no("HTTP/0.9", "GET /\r\n\r\n", 400),
		no("HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
		no("HTTP/2.0", "PRI * HTTP/2.0\r\nHost: h\r\n\r\nSM\r\n\r\n", 505),
		no("HTTP/1.10", "GET / HTTP/1.10\r\nHost: h\r\n\r\n", 400),
		no("lower case version", "GET / http/1.1\r\nHost: h\r\n\r\n", 400),
		no("blank before the method", " "+get+"\r\n", 400),
		no("tab behind the method", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
		no("method with a colon", "GE:T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
		no("no request at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
	}
}

func hops() []hostile {
	return []hostile{
		one("close, and nothing is behind it", get+"Connection: close\r\n\r\n"+get+"\r\n", get+"~"),
		one("named headers end here", get+"X-A: 1\r\nConnection: x-a\r\nX-B: 2\r\nConnection: keep-alive, X-B\r\nX-C: 3\r\n\r\n", get+"X-C: 3\r\n~"),
		one("the client's address cannot be named", get+"X-Forwarded-For: 1.2.3.4\r\nConnection: X-Forwarded-For\r\n\r\n", get+"X-Forwarded-For: 1.2.3.4\r\n~"),
		one("nor in lower case", get+"Connection: close, x-forwarded-for\r\nx-forwarded-for: 1.2.3.4\r\n\r\n", get+"x-forwarded-for: 1.2.3.4\r\n~"),
		one("nor others that members rely on", post+"Connection: host, cookie, content-length, x-real-ip\r\nCookie: a=b\r\nContent-Length: 1\r\n\r\nx",
			post+"Cookie: a=b\r\nContent-Length: 1\r\n~x"),
		one("headers of one connection", get+"Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\nProxy: http://evil/\r\nX: a\r\n\r\n", get+"X: a\r\n~"),
		one("HTTP/2 is not for members", get+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", get+"~"),
		one("upgrade with a body", post+"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", post+"Content-Length: 1\r\n~x"),
		one("upgrade without connection", get+"Upgrade: websocket\r\n\r\n", get+"~"),
		one("upgrade that the member does not take", get+"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", get+"Connection: Upgrade\r\nUpgrade: websocket\r\n~"),
		one("cookies", get+"Cookie: a=b; SRV=x; c=d\r\nCookie: SRV=y\r\nCookie: e=f\r\n\r\n", get+"Cookie: a=b; c=d\r\nCookie: e=f\r\n~"),
		one("expectation", post+"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx", post+"Expect: 100-continue\r\nContent-Length: 1\r\n~x"),
	}
}

func sizes() []hostile {
	return []hostile{
		no("head of 1 MB", get+"X: "+strings.Repeat("a", 1<<20)+"\r\n\r\n", 431),
		no("10,000 lines", get+strings.Repeat("a:\r\n", 10000)+"\r\n", 431),
		no("300 lines", get+strings.Repeat("a: b\r\n", 300)+"\r\n", 431),
		no("cookie of 64 kB", get+"Cookie: a="+strings.Repeat("b", 64<<10)+"\r\n\r\n", 431),
		no("target of 40 kB", "GET /"+strings.Repeat("a", 40<<10)+" HTTP/1.1\r\nHost: h\r\n\r\n", 431),
		one("cookie of 20 kB", get+"Cookie: a="+strings.Repeat("b", 20<<10)+"\r\n\r\n", get+"Cookie: a="+strings.Repeat("b", 20<<10)+"\r\n~"),
		one("2,000 cookies", get+"Cookie: "+strings.Repeat("a=b; ", 2000)+"c=d\r\n\r\n", get+"Cookie: "+strings.Repeat("a=b; ", 2000)+"c=d\r\n~"),
	}
}

// say sends bytes over one connection, ends that side, and returns all that comes back.
func (w *world) say(ctx context.Context, bytes string) (string, error) {
	conn, err := w.client.Dial(ctx, "tcp", vip.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	go func() {
		_, _ = io.WriteString(conn, bytes) // a refusal may come before all is sent
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

var statusLine = regexp.MustCompile(`HTTP/1\.([01]) (\d\d\d) `)

// statuses of the answers in a stream, and how many of them are the proxy's own.
func statuses(answers string) (all []int, own int) {
	for _, m := range statusLine.FindAllStringSubmatch(answers, -1) {
		status, _ := strconv.Atoi(m[2]) // three digits
		all = append(all, status)
		if m[1] == "0" {
			own++
		}
	}
	return all, own
}

func TestCorpus(t *testing.T) {
	w := running(t, 1, basic(1))
	member := w.record(0, ok("ok"))
	cases := corpus()
	partial, broken, differing := 0, 0, 0 // the member notices the end of half a request later
	for _, c := range cases {
		unread, right := w.corpusCase(c, member)
		broken += unread
		if c.partial {
			partial++
		}
		if !right {
			differing++
		}
	}
	report(t, map[string]any{"corpus": len(cases), "differing": differing})
	if broken > partial {
		t.Errorf("the member got %d requests that it could not read", broken)
	}
	if s := w.stats(); s.Proxy.Panics > 0 {
		t.Errorf("%d panics:\n%s", s.Proxy.Panics, w.log)
	}
}

// corpusCase tells whether client and member see what they should, and how many requests
// the member could not read.
func (w *world) corpusCase(c hostile, member *recorder) (unread int, right bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	answers, err := w.say(ctx, c.send)
	right = err == nil
	if !right {
		w.t.Errorf("%s: %v after %q", c.name, err, answers)
	}
	if got, _ := statuses(answers); !slices.Equal(got, c.statuses) {
		right = false
		w.t.Errorf("%s: answers %v, want %v", c.name, got, c.statuses)
	}
	var want []string
	for _, text := range c.member {
		want = append(want, strings.Replace(text, "~", added, 1))
	}
	got, broken := member.take()
	if !slices.Equal(got, want) {
		right = false
		w.t.Errorf("%s: the member got %q, want %q", c.name, got, want)
	}
	return len(broken), right
}

// What a real server makes of it: it sees as many requests as the client has answers
// that are not the proxy's own.
func TestCorpusAtNginx(t *testing.T) {
	w := running(t, 1, basic(1))
	log := w.nginx(1)
	seen := 0
	for _, c := range corpus() {
		if c.partial { // begun and reset: the server may write a line or not
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		answers, err := w.say(ctx, c.send)
		cancel()
		if err != nil {
			t.Errorf("%s: %v after %q", c.name, err, answers)
		}
		all, own := statuses(answers)
		if len(all) != len(c.statuses) {
			t.Errorf("%s: answers %v, want %d", c.name, all, len(c.statuses))
		}
		seen += len(all) - own
	}
	w.await("the server's log", func() error {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), "\n"); n != seen {
			return fmt.Errorf("%d requests in the log, %d answers", n, seen)
		}
		return nil
	})
}
