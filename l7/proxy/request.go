package proxy

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/valyala/fasthttp"

	"qlbaas/l7/cookie"
	"qlbaas/l7/pool"
)

// The length of a body where it is not known beforehand.
const (
	chunked  = -1
	untilEnd = -2 // of the connection; a request has no body then
)

// request is one request of a client on its way to a member.
type request struct {
	header fasthttp.RequestHeader
	// head is what the member gets.
	head []byte
	// body is its length, or chunked.
	body int64
	// minor is the version: HTTP/1.minor.
	minor   int
	isHead  bool // method HEAD
	cached  bool // GET or HEAD: the answer could be kept by a cache
	again   bool // may be sent twice
	upgrade bool // asks to leave HTTP
	keep    bool // the client goes on after the answer
	// query is how it presents itself to the pool.
	query pool.Query
	// offer is what it asks to be upgraded to. Like query's values it is a copy in forms.
	offer []byte
	forms []byte

	conn connection
}

// parse reads the request whose head is the first size bytes in the buffer.
func (q *request) parse(r *reader, size int) error {
	before := r.Buffered()
	if err := q.header.Read(r.Reader); err != nil {
		return &refusal{http.StatusBadRequest, err.Error()}
	}
	// The lines are read again below, from the parser's copy, which ends at the same
	// place only if the two lengths are one.
	raw := q.header.RawHeaders() // none has not even the empty line
	if before-r.Buffered() != size || len(raw) > 0 && !bytes.HasSuffix(raw, []byte("\r\n\r\n")) {
		return &refusal{http.StatusBadRequest, "end of head is not clear"}
	}
	switch string(q.header.Protocol()) {
	case "HTTP/1.1":
		q.minor = 1
	case "HTTP/1.0":
		q.minor = 0
	default:
		return &refusal{http.StatusHTTPVersionNotSupported, "version"}
	}
	switch q.body = int64(q.header.ContentLength()); {
	case q.body == chunked && q.minor == 0:
		return &refusal{http.StatusBadRequest, "chunked in HTTP/1.0"}
	case q.body == untilEnd:
		q.body = 0
	}
	return q.readMethod()
}

func (q *request) readMethod() error {
	q.isHead, q.cached, q.again = false, false, false
	switch string(q.header.Method()) {
	case http.MethodHead:
		q.isHead, q.cached, q.again = true, true, true
	case http.MethodGet:
		q.cached, q.again = true, true
	case http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace:
		q.again = true
	case http.MethodConnect:
		return &refusal{http.StatusMethodNotAllowed, "CONNECT"}
	}
	return nil
}

// passOn writes the head for the member, and fills query. forwarded is the client's
// address as text.
func (q *request) passOn(settings pool.Settings, forwarded []byte, maxLines int) error {
	target, err := q.target()
	if err != nil {
		return err
	}
	q.conn = connection{}
	start := append(q.head[:0], q.header.Method()...)
	start = append(start, ' ')
	start = append(start, target...)
	start = append(start, " HTTP/1."...)
	start = append(start, byte('0'+q.minor), '\r', '\n')
	if host := q.header.Host(); len(host) > 0 {
		start = appendLine(start, []byte("Host"), host)
	}
	if q.head, err = q.lines(start, settings, maxLines); err != nil {
		return err
	}
	if len(q.conn.named) > 0 { // after the lines that it names, or before: read them again
		named := q.conn
		if q.head, err = q.lines(start, settings, maxLines); err != nil {
			return err
		}
		q.conn = named
	}
	q.keep = !q.conn.close && (q.minor == 1 || q.conn.keepAlive)
	if settings.Persistence == pool.AppCookie && q.query.App == nil {
		if value, found := cookie.InPath(target, settings.CookieName); found {
			q.query.App = q.remember(value)
		}
	}
	q.end(forwarded)
	return nil
}

