package proxy

import (
	"net/http"
	"strconv"

	"github.com/valyala/fasthttp"

	"qlbaas/l7/cookie"
	"qlbaas/l7/pool"
)

// response is a member's answer on its way to the client.
type response struct {
	header fasthttp.ResponseHeader
	status int
	// head is what the client gets.
	head []byte
	// body is its length, or chunked, or untilEnd.
	body int64
	// again tells that the member's connection can carry another request.
	again bool

	conn connection
}

// read waits for the next head on a member's connection.
func (a *response) read(l *line, bounds headBounds) error {
	size, err := l.awaitHead(bounds)
	if err != nil {
		return err
	}
	before := l.Buffered()
	if err := a.header.Read(l.Reader); err != nil {
		return &refusal{http.StatusBadGateway, err.Error()}
	}
	if before-l.Buffered() != size {
		return &refusal{http.StatusBadGateway, "end of head is not clear"}
	}
	a.status, a.body = a.header.StatusCode(), int64(a.header.ContentLength())
	a.conn = connection{}
	for name, value := range a.header.All() {
		if is(name, "connection") {
			a.conn.read(value)
		}
	}
	a.again = !a.conn.close && !a.header.ConnectionClose() && string(a.header.Protocol()) == "HTTP/1.1"
	return nil
}

// empty tells whether an answer has no body, whatever its head says.
func (a *response) empty(q *request) bool {
	return q.isHead || a.status < 200 || a.status == http.StatusNoContent || a.status == http.StatusNotModified
}

// passOn writes the head for the client. keep is what the client is told of the
// connection.
func (a *response) passOn(q *request, picker Picker, choice pool.Choice, settings pool.Settings) (keep bool) {
	empty := a.empty(q)
	keep = q.keep && (empty || a.body >= 0 || a.body == chunked && q.minor == 1)
	a.begin()
	cacheable := q.cached && cacheableStatus(a.status)
	for name, value := range a.header.All() {
		switch {
		case hop(name) || a.conn.names(name):
		case is(name, "set-cookie"):
			if a.own(value, picker, choice, settings) {
				continue
			}
			a.head = appendLine(a.head, name, value)
		default:
			a.head = appendLine(a.head, name, value)
		}
	}
	if settings.Persistence == pool.HTTPCookie && !choice.Kept {
		a.head = append(a.head, "Set-Cookie: "+cookie.Name+"="...)
		a.head = append(a.head, choice.Cookie()...)
		a.head = append(a.head, "; path=/; HttpOnly; SameSite=Lax\r\n"...)
		if cacheable && !uncached(a.header.Peek("Cache-Control")) {
			a.head = append(a.head, "Cache-control: private\r\n"...)
		}
	}
	a.frame(q, empty)
	switch {
	case !keep:
		a.head = append(a.head, "Connection: close\r\n"...)
	case q.minor == 0:
		a.head = append(a.head, "Connection: keep-alive\r\n"...)
	}
	a.head = append(a.head, "\r\n"...)
	return keep
}

// interim writes an answer that comes before the last one: 1xx.
func (a *response) interim() {
	a.begin()
	for name, value := range a.header.All() {
		if a.status == http.StatusSwitchingProtocols && is(name, "upgrade") || !hop(name) && !a.conn.names(name) {
			a.head = appendLine(a.head, name, value)
		}
	}
	if a.status == http.StatusSwitchingProtocols {
		a.head = append(a.head, "Connection: Upgrade\r\n"...)
	}
	a.head = append(a.head, "\r\n"...)
}

func (a *response) begin() {
	a.head = append(a.head[:0], "HTTP/1.1 "...)
	a.head = strconv.AppendInt(a.head, int64(a.status), 10)
	a.head = append(a.head, ' ')
	if reason := a.header.StatusMessage(); len(reason) > 0 {
		a.head = append(a.head, reason...)
	} else {
		a.head = append(a.head, http.StatusText(a.status)...)
	}
	a.head = append(a.head, "\r\n"...)
}

// frame appends how long the body is. For answers without one it is what the body of
// another request's would be.
func (a *response) frame(q *request, empty bool) {
	switch {
	case a.body >= 0 && a.status != http.StatusNoContent:
		a.head = append(a.head, "Content-Length: "...)
		a.head = strconv.AppendInt(a.head, a.body, 10)
		a.head = append(a.head, "\r\n"...)
	case a.body == chunked && q.minor == 1 && (!empty || q.isHead):
		a.head = append(a.head, "Transfer-Encoding: chunked\r\n"...)
	}
}

// own tells whether a Set-Cookie line is the balancer's and not the member's to send.
// The application's cookie is learned.
func (a *response) own(line []byte, picker Picker, choice pool.Choice, settings pool.Settings) bool {
	switch settings.Persistence {
	case pool.HTTPCookie:
		_, found := cookie.Given(line, cookie.Name)
		return found
	case pool.AppCookie:
		if value, found := cookie.Given(line, settings.CookieName); found {
			picker.Learn(value, choice.Member)
		}
	}
	return false
}

// cacheableStatus: what caches may keep without being told.
func cacheableStatus(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// uncached tells whether a Cache-Control line keeps shared caches away.
func uncached(line []byte) bool {
	for len(line) > 0 {
		for _, word := range []string{"private", "no-store", "no-cache", "max-age=0", "s-maxage=0"} {
			if hasPrefix(line, word) {
				return true
			}
		}
		line = line[1:]
	}
	return false
}
