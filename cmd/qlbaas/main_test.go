package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestExitCodes(t *testing.T) {
	m := newMachine(t)
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{}, 2, "", "name a command"},
		{[]string{"nope"}, 2, "", "unknown command"},
		{[]string{"--help"}, 0, "agent", ""},
		{[]string{"help"}, 0, "agent", ""},
		{[]string{"version"}, 0, "qlbaas ", ""},
		{[]string{"version", "x"}, 2, "", "unexpected argument"},
		{[]string{"completion", "zsh"}, 0, "#compdef qlbaas", ""},
		{[]string{"completion"}, 2, "", "bash, zsh, fish"},
		{[]string{"__complete", "vip", "c"}, 0, "create\n", ""},
		{[]string{"agent", "--help"}, 0, "--memory-budget", ""},
		{[]string{"agent", "x"}, 2, "", "unexpected argument"},
		{[]string{"agent", "--hook", "bpf"}, 2, "", "--hook"},
		{[]string{"agent", "--interface-driver", "ivs"}, 2, "", "linuxbridge, openvswitch, macvlan"},
		{[]string{"agent", "--interface-driver", "macvlan", "--hook", "xdp"}, 2, "", "no XDP"},
		{[]string{"agent", "--memory-budget", "lots"}, 2, "", "--memory-budget"},
		{[]string{"agent", "--log-level", "loud"}, 2, "", "--log-level"},
		{[]string{"agent", "--log-format", "xml"}, 2, "", "--log-format"},
		{[]string{"agent", "--state-dir", "here"}, 2, "", "--state-dir"},
		{[]string{"agent", "--no-auth", "--api-token-file", "/x"}, 2, "", "contradict"},
		{[]string{"pool", "list"}, 3, "", "no server"},
		{[]string{"pool", "show", "a\x1b[31m"}, 3, "", "no server"},
		{[]string{"pool", "a\x1b[31m"}, 2, "", `a\x1b[31m`},
	} {
		out, errs, code := m.run(c.args...)
		if code != c.code || !strings.Contains(out, c.stdout) || !strings.Contains(errs, c.stderr) {
			t.Errorf("%q: exit %d, want %d\nstdout %s\nstderr %s", c.args, code, c.code, out, errs)
		}
		if c.code != 0 && strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: more than one line on stderr: %s", c.args, errs)
		}
	}
}

// TestEveryCommandHasHelp runs every command of the table with --help.
func TestEveryCommandHasHelp(t *testing.T) {
	m := newMachine(t)
	for _, group := range newApp(m.env(nil, nil)).Commands {
		if group.Hidden {
			continue
		}
		for _, c := range append(group.Subcommands, group) {
			args := []string{group.Name, c.Name, "--help"}
			if c == group {
				args = args[1:]
			}
			out, errs, code := m.run(args...)
			if code != 0 || !strings.Contains(out, "qlbaas "+strings.Join(args[:len(args)-1], " ")) {
				t.Errorf("%q: exit %d\n%s%s", args, code, out, errs)
			}
		}
	}
}

// TestListeners: what cannot be served as asked ends the start, whole.
func TestListeners(t *testing.T) {
	m := newMachine(t)
	for _, api := range []string{"http://127.0.0.1:0", "http://192.0.2.1:80", "gopher://x"} {
		_, errs, code := m.run(append(m.agentArgs()[1:], "--api", m.api(), "--api", api)...)
		if code != 1 || !strings.Contains(errs, api) {
			t.Errorf("%s: exit %d, %s", api, code, errs)
		}
		if _, err := os.Stat(m.dir + "/run/api.sock"); err == nil {
			t.Errorf("%s: the other listener is left behind", api)
		}
	}
}

// TestHTTPAndMetrics: a token opens the loopback listener, and Prometheus finds
// its metrics there.
func TestHTTPAndMetrics(t *testing.T) {
	m := newMachine(t)
	token := filepath.Join(m.dir, "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef:default:admin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	api := "http://" + freeAddress(t)
	stop := m.start("--api", m.api(), "--api", api, "--api-token-file", token, "--pprof")
	if _, errs, code := m.run("pool", "list", "--api", api); code != 1 {
		t.Errorf("without a token: exit %d, %s", code, errs)
	}
	if _, errs, code := m.run("pool", "list", "--api", api, "--api-token-file", token); code != 0 {
		t.Errorf("with the token: exit %d, %s", code, errs)
	}
	req, err := http.NewRequest("GET", api+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", "0123456789abcdef0123456789abcdef")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	_, _ = body.ReadFrom(resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != 200 || !strings.Contains(body.String(), "qlbaas_budget_limit_bytes 2") {
		t.Errorf("%s\n%s", resp.Status, body.String())
	}
	if info, err := os.Stat(m.dir + "/run/pprof.sock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("profiles: %v, %v", info, err)
	}
	if log, err := stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, log)
	}
}

// freeAddress is a loopback address that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
