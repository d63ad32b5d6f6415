package demo

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"qlbaas/tests/lab"
)

// hostsOnly is a first chapter without agent.
var hostsOnly = chapter{"The network", (*demo).buildHosts}

// mustBeClean sees that nothing of a demo is left.
func mustBeClean(t *testing.T) {
	t.Helper()
	if names, err := lab.Namespaces(""); err != nil || len(names) > 0 {
		t.Errorf("namespaces %v are left, %v", names, err)
	}
	if _, err := os.Lstat(placeDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory: %v", err)
	}
}

// TestEveryEndCleansUp ends a demo in each way that it can see.
func TestEveryEndCleansUp(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		last func(d *demo, ctx context.Context, interrupt func()) error
		want string
	}{
		{"as told", func(*demo, context.Context, func()) error { return nil }, ""},
		{"an error", func(*demo, context.Context, func()) error { return broken }, "chapter 1 (Last) differs from the story: broken"},
		{"no agent", func(d *demo, ctx context.Context, _ func()) error { return d.startAgent(ctx) }, "the agent has ended"},
		{"interrupted", func(_ *demo, ctx context.Context, interrupt func()) error {
			interrupt()
			<-ctx.Done()
			return ctx.Err()
		}, "interrupted in chapter 1"},
		{"a panic", func(*demo, context.Context, func()) error { panic(broken) }, "panic"},
	} {
		ctx, interrupt := context.WithCancel(within(t))
		story := []chapter{hostsOnly, {"Last", func(d *demo, ctx context.Context) error { return c.last(d, ctx, interrupt) }}}
		check(t, c.name, playCaught(ctx, story), c.want)
		interrupt()
		mustBeClean(t)
	}
}

// playCaught makes an error of a panic.
func playCaught(ctx context.Context, story []chapter) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("panic")
		}
	}()
	return play(ctx, Env{Stdout: new(bytes.Buffer)}, options{}, story)
}

// TestKeep leaves hosts and web servers standing, without the last chapter, and lets
// the next demo remove them.
func TestKeep(t *testing.T) {
	last := chapter{lastChapter, func(*demo, context.Context) error { return errors.New("played") }}
	var out bytes.Buffer
	if err := play(within(t), Env{Stdout: &out}, options{keep: true}, []chapter{hostsOnly, last}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"demo get", "QLBAAS_API=", "demo clean", "kill -STOP"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the list of what to try has no %q:\n%s", want, &out)
		}
	}
	out.Reset()
	if err := get(within(t), &out, clientHost, "http://172.16.100.9/", 1); err != nil || out.String() != "WEB1\n" {
		t.Errorf("a web server that was kept: %q, %v", &out, err)
	}
	if err := play(within(t), Env{Stdout: &out}, options{}, []chapter{hostsOnly}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "an earlier demo") {
		t.Errorf("the second demo says nothing of the first:\n%s", &out)
	}
	mustBeClean(t)
}
