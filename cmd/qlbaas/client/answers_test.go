package client

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qlbaas/cmd/qlbaas/cmdline"
)

const poolJSON = `{"id":"` + poolA + `","tenant_id":"default","name":"web\u001b[31m\u202e","description":"","health_monitors":["` + monA + `","` + monA + `"],"health_monitors_status":[{"monitor_id":"` + monA + `","status":"ACTIVE","status_description":null}],"vip_id":null,"members":[],"admin_state_up":true,"status":"ACTIVE","big":18446744073709551615}`

// TestOutput fixes what is printed, names that would steer a terminal included.
func TestOutput(t *testing.T) {
	answers := map[string]string{
		"GET /v2.0/lb/pools/" + poolA:                       `{"pool":` + poolJSON + `}`,
		"GET /v2.0/lb/pools":                                `{"pools":[` + poolJSON + `,` + poolJSON + `]}`,
		"GET /v2.0/lb/vips":                                 `{"vips":[]}`,
		"POST /v2.0/lb/members":                             `{"member":{"id":"` + memberA + `","weight":1,"admin_state_up":false}}`,
		"PUT /v2.0/lb/pools/" + poolA:                       `{"pool":` + poolJSON + `}`,
		"DELETE /v2.0/lb/pools/" + poolA:                    ``,
		"DELETE /v2.0/lb/pools/" + poolB:                    ``,
		"POST /v2.0/lb/pools/" + poolA + "/health_monitors": `{"health_monitor":{}}`,
		"GET /v2.0/lb/pools/" + poolA + "/stats":            `{"stats":{"bytes_in":1,"bytes_out":2,"active_connections":3,"total_connections":4}}`,
		"GET /qlbaas/status":                                `{"version":"1.0","uptime":12,"hook":"tcx","pools":[{"id":"` + poolA + `","name":"web\u0007","state":"ACTIVE","hook":"tcx","generation":3,"flows_used":1,"flows_limit":16384,"members_up":1,"members_total":2,"last_error":null},{"id":"` + poolB + `","name":"shop","state":"ACTIVE","hook":"tcx","generation":1,"flows_used":0,"flows_limit":16384,"members_up":1,"members_total":1,"sidecar":{"pid":4711,"restarts":0},"last_error":null},{"id":"` + poolA + `","name":"cart","state":"ERROR","hook":"tcx","generation":1,"flows_used":0,"flows_limit":16384,"members_up":1,"members_total":1,"sidecar":{"pid":0,"restarts":3},"last_error":"x"}],"routers":[{"id":"` + routerA + `","name":"gate","state":"ERROR","hook":"xdp","interfaces":2,"floating":1,"last_error":"no such bridge"}]}`,
	}
	member := []string{"member", "create", "web", "--address", "10.0.0.1", "--protocol-port", "80"}
	for name, args := range map[string][]string{
		"pool_show.txt":        {"pool", "show", "web"},
		"pool_show.json":       {"pool", "show", "web", "-o", "json"},
		"pool_list.txt":        {"pool", "list"},
		"pool_list_column.txt": {"pool", "list", "-c", "name", "-c", "nothing"},
		"pool_list.json":       {"-o", "json", "pool", "list"},
		"vip_list_none.txt":    {"vip", "list"},
		"vip_list_none.json":   {"vip", "list", "-o=json"},
		"member_create.txt":    member,
		"member_create.json":   append(member, "-o", "json"),
		"pool_update.txt":      {"pool", "update", "web", "--name", "x"},
		"pool_update.json":     {"pool", "update", "web", "--name", "x", "-o", "json"},
		"pool_delete.txt":      {"pool", "delete", "web", poolB},
		"pool_delete.json":     {"pool", "delete", "web", "-o", "json"},
		"associate.txt":        {"monitor", "associate", monA, "web"},
		"associate.json":       {"monitor", "associate", monA, "web", "-o", "json"},
		"stats.txt":            {"pool", "stats", "web"},
		"stats.json":           {"pool", "stats", "web", "-o", "json"},
		"status.txt":           {"status"},
		"status.json":          {"status", "-o", "json"},
		"help_vip_create.txt":  {"vip", "create", "--help"},
		"help_pool.txt":        {"pool", "--help"},
	} {
		got, err := newFake(t, answers).call(args...)
		if err != nil {
			t.Errorf("%q: %v", args, err)
		}
		if strings.ContainsAny(got, "\x1b\a\u202e") {
			t.Errorf("%q: a control character reaches the terminal", args)
		}
		golden(t, name, got)
	}
}

func TestLookup(t *testing.T) {
	byID := "GET /v2.0/lb/pools?fields=id&id="
	byName := "GET /v2.0/lb/pools?fields=id&fields=name&name="
	for _, c := range []struct {
		name, word string
		answers    map[string]string
		want       string
		lines      int
	}{
		{"name", "web", nil, "", 2},
		{"id", poolB, nil, "", 2},
		{"uuid that is a name", poolA, map[string]string{
			byID + poolA: `{"pools":[]}`, byName + poolA: `{"pools":[{"id":"` + poolB + `","name":"` + poolA + `"}]}`,
		}, "", 3},
		{"nothing", "typo", map[string]string{byName + "typo": `{"pools":[]}`}, `no pool has the id or name "typo"`, 1},
		{"server that ignores the filter", "typo", map[string]string{
			byName + "typo": `{"pools":[{"id":"` + poolA + `","name":"other"}]}`,
		}, `no pool has the id or name "typo"`, 1},
		{
			"several", "twin",
			map[string]string{
				byName + "twin": `{"pools":[{"id":"` + poolA + `","name":"twin"},{"id":"` + poolB + `","name":"twin"}]}`,
			},
			`2 pools have the name "twin"; use an id: ` + poolA + ", " + poolB, 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.answers)
			f.answers["DELETE /v2.0/lb/pools/"+poolA] = ""
			f.answers["DELETE /v2.0/lb/pools/"+poolB] = ""
			_, err := f.call("pool", "delete", c.word)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want || len(f.seen) != c.lines {
				t.Errorf("got %q after %v, want %q after %d requests", got, f.seen, c.want, c.lines)
			}
		})
	}
}

