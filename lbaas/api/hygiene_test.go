package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"qlbaas/lbaas"
	"qlbaas/lbaas/api"
)

func TestMalformedBodies(t *testing.T) {
	s := start(t, config{})
	for body, typ := range map[string]string{
		"":                                     "HTTPBadRequest",
		"{":                                    "MalformedRequestBody",
		"null":                                 "MalformedRequestBody",
		"[]":                                   "MalformedRequestBody",
		`"pool"`:                               "MalformedRequestBody",
		`{"pool": {}} {}`:                      "MalformedRequestBody",
		`{"pool": {"name": "a", "name": "b"}}`: "MalformedRequestBody",
		`{"pool": {}, "pool": {}}`:             "MalformedRequestBody",
		`{"pool": {"name": "\ud800"}}`:         "MalformedRequestBody",
		`{"pool": {"name": "\udc00\ud800"}}`:   "MalformedRequestBody",
		`{"pool": {"name": "\ud800\u0041"}}`:   "MalformedRequestBody",
		"{\"pool\": {\"name\": \"\xff\"}}":     "MalformedRequestBody",
		`{"pool": {"name": 01}}`:               "MalformedRequestBody",
		`{"pool": {"name": NaN}}`:              "MalformedRequestBody",
		`{"pool": ` + strings.Repeat("[", 100000):                             "MalformedRequestBody",
		`{"a":` + strings.Repeat(`{"a":`, 20) + `1` + strings.Repeat("}", 21): "MalformedRequestBody",
		`{}`:                       "HTTPBadRequest",
		`{"vip": {}}`:              "HTTPBadRequest",
		`{"pool": null}`:           "HTTPBadRequest",
		`{"pool": []}`:             "HTTPBadRequest",
		`{"pool": {}, "other": 1}`: "HTTPBadRequest",
		`{"pools": [{}]}`:          "HTTPBadRequest",
		"name=web&protocol=HTTP":   "MalformedRequestBody",
	} {
		s.refused(400, typ, "POST", "/v2.0/lb/pools", body)
	}
	s.refused(400, "BadRequest", "PUT", "/v2.0/lb/pools/"+nowhere, "")
	s.refused(400, "HTTPBadRequest", "POST", "/v2.0/lb/pools", `{"pools": []}`, "Bulk")
	s.refused(400, "HTTPBadRequest", "POST", "/v2.0/lb/pools", `{"pool": {}, "other": 1}`, "'pool' only")
	f := s.network("10.0.0.0/24")
	if got := s.must(200, "GET", "/v2.0/lb/pools/"+s.pool(f, object{"name": "😀 é \\u0041"}), nil); got["name"] != "😀 é \\u0041" {
		t.Errorf("name %q", got["name"])
	}
	code, answer := s.call("POST", "/v2.0/lb/pools", `{"pool": {"name": "\ud83d\ude00\\ud800", "protocol": "TCP",
		"lb_method": "SOURCE_IP", "subnet_id": "`+f.subnet+`"}}`)
	if code != 201 || answer["pool"].(object)["name"] != "😀\\ud800" {
		t.Errorf("escapes: %d %v", code, answer)
	}
}

// endless sends zeros until somebody stops it.
type endless struct{ sent atomic.Int64 } // the transport may still be reading when the answer is here

func (e *endless) Read(p []byte) (int, error) {
	if e.sent.Add(int64(len(p))) > 64<<20 {
		return 0, io.EOF
	}
	clear(p)
	return len(p), nil
}

func TestLargeBodies(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	large := fmt.Sprintf(`{"pool": {"subnet_id": %q, "protocol": "TCP", "lb_method": "SOURCE_IP"}%s}`,
		f.subnet, strings.Repeat(" ", 1<<20))
	s.refused(413, "HTTPRequestEntityTooLarge", "POST", "/v2.0/lb/pools", large)
	fits := large[:1<<20-1] + "}"
	if code, answer := s.call("POST", "/v2.0/lb/pools", fits); code != 201 {
		t.Errorf("a body of %d bytes: %d %v", len(fits), code, answer)
	}
	body := &endless{}
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v2.0/lb/pools", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("endless chunks: %d", resp.StatusCode)
		}
	}
	if sent := body.sent.Load(); sent > 32<<20 {
		t.Errorf("the server read %d bytes", sent)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write([]byte(fits))
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	req, err = http.NewRequestWithContext(t.Context(), "POST", s.url+"/v2.0/lb/pools", &packed)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", "gzip")
	resp, err = http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 415 {
		t.Errorf("gzip: %d", resp.StatusCode)
	}
}

func TestUnknownPaths(t *testing.T) {
	s := start(t, config{})
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/v2.0/lbaas/pools", 404},
		{"GET", "/v2.0/lb/pools/a/b", 404},
		{"GET", "/v3", 404},
		{"GET", "/metrics", 404},
		{"GET", "/qlbaas/status", 404},
		{"PATCH", "/v2.0/lb/pools", 405},
		{"DELETE", "/v2.0/lb/pools", 405},
		{"POST", "/v2.0/lb/pools/" + nowhere, 405},
	} {
		code, raw, header := s.raw(c.method, c.path, nil)
		if code != c.code || strings.Contains(string(raw), "NeutronError") || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s %s: %d %q, want a plain %d", c.method, c.path, code, raw, c.code)
		}
	}
	for _, id := range []string{"typo", "..", "%2e%2e%2fmeta", "%00", "-rf", strings.Repeat("a", 300), strings.ToUpper(nowhere)} {
		code, answer, _ := s.raw("GET", "/v2.0/lb/pools/"+id, nil)
		if code != 404 && id != ".." {
			t.Errorf("GET pool %q: %d %s", id, code, answer)
		}
	}
	s.refused(404, "PoolNotFound", "GET", "/v2.0/lb/pools/"+nowhere+".json", nil)
	s.refused(404, "PoolNotFound", "GET", "/v2.0/lb/pools/"+nowhere+"/stats.json", nil)
}

