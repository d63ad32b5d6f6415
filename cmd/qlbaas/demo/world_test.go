package demo

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// newDemo builds hosts and web servers as perform does, without an agent.
func newDemo(t *testing.T) *demo {
	t.Helper()
	ctx := within(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{teller: teller{t.Output()}, place: newPlace(placeDir), exe: exe, webs: map[string]*web{}}
	t.Cleanup(func() {
		if err := d.end(nil); err != nil {
			t.Error(err)
		}
	})
	if err := d.buildHosts(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

// direct asks a member's web server itself.
func direct(ctx context.Context, d *demo, w *web) error {
	code, body, err := lab.Get(ctx, d.client().HTTPClient(lab.HTTPOptions{}), "http://"+w.address().String()+"/")
	if err == nil && (code != http.StatusOK || strings.TrimSpace(body) != w.Name) {
		err = errors.New("answered " + body)
	}
	return err
}

// TestWebInTrouble takes a web server through its troubles, with one connection open
// all the time.
func TestWebInTrouble(t *testing.T) {
	d := newDemo(t)
	ctx := within(t)
	w := d.webs["WEB1"]
	conn, err := d.client().Dial(ctx, "tcp", w.address().String())
	if err != nil {
		t.Fatal(err)
	}
	h := newHeld(conn)
	defer h.Close()
	for range 2 {
		if err := h.mustBe(ctx, "WEB1"); err != nil {
			t.Fatal(err)
		}
		if err := w.refuse(ctx); err != nil {
			t.Fatal(err)
		}
		if err := direct(ctx, d, w); !isRefused(err) {
			t.Errorf("a new connection to a closed port: %v", err)
		}
		if err := h.mustBe(ctx, "WEB1"); err != nil {
			t.Errorf("the open connection after the port was closed: %v", err)
		}
		if err := w.answer(ctx); err != nil {
			t.Fatal(err)
		}
		if err := direct(ctx, d, w); err != nil {
			t.Error(err)
		}
		if err := w.hang(ctx); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, impatience)
		if err := direct(short, d, w); !isSilent(err) || isRefused(err) {
			t.Errorf("a server that hangs: %v", err)
		}
		cancel()
		if err := w.wake(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGet runs the command as a user does.
func TestGet(t *testing.T) {
	d := newDemo(t)
	var out bytes.Buffer
	if err := get(within(t), &out, clientHost, "http://"+d.webs["WEB2"].address().String()+"/", 3); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "WEB2\nWEB2\nWEB2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLoad lets one of a crowd's requests fail and finds it noted.
func TestLoad(t *testing.T) {
	d := newDemo(t)
	ctx := within(t)
	if err := d.net.Members[0].Host.AddAddress(lab.Uplink, vipPrefix(d)); err != nil {
		t.Fatal(err)
	}
	l := startLoad(ctx, d.client())
	defer l.end()
	if err := l.await(ctx, crowd); err != nil {
		t.Fatal(err)
	}
	l.end()
	if len(l.who) != 0 || int64(len(l.lost)) != l.asked.Load() || !isRefused(l.lost[0]) {
		t.Errorf("%d answered, %d of %d lost: %v", len(l.who), len(l.lost), l.asked.Load(), l.lost)
	}
}

// TestCleanAfterCrash leaves everything behind as a killed demo would, with the
// namespaces and pins of pools of its own, and a stranger's beside them.
func TestCleanAfterCrash(t *testing.T) {
	d := newDemo(t)
	const mine, another, stranger = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222",
		"33333333-3333-4333-8333-333333333333"
	outside, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	for _, id := range []string{mine, another, stranger} {
		if _, err := outside.Host(poolNamespace(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := remember(d.place.pools, mine); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", d.place.bpffs, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(d.place.bpffs, "pools", another), 0o700); err != nil {
		t.Fatal(err)
	}
	pid := d.webs["WEB1"].process.Pid()

	for want := true; ; want = false {
		found, err := clean(d.place)
		if err != nil || found != want {
			t.Fatalf("clean: %v, %v; want %v", found, err, want)
		}
		if !found {
			break
		}
	}
	names, err := lab.Namespaces("")
	if err != nil || len(names) != 1 || names[0] != poolNamespace(stranger) {
		t.Errorf("left are %v, %v; want the stranger's only", names, err)
	}
	if _, err := os.Lstat(d.place.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the web server's process: %v", err)
	}
}

// TestCleanWithoutDemo sees that namespaces which only have the demo's names are safe.
func TestCleanWithoutDemo(t *testing.T) {
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Host(clientHost); err != nil {
		t.Fatal(err)
	}
	if found, err := clean(newPlace(placeDir)); found || err != nil {
		t.Fatalf("clean: %v, %v", found, err)
	}
	if names, err := lab.Namespaces(clientHost); err != nil || len(names) != 1 {
		t.Errorf("namespaces %v, %v", names, err)
	}
}

// TestLock lets nobody in while a demo runs.
func TestLock(t *testing.T) {
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(); err == nil {
		t.Error("a second lock was given")
	}
	unlock()
	again, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// vipPrefix puts the VIP on a host that nobody serves it from.
func vipPrefix(d *demo) netip.Prefix { return netip.PrefixFrom(d.net.VIP, d.net.Subnet.Bits()) }