// TestMemberHasNoName: a name filter on members may be ignored by a server, so
// none is sent.
func TestMemberHasNoName(t *testing.T) {
	f := newFake(t, nil)
	_, err := f.call("member", "delete", "typo")
	if err == nil || len(f.seen) != 0 {
		t.Errorf("got %v after %v", err, f.seen)
	}
}

func TestPages(t *testing.T) {
	first := "GET /v2.0/lb/pools?limit=1"
	second := "GET /v2.0/lb/pools?limit=1&marker=a"
	link := func(marker string) string {
		return `"pools_links":[{"rel":"previous","href":"x"},{"rel":"next","href":"http://elsewhere/evil?limit=1&marker=` + marker + `"}]`
	}
	f := newFake(t, map[string]string{
		first:  `{"pools":[{"name":"one"}],` + link("a") + `}`,
		second: `{"pools":[{"name":"two"}],"pools_links":[]}`,
	})
	got, err := f.call("pool", "list", "-P", "1", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	want := "[\n  {\n    \"name\": \"one\"\n  },\n  {\n    \"name\": \"two\"\n  }\n]\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f.answers[second] = `{"pools":[],` + link("a") + `}`
	if _, err := f.call("pool", "list", "-P", "1"); cmdline.ExitCode(err) != cmdline.ExitNoServer {
		t.Errorf("links in a circle: got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	line := "GET /v2.0/lb/pools"
	for _, c := range []struct{ answer, want string }{
		{`{"NeutronError":{"type":"OverQuota","message":"no room","detail":""}}`, "no room"},
		{`{"NeutronError":{"type":"X","message":"a","detail":"b"}}`, "a\nb"},
		{`not json`, "the server answered 409 Conflict"},
		{``, "the server answered 409 Conflict"},
	} {
		f := newFake(t, map[string]string{line: c.answer})
		f.status[line] = http.StatusConflict
		_, err := f.call("pool", "list")
		if err == nil || err.Error() != c.want || cmdline.ExitCode(err) != cmdline.ExitRefused {
			t.Errorf("%q: got %v, exit %d", c.answer, err, cmdline.ExitCode(err))
		}
	}
}

// TestDeleteGoesOn: one refusal keeps no other object.
func TestDeleteGoesOn(t *testing.T) {
	f := newFake(t, map[string]string{"DELETE /v2.0/lb/pools/" + poolB: ""})
	out, err := f.call("pool", "delete", "web", poolB)
	if err == nil || !strings.Contains(err.Error(), "web: nothing at") || !strings.Contains(out, poolB) {
		t.Errorf("got %v, %q", err, out)
	}
}

func TestNoServer(t *testing.T) {
	dir := t.TempDir()
	for name, handler := range map[string]http.HandlerFunc{
		"not JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no object": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		},
	} {
		srv := httptest.NewServer(handler)
		_, err := runClient(t, nil, "--api", srv.URL, "pool", "list")
		srv.Close()
		if cmdline.ExitCode(err) != cmdline.ExitNoServer {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, api := range []string{"unix://" + dir + "/none.sock", "http://127.0.0.1:1"} {
		_, err := runClient(t, map[string]string{"QLBAAS_API": api}, "pool", "list")
		var none *NoServer
		if !errors.As(err, &none) || cmdline.ExitCode(err) != cmdline.ExitNoServer || !strings.Contains(err.Error(), api) {
			t.Errorf("%s: got %v", api, err)
		}
	}
}

// TestUnixSocketAndToken: --api wins over the environment, the token comes from
// a file and goes into its header.
func TestUnixSocketAndToken(t *testing.T) {
	dir := t.TempDir()
	socket, token := filepath.Join(dir, "api.sock"), filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("# ours\n\ns3cret:project:admin\nother\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, map[string]string{"GET /v2.0/lb/pools": `{"pools":[]}`})
	srv := &httptest.Server{Listener: listener, Config: &http.Server{Handler: f}}
	srv.Start()
	defer srv.Close()
	_, err = runClient(t, map[string]string{"QLBAAS_API": "http://127.0.0.1:1"},
		"pool", "list", "--api", "unix://"+socket, "--api-token-file", token)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.header.Get("X-Auth-Token"); got != "s3cret" {
		t.Errorf("token %q", got)
	}
}

// TestRedirectIsNotFollowed: the token goes to the chosen server only.
func TestRedirectIsNotFollowed(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer srv.Close()
	if _, err := runClient(t, nil, "--api", srv.URL, "pool", "list"); err == nil || asked {
		t.Errorf("got %v, followed: %v", err, asked)
	}
}