// audit collects log records.
type audit struct {
	mu    sync.Mutex
	lines []string
}

func (a *audit) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, string(p))
	return len(p), nil
}

func (a *audit) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := a.lines
	a.lines = nil
	return lines
}

func TestAudit(t *testing.T) {
	var log audit
	s := start(t, config{service: lbaas.Options{Log: slog.New(slog.NewJSONHandler(&log, nil))}})
	f := s.network("10.0.0.0/24")
	id := s.pool(f, nil)
	log.take()
	_, _, header := s.raw("PUT", "/v2.0/lb/pools/"+id, object{"pool": object{"name": "new"}})
	lines := log.take()
	if len(lines) != 1 {
		t.Fatalf("lines: %q", lines)
	}
	for _, part := range []string{`"action":"update"`, `"kind":"pool"`, id, `"before":{"name":"web","status":"PENDING_CREATE"}`,
		`"after":{"name":"new","status":"PENDING_UPDATE"}`, "anybody at 127.0.0.1", header.Get("X-Openstack-Request-Id")} {
		if !strings.Contains(lines[0], part) {
			t.Errorf("%s lacks %s", lines[0], part)
		}
	}
	s.must(200, "GET", "/v2.0/lb/pools/"+id, nil)
	s.refused(400, "HTTPBadRequest", "PUT", "/v2.0/lb/pools/"+id, object{"pool": object{"protocol": "TCP"}})
	if lines := log.take(); len(lines) > 0 {
		t.Errorf("reads and refusals were logged as changes: %q", lines)
	}
	s.must(204, "DELETE", "/v2.0/lb/pools/"+id, nil)
	if lines := log.take(); len(lines) != 1 || !strings.Contains(lines[0], `"action":"delete"`) {
		t.Errorf("lines: %q", lines)
	}
}

// brokenStore answers every change with an error.
type brokenStore struct {
	lbaas.Store
	err error
}

func (b *brokenStore) Update(ctx context.Context, fn func(lbaas.Tx) error) error {
	if b.err != nil {
		return fmt.Errorf("change %s: %w", "/secret/path", b.err)
	}
	return b.Store.Update(ctx, fn)
}

func TestStoreErrors(t *testing.T) {
	inner := newStore(t)
	broken := &brokenStore{Store: inner}
	s := start(t, config{service: lbaas.Options{Store: broken}})
	f := s.network("10.0.0.0/24")
	body := object{"pool": object{"subnet_id": f.subnet, "protocol": "TCP", "lb_method": "SOURCE_IP"}}
	for err, want := range map[error]int{
		lbaas.ErrStoreFull: 507, lbaas.ErrStoreReadOnly: 503, lbaas.ErrStoreWrite: 503, lbaas.ErrUncertain: 503,
		lbaas.ErrStoreDamaged: 503, context.DeadlineExceeded: 503, errors.New("other"): 500,
	} {
		broken.err = err
		code, answer := s.call("POST", "/v2.0/lb/pools", body)
		message, _ := answer["NeutronError"].(object)["message"].(string)
		if code != want || strings.Contains(message, "secret") || message == "" {
			t.Errorf("%v: %d %v, want %d", err, code, answer, want)
		}
		if list := s.list("/v2.0/lb/pools"); len(list) > 0 {
			t.Errorf("%v: pools %v", err, list)
		}
	}
	broken.err = nil
	s.must(201, "POST", "/v2.0/lb/pools", body)
}

func TestExtraHandlers(t *testing.T) {
	known, err := tokens(t, tokenAdmin+"::admin\n"+tokenA+":a", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	say := func(word string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) })
	}
	s := start(t, config{api: api.Options{Metrics: say("metrics"), Status: say("status")},
		listen: api.ListenOptions{Tokens: known}})
	for path, want := range map[string]string{"/metrics": "metrics", "/qlbaas/status": "status"} {
		if code, raw, _ := s.as(tokenAdmin).raw("GET", path, nil); code != 200 || string(raw) != want {
			t.Errorf("GET %s: %d %q", path, code, raw)
		}
		s.as(tokenA).refused(403, "PolicyNotAuthorized", "GET", path, nil)
		s.as("").refused(401, "HTTPUnauthorized", "GET", path, nil)
	}
}

type panicking struct{}

func (panicking) PoolStats(context.Context, string) (lbaas.Counters, bool) { panic("secret") }

func TestPanic(t *testing.T) {
	s := start(t, config{service: lbaas.Options{Stats: panicking{}}})
	pool := s.pool(s.network("10.0.0.0/24"), nil)
	s.refused(500, "HTTPInternalServerError", "GET", "/v2.0/lb/pools/"+pool+"/stats", nil)
	s.must(200, "GET", "/v2.0/lb/pools/"+pool, nil)
}
