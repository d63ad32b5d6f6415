package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/binary"
	"qlbaas/tests/lab"
)

// patience bounds what has to happen but has no time promised for it.
const patience = 20 * time.Second

// object is an API object.
type object map[string]any

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// agent is the product's daemon on a host.
type agent struct {
	t          *testing.T
	dir, bpffs string
	process    *lab.Process
}

func startAgent(t *testing.T, host *lab.Host, hook string) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, dir: dir, bpffs: filepath.Join("/sys/fs/bpf", filepath.Base(dir))}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary.Path(), "agent", "--hook", hook, "--bpffs", a.bpffs,
		"--state-dir", filepath.Join(dir, "state"), "--run-dir", filepath.Join(dir, "run"), "--log-format", "json")
	cmd.Stderr = log
	if a.process, err = host.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.end)
	a.until(func() error {
		_, _, err := a.request("GET", "/", nil)
		return err
	})
	return a
}

// end stops the agent, and shows its log if something was wrong.
func (a *agent) end() {
	_ = a.process.Signal(unix.SIGTERM) // one that has ended by itself says so below
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.process.Wait(ctx); err != nil {
		a.t.Errorf("the agent did not end well: %v", err)
	}
	if a.t.Failed() {
		a.t.Logf("the agent's log:\n%s", a.log())
	}
	for _, path := range []string{a.bpffs, a.dir} {
		if err := os.RemoveAll(path); err != nil {
			a.t.Error(err)
		}
	}
}

func (a *agent) log() []byte {
	content, err := os.ReadFile(filepath.Join(a.dir, "log"))
	if err != nil {
		a.t.Fatal(err)
	}
	return content
}

func (a *agent) request(method, path string, body object) (code int, text []byte, err error) {
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(encoded)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(a.dir, "run", "api.sock"))
		},
	}}
	req, err := http.NewRequest(method, "http://agent"+path, reader)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err = io.ReadAll(res.Body)
	return res.StatusCode, text, err
}

// call is a request that has to succeed.
func (a *agent) call(method, path string, body object) object {
	a.t.Helper()
	code, text, err := a.request(method, path, body)
	if err != nil || code >= 300 {
		a.t.Fatalf("%s %s: %v, %d: %s", method, path, err, code, text)
	}
	var o object
	if len(text) > 0 {
		if err := json.Unmarshal(text, &o); err != nil {
			a.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return o
}

// create makes an object and returns its id.
func (a *agent) create(path, noun string, attributes object) string {
	a.t.Helper()
	made, _ := a.call("POST", path, object{noun: attributes})[noun].(map[string]any)
	return object(made).text("id")
}

// show is an object as it is now.
func (a *agent) show(path, noun string) object {
	a.t.Helper()
	o, _ := a.call("GET", path, nil)[noun].(map[string]any)
	return o
}

// until looks again and again until check returns nil.
func (a *agent) until(check func() error) {
	a.t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); <-ticker.C {
		if err = check(); err == nil {
			return
		}
	}
	a.t.Fatalf("after %s: %v", patience, err)
}

// generation counts the configurations that a pool in the kernel has been given.
func (a *agent) generation(pool string) float64 {
	a.t.Helper()
	all, _ := a.call("GET", "/qlbaas/status", nil)["pools"].([]any)
	for _, one := range all {
		if o, ok := one.(map[string]any); ok && o["id"] == pool {
			n, _ := o["generation"].(float64)
			return n
		}
	}
	return 0
}

// change does something that the kernel has to know, and waits until it does.
func (a *agent) change(pool string, do func()) {
	a.t.Helper()
	before := a.generation(pool)
	do()
	a.until(func() error {
		if now := a.generation(pool); now <= before {
			return fmt.Errorf("generation is still %v", now)
		}
		return nil
	})
}
