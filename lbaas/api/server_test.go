package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"qlbaas/lbaas"
	"qlbaas/lbaas/api"
	"qlbaas/lbaas/store"
)

// object is a JSON object.
type object = map[string]any

// server is a running API on a loopback port, over a store of its own.
type server struct {
	t   *testing.T
	url string
	svc *lbaas.Service
	// token is sent with every request, unless it is empty.
	token string
}

type config struct {
	service lbaas.Options
	api     api.Options
	listen  api.ListenOptions
}

func start(t *testing.T, c config) *server {
	t.Helper()
	s := newService(t, c.service)
	if c.listen.Tokens == nil {
		c.listen.NoAuth = true
	}
	l, err := api.Listen(t.Context(), "http://127.0.0.1:0", api.New(s, c.api), c.listen)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Serve() }()
	t.Cleanup(func() {
		if err := l.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &server{t: t, url: "http://" + l.Addr().String(), svc: s}
}

func newService(t *testing.T, o lbaas.Options) *lbaas.Service {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Store == nil {
		o.Store = newStore(t)
	}
	s, err := lbaas.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newStore returns an empty store that has to be sound when the test ends.
func newStore(t *testing.T) *store.Store {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "qlbaas.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Check(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// as returns the same server, used with another token.
func (s *server) as(token string) *server {
	other := *s
	other.token = token
	return &other
}

// call sends a request and returns the answer's code and body. A body that is a
// string is sent as it is, everything else as JSON.
func (s *server) call(method, path string, body any) (int, object) {
	s.t.Helper()
	code, raw, header := s.raw(method, path, body)
	if code == http.StatusNoContent {
		if len(raw) > 0 || header.Get("Content-Type") != "" {
			s.t.Errorf("%s %s: 204 with a body %q or a type %q", method, path, raw, header.Get("Content-Type"))
		}
		return code, nil
	}
	if header.Get("Content-Type") != "application/json; charset=UTF-8" {
		s.t.Errorf("%s %s: %d with content type %q: %s", method, path, code, header.Get("Content-Type"), raw)
	}
	var parsed object
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&parsed); err != nil {
		s.t.Fatalf("%s %s: %d %q: %v", method, path, code, raw, err)
	}
	return code, parsed
}

func (s *server) raw(method, path string, body any) (int, []byte, http.Header) {
	s.t.Helper()
	var r io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		r = bytes.NewReader(raw)
	}
	if strings.HasPrefix(path, "/") {
		path = s.url + path
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.token != "" {
		req.Header.Set("X-Auth-Token", s.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.HasPrefix(resp.Header.Get("X-Openstack-Request-Id"), "req-") {
		s.t.Errorf("%s %s: request id %q", method, path, resp.Header.Get("X-Openstack-Request-Id"))
	}
	return resp.StatusCode, raw, resp.Header
}

// must sends a request that has to be answered with the code, and returns what
// the envelope holds.
func (s *server) must(code int, method, path string, body any) object {
	s.t.Helper()
	got, answer := s.call(method, path, body)
	if got != code {
		s.t.Fatalf("%s %s %v: %d %v, want %d", method, path, body, got, answer, code)
	}
	for _, v := range answer {
		if inner, ok := v.(object); ok && len(answer) == 1 {
			return inner
		}
	}
	return answer
}

// refused sends a request that has to be answered with an error of the type.
func (s *server) refused(code int, typ, method, path string, body any, says ...string) {
	s.t.Helper()
	got, answer := s.call(method, path, body)
	e, _ := answer["NeutronError"].(object)
	if got != code || e["type"] != typ {
		s.t.Errorf("%s %s %v: %d %v, want %d %s", method, path, body, got, answer, code, typ)
		return
	}
	message, ok := e["message"].(string)
	if _, detail := e["detail"].(string); !ok || !detail || len(e) != 3 || len(answer) != 1 {
		s.t.Errorf("%s %s: envelope %v", method, path, answer)
	}
	for _, word := range says {
		if !strings.Contains(message, word) {
			s.t.Errorf("%s %s %v: %q does not say %q", method, path, body, message, word)
		}
	}
}

// list returns the entries of a collection.
func (s *server) list(path string) []object {
	s.t.Helper()
	_, answer := s.call("GET", path, nil)
	var entries []object
	for key, v := range answer {
		if strings.HasSuffix(key, "_links") {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			s.t.Fatalf("GET %s: %v", path, answer)
		}
		for _, entry := range list {
			entries = append(entries, entry.(object))
		}
	}
	return entries
}

// fixture is a network with a subnet.
type fixture struct{ network, subnet string }

func (s *server) network(cidr string) fixture {
	s.t.Helper()
	network := s.must(201, "POST", "/v2.0/networks", object{"network": object{
		"name": "net", "provider:physical_network": "br0"}})
	subnet := s.must(201, "POST", "/v2.0/subnets", object{"subnet": object{
		"name": "sub", "network_id": network["id"], "cidr": cidr, "ip_version": 4}})
	return fixture{network["id"].(string), subnet["id"].(string)}
}

func (s *server) pool(f fixture, extra object) string {
	s.t.Helper()
	body := object{"name": "web", "subnet_id": f.subnet, "protocol": "HTTP", "lb_method": "ROUND_ROBIN"}
	return s.must(201, "POST", "/v2.0/lb/pools", object{"pool": with(body, extra)})["id"].(string)
}

func (s *server) vip(f fixture, pool string, extra object) object {
	s.t.Helper()
	return s.must(201, "POST", "/v2.0/lb/vips", object{"vip": with(vipBody(f, pool), extra)})
}

func vipBody(f fixture, pool string) object {
	return object{"name": "vip", "subnet_id": f.subnet, "protocol": "HTTP", "protocol_port": 80, "pool_id": pool}
}

func (s *server) member(pool, address string) string {
	s.t.Helper()
	return s.must(201, "POST", "/v2.0/lb/members", object{"member": object{
		"pool_id": pool, "address": address, "protocol_port": 80}})["id"].(string)
}

// with returns a copy of o with more keys; the value nil means null.
func with(o, more object) object {
	all := object{}
	for k, v := range o {
		all[k] = v
	}
	for k, v := range more {
		all[k] = v
	}
	return all
}
