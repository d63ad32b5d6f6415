package api_test

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"qlbaas/lbaas"
	"qlbaas/lbaas/api"
)

// nothing answers every request with 204.
func nothing() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
}

func TestListenRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for spec, says := range map[string]string{
		"http://0.0.0.0:0":          "loopback",
		"http://192.0.2.1:0":        "loopback",
		"http://[::]:0":             "loopback",
		"http://example.org:80":     "127.0.0.1:PORT",
		"http://127.0.0.1":          "127.0.0.1:PORT",
		"http://127.0.0.1:0/v2.0":   "127.0.0.1:PORT",
		"https://127.0.0.1:0":       "TLS",
		"tcp://127.0.0.1:0":         "unix:///path",
		"unix://relative/path":      "absolute",
		"unix:///tmp/../tmp/x.sock": "absolute",
		"unix://" + file:            "not a socket",
		"":                          "unix:///path",
	} {
		l, err := api.Listen(t.Context(), spec, nothing(), api.ListenOptions{NoAuth: true})
		if err == nil {
			_ = l.Shutdown(t.Context())
			t.Errorf("%s: listens", spec)
		} else if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v does not say %q", spec, err, says)
		}
	}
	if _, err := api.Listen(t.Context(), "http://127.0.0.1:0", nothing(), api.ListenOptions{}); err == nil ||
		!strings.Contains(err.Error(), "token") {
		t.Errorf("without tokens: %v", err)
	}
}

func listenUnix(t *testing.T, path string, h http.Handler) (*api.Listener, error) {
	t.Helper()
	l, err := api.Listen(t.Context(), "unix://"+path, h, api.ListenOptions{Group: "root"})
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- l.Serve() }()
	t.Cleanup(func() {
		_ = l.Shutdown(context.Background())
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l, nil
}

func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}, DisableKeepAlives: true}}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "qlbaas", "api.sock")
	l, err := listenUnix(t, path, api.New(newService(t, lbaas.Options{}), api.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o660, filepath.Dir(path): fs.ModeDir | 0o750} {
		info, err := os.Stat(file)
		if err != nil || info.Mode() != want || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: %v %v, want %v of root", file, info.Mode(), err, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".api*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	resp, err := unixClient(path).Get("http://localhost/v2.0/agents")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("whoever opens the socket is admin: %d", resp.StatusCode)
	}
	if _, err := listenUnix(t, path, nothing()); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second server at the socket: %v", err)
	}
	if err := l.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestStaleSocket: what a killed server left is taken over, and the old
// listener's end does not remove the new one's socket.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := listenUnix(t, path, nothing())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(t, path, nothing()); err != nil {
		t.Fatal(err)
	}
	if err := first.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second server's socket: %v", err)
	}
}

func TestTokenFile(t *testing.T) {
	for lines, says := range map[string]string{
		"":                              "no token",
		"# only a comment":              "no token",
		"short":                         "128 bit",
		"0123456789abcdef0123456":       "32 characters",
		tokenA + "\n" + tokenA + ":b":   "twice",
		tokenA + ":a:root":              "role",
		tokenA + ":a:admin:x":           "three fields",
		strings.Repeat("ä", 30):         "not allowed",
		"abcdefghij klmnopqrstuvwxyz:a": "not allowed",
	} {
		_, err := tokens(t, lines, 0o600)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v does not say %q", lines, err, says)
		}
		if err != nil && lines != "" && strings.Contains(err.Error(), strings.Split(lines, ":")[0]) && len(lines) > 5 {
			t.Errorf("%q: the error shows the token: %v", lines, err)
		}
	}
	if _, err := tokens(t, tokenA, 0o644); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a file for everybody: %v", err)
	}
	if _, err := tokens(t, "dG9rZW4gdG9rZW4gdG9rZW4-:a\n"+tokenB, 0o640); err != nil {
		t.Error(err)
	}
}

// TestSites: a page in a browser on this host can't use the loopback port.
func TestSites(t *testing.T) {
	s := start(t, config{})
	for _, c := range []struct {
		name, host, header, value string
		want                      int
	}{
		{"by address", "", "", "", 200},
		{"by name", "localhost:9696", "", "", 200},
		{"by IPv6", "[::1]:9696", "", "", 200},
		{"rebound name", "evil.example:9696", "", "", 403},
		{"rebound address", "192.0.2.1", "", "", 403},
		{"form of another site", "", "Sec-Fetch-Site", "cross-site", 403},
		{"origin of another site", "", "Origin", "http://evil.example", 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v2.0/lb/health_monitors",
			strings.NewReader(`{"health_monitor": {"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 3}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		if c.header != "" {
			req.Header.Set(c.header, c.value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if c.want == 200 {
			c.want = 201
		}
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.name, resp.StatusCode, c.want)
		}
	}
}
