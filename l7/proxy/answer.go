package proxy

import (
	"fmt"
	"net/http"
)

// refusal is an answer of the proxy itself. As an error it says why a message was not
// passed on.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.status, r.why) }

// pages are the proxy's own answers, whole: like the original's they speak HTTP/1.0, so
// that nobody expects the connection to go on.
var pages = map[int][]byte{}

func init() {
	for status, text := range map[int]string{
		http.StatusBadRequest:                  "Your browser sent an invalid request.",
		http.StatusMethodNotAllowed:            "This method is not for a load balancer.",
		http.StatusRequestTimeout:              "Your browser didn't send a complete request in time.",
		http.StatusRequestHeaderFieldsTooLarge: "Your browser sent more than this server takes.",
		http.StatusBadGateway:                  "The server returned an invalid or incomplete response.",
		http.StatusServiceUnavailable:          "No server is available to handle this request.",
		http.StatusGatewayTimeout:              "The server didn't respond in time.",
		http.StatusHTTPVersionNotSupported:     "This version of HTTP is not supported.",
		http.StatusNotImplemented:              "This coding is not supported.",
	} {
		name := http.StatusText(status)
		pages[status] = fmt.Appendf(nil,
			"HTTP/1.0 %d %s\r\nCache-Control: no-cache\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n"+
				"<html><body><h1>%d %s</h1>\n%s\n</body></html>\n", status, name, status, name, text)
	}
}