// lines appends the header lines that are passed on as they are.
func (q *request) lines(dst []byte, settings pool.Settings, maxLines int) ([]byte, error) {
	count := 0
	q.query.Cookies, q.query.Cookie, q.query.App, q.offer, q.forms = 0, nil, nil, nil, q.forms[:0]
	for name, value := range q.header.AllInOrder() {
		if count++; count > maxLines {
			return dst, &refusal{http.StatusRequestHeaderFieldsTooLarge, "too many header lines"}
		}
		switch {
		case bytes.IndexByte(name, ' ') >= 0: // which the parser lets through
			return dst, &refusal{http.StatusBadRequest, "blank in a name"}
		case is(name, "host"):
		case is(name, "connection"):
			q.conn.read(value)
		case is(name, "upgrade"):
			q.offer = q.remember(value)
		case is(name, "content-length") && (q.body == chunked || len(value) > 18):
			return dst, &refusal{http.StatusBadRequest, "two lengths, or an absurd one"}
		case is(name, "transfer-encoding") && q.body != chunked:
			return dst, &refusal{http.StatusNotImplemented, "transfer coding"}
		case hop(name) || q.conn.names(name):
		case is(name, "cookie"):
			dst = q.cookies(dst, name, value, settings)
		default:
			dst = appendLine(dst, name, value)
		}
	}
	q.upgrade = tunnels(q.offer) && q.conn.upgrade && q.minor == 1 && q.body == 0
	return dst, nil
}

// end appends what this connection, or this proxy, has to say.
func (q *request) end(forwarded []byte) {
	switch {
	case q.body == chunked:
		q.head = append(q.head, "Transfer-Encoding: chunked\r\n"...)
	case q.body > 0 || q.header.ContentLength() == 0:
		q.head = append(q.head, "Content-Length: "...)
		q.head = strconv.AppendInt(q.head, q.body, 10)
		q.head = append(q.head, "\r\n"...)
	}
	if q.upgrade {
		q.head = append(q.head, "Connection: Upgrade\r\n"...)
		q.head = appendLine(q.head, []byte("Upgrade"), q.offer)
	}
	q.head = append(q.head, "X-Forwarded-For: "...)
	q.head = append(q.head, forwarded...)
	q.head = append(q.head, "\r\n\r\n"...)
}

// cookies passes a Cookie line on and notes the cookies that persistence looks for. The
// balancer's own cookie ends here.
func (q *request) cookies(dst, name, line []byte, settings pool.Settings) []byte {
	switch settings.Persistence {
	case pool.HTTPCookie:
		value, count := cookie.Find(line, cookie.Name)
		if count == 0 {
			break
		}
		if q.query.Cookies += count; q.query.Cookies == count {
			q.query.Cookie = q.remember(value)
		}
		kept := len(dst)
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		empty := len(dst)
		if dst = cookie.AppendWithout(dst, line, cookie.Name); len(dst) == empty {
			return dst[:kept]
		}
		return append(dst, "\r\n"...)
	case pool.AppCookie:
		if value, count := cookie.Find(line, settings.CookieName); count > 0 && q.query.App == nil {
			q.query.App = q.remember(value)
		}
	}
	return appendLine(dst, name, line)
}

// remember copies a value out of the parser's memory.
func (q *request) remember(value []byte) []byte {
	from := len(q.forms)
	q.forms = append(q.forms, value...)
	return q.forms[from:len(q.forms):len(q.forms)]
}

// notInHost would make a host mean something else to somebody else.
const notInHost = " \t\"#/<>?@\\^`{|}"

// target is what the member is asked for: always the origin form. Of the absolute form
// the authority must be the Host line's, or the two would be read differently by
// different members.
func (q *request) target() ([]byte, error) {
	uri, host := q.header.RequestURI(), q.header.Host()
	if bytes.ContainsAny(host, notInHost) {
		return nil, &refusal{http.StatusBadRequest, "host"}
	}
	switch {
	case uri[0] == '/':
		return uri, nil
	case string(uri) == "*":
		if string(q.header.Method()) != http.MethodOptions {
			return nil, &refusal{http.StatusBadRequest, "target"}
		}
		return uri, nil
	}
	scheme, rest, _ := bytes.Cut(uri, []byte("://"))
	if !is(scheme, "http") && !is(scheme, "https") {
		return nil, &refusal{http.StatusBadRequest, "scheme"}
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if !bytes.EqualFold(rest[:end], host) {
		return nil, &refusal{http.StatusBadRequest, "two hosts"}
	}
	if rest = rest[end:]; len(rest) == 0 || rest[0] != '/' {
		rest = append([]byte{'/'}, rest...)
	}
	return rest, nil
}

// tunnels tells whether an Upgrade line asks for something that can be tunnelled. HTTP/2
// cannot: requests in it would not be seen.
func tunnels(offer []byte) bool {
	for token := range bytes.SplitSeq(offer, []byte{','}) {
		token = bytes.Trim(token, " \t")
		if hasPrefix(token, "h2") || hasPrefix(token, "http") || hasPrefix(token, "tls") {
			return false
		}
	}
	return len(offer) > 0
}
