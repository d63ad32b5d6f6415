package proxy

import "bytes"

// is compares a header's name with one in lower case.
func is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(lower) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func hasPrefix(name []byte, lower string) bool {
	return len(name) >= len(lower) && is(name[:len(lower)], lower)
}

// appendLine appends a header line.
func appendLine(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// connection is what Connection lines say about this connection, and what else they
// name.
type connection struct {
	close, keepAlive, upgrade bool
	// named headers are of this connection only. The slices are copies.
	named [][]byte
}

// read adds a line's tokens.
func (c *connection) read(value []byte) {
	for len(value) > 0 {
		var token []byte
		token, value, _ = bytes.Cut(value, []byte{','})
		token = bytes.Trim(token, " \t")
		switch {
		case len(token) == 0:
		case is(token, "close"):
			c.close = true
		case is(token, "keep-alive"):
			c.keepAlive = true
		case is(token, "upgrade"):
			c.upgrade = true
		case !endToEnd(token):
			c.named = append(c.named, bytes.Clone(token))
		}
	}
}

// names tells whether a header was named.
func (c *connection) names(header []byte) bool {
	for _, name := range c.named {
		if bytes.EqualFold(name, header) {
			return true
		}
	}
	return false
}

// endToEnd headers cannot be made the connection's own: a client could take away what
// members rely on.
func endToEnd(name []byte) bool {
	for _, keep := range []string{
		"host", "cookie", "authorization", "content-length", "content-type", "transfer-encoding",
		"cache-control", "expect", "forwarded", "via", "x-real-ip", "set-cookie",
	} {
		if is(name, keep) {
			return true
		}
	}
	return hasPrefix(name, "x-forwarded-")
}

// hop tells whether a header belongs to one connection and is never passed on as it is.
func hop(name []byte) bool {
	switch len(name) {
	case len("te"):
		return is(name, "te")
	case len("proxy"):
		return is(name, "proxy") // becomes HTTP_PROXY in the environment of a CGI
	case len("upgrade"):
		return is(name, "upgrade")
	case len("connection"): // and keep-alive
		return is(name, "connection") || is(name, "keep-alive")
	case len("http2-settings"):
		return is(name, "http2-settings") || is(name, "content-length")
	case len("proxy-connection"):
		return is(name, "proxy-connection")
	case len("transfer-encoding"):
		return is(name, "transfer-encoding")
	}
	return false
}
