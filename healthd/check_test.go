package healthd

import (
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	good := Check{ID: "m", Type: HTTP, Delay: time.Second, Timeout: time.Second, MaxRetries: 3, Method: "GET", Path: "/x?y=%zz&z=//"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (Check{Type: PING, MaxRetries: 1}).Validate(); err != nil {
		t.Errorf("zero delay, timeout, method and path are defaults: %v", err)
	}
	for _, c := range []struct {
		field  string
		change func(*Check)
	}{
		{"type: ", func(c *Check) { c.Type = "" }},
		{"type: ", func(c *Check) { c.Type = "http" }},
		{"delay: ", func(c *Check) { c.Delay = -1 }},
		{"timeout: ", func(c *Check) { c.Timeout = -1 }},
		{"max_retries: ", func(c *Check) { c.MaxRetries = 0 }},
		{"http_method: ", func(c *Check) { c.Method = "GET /" }},
		{"http_method: ", func(c *Check) { c.Method = "GET\r\nX: y" }},
		{"http_method: ", func(c *Check) { c.Method = "G\x00T" }},
		{"http_method: ", func(c *Check) { c.Method = "GÉT" }},
		{"url_path: ", func(c *Check) { c.Path = "x" }},
		{"url_path: ", func(c *Check) { c.Path = "http://other/" }},
		{"url_path: ", func(c *Check) { c.Path = "/a b" }},
		{"url_path: ", func(c *Check) { c.Path = "/a\tb" }},
		{"url_path: ", func(c *Check) { c.Path = "/ HTTP/1.1\r\nHost: other" }},
		{"url_path: ", func(c *Check) { c.Path = "/\n" }},
		{"url_path: ", func(c *Check) { c.Path = "/\x00" }},
		{"url_path: ", func(c *Check) { c.Path = "/\x7f" }},
		{"url_path: ", func(c *Check) { c.Path = "/\u00a0" }},
		{"url_path: ", func(c *Check) { c.Path = "/\u2028" }},
		{"url_path: ", func(c *Check) { c.Path = "/\xff" }},
	} {
		bad := good
		c.change(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.field) {
			t.Errorf("%+v: got %v, want an error of %s", bad, err, c.field)
		}
	}
}

func TestDelayAndTimeoutDefaults(t *testing.T) {
	for _, c := range []struct{ delay, timeout, wantDelay, wantTimeout time.Duration }{
		{0, 0, time.Second, time.Second},
		{10 * time.Second, 0, 10 * time.Second, 10 * time.Second},
		{10 * time.Millisecond, 0, 10 * time.Millisecond, time.Second},
		{0, 5 * time.Second, time.Second, 5 * time.Second},
		{2 * time.Second, 500 * time.Millisecond, 2 * time.Second, 500 * time.Millisecond},
	} {
		check := Check{Delay: c.delay, Timeout: c.timeout}
		if check.delay() != c.wantDelay || check.timeout() != c.wantTimeout {
			t.Errorf("%v/%v: got %v/%v", c.delay, c.timeout, check.delay(), check.timeout())
		}
	}
}
