package client

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qlbaas/cmd/qlbaas/cmdline"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The ids that the fake server gives.
const (
	poolA   = "11111111-1111-4111-8111-111111111111"
	poolB   = "22222222-2222-4222-8222-222222222222"
	subnetA = "33333333-3333-4333-8333-333333333333"
	netA    = "44444444-4444-4444-8444-444444444444"
	memberA = "55555555-5555-4555-8555-555555555555"
	monA    = "66666666-6666-4666-8666-666666666666"
	vipA    = "77777777-7777-4777-8777-777777777777"
	routerA = "88888888-8888-4888-8888-888888888888"
	portA   = "99999999-9999-4999-8999-999999999999"
	floatA  = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
)

// request is what the server saw.
type request struct {
	Line string
	Body any
}

// fake is a server with canned answers by "METHOD path?query"; whatever it does
// not know is a 404 in the API's envelope.
type fake struct {
	t       *testing.T
	answers map[string]string
	status  map[string]int
	seen    []request
	header  http.Header
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	line := r.Method + " " + r.URL.RequestURI()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	req := request{Line: line}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &req.Body); err != nil {
			f.t.Errorf("%s: %v", line, err)
		}
	}
	f.seen = append(f.seen, req)
	f.header = r.Header
	answer, ok := f.answers[line]
	switch status := f.status[line]; {
	case status != 0:
		w.WriteHeader(status)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		answer = `{"NeutronError":{"type":"HTTPNotFound","message":"nothing at ` + line + `","detail":""}}`
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = io.WriteString(w, answer)
}

// lookups are the answers that name lookups need.
func lookups() map[string]string {
	named := func(path, plural, id, name string) (string, string) {
		return "GET " + path + "?fields=id&fields=name&name=" + name, `{"` + plural + `":[{"id":"` + id + `","name":"` + name + `"}]}`
	}
	out := map[string]string{}
	for _, x := range [][4]string{
		{"/v2.0/lb/pools", "pools", poolA, "web"},
		{"/v2.0/subnets", "subnets", subnetA, "lan"},
		{"/v2.0/networks", "networks", netA, "net1"},
		{"/v2.0/lb/vips", "vips", vipA, "v"},
		{"/v2.0/routers", "routers", routerA, "gate"},
		{"/v2.0/ports", "ports", portA, "plug"},
	} {
		key, answer := named(x[0], x[1], x[2], x[3])
		out[key] = answer
	}
	out["GET /v2.0/lb/pools?fields=id&id="+poolB] = `{"pools":[{"id":"` + poolB + `"}]}`
	out["GET /v2.0/lb/members?fields=id&id="+memberA] = `{"members":[{"id":"` + memberA + `"}]}`
	out["GET /v2.0/lb/health_monitors?fields=id&id="+monA] = `{"health_monitors":[{"id":"` + monA + `"}]}`
	out["GET /v2.0/floatingips?fields=id&id="+floatA] = `{"floatingips":[{"id":"` + floatA + `"}]}`
	return out
}

func newFake(t *testing.T, answers map[string]string) *fake {
	f := &fake{t: t, answers: lookups(), status: map[string]int{}}
	for k, v := range answers {
		f.answers[k] = v
	}
	return f
}

// call runs one command line against f.
func (f *fake) call(args ...string) (stdout string, err error) {
	srv := httptest.NewServer(f)
	defer srv.Close()
	return runClient(f.t, map[string]string{"QLBAAS_API": srv.URL}, args...)
}

func runClient(t *testing.T, environ map[string]string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	env := Env{Stdout: &out, Stderr: &errs, Getenv: func(k string) string { return environ[k] }}
	app := cmdline.NewApp("qlbaas", "", &out, &errs)
	app.Flags = Flags()
	app.Commands = Commands(env)
	err := cmdline.Run(t.Context(), app, append([]string{"qlbaas"}, args...))
	return out.String(), err
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (run with -update to accept):\n%s", file, diff)
	}
}
