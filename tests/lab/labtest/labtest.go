// Package labtest ties a laboratory to a test: it is built with the test's name,
// closed when the test ends, and explains a failure.
//
// Environment of the tests: KEEP=1 stops a failed test with its laboratory standing
// until it is interrupted (give go test -timeout 0); DEBUG=1 logs what is built and
// captures frames at the client and on the bridge.
//
// It is the only room of the laboratory that knows package testing.
package labtest

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"testing"
	"time"

	"qlbaas/tests/lab"
)

// New returns an empty laboratory that ends with the test. When the test has failed
// its state is printed first. What the test has started by other means than the
// laboratory must be stopped by cleanups registered later than this call, or it is
// an error.
func New(t testing.TB) *lab.Lab {
	t.Helper()
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(t.Name())) // a hash takes everything
	options := lab.Options{Prefix: fmt.Sprintf("t%08x-", hash.Sum32())}
	if debug() {
		options.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	l, err := lab.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, l) })
	return l
}

// end explains a failure and closes the laboratory.
func end(t testing.TB, l *lab.Lab) {
	if t.Failed() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		l.Dump(ctx, t.Output())
		if os.Getenv("KEEP") != "" {
			if err := lab.Hold(os.Stderr); err != nil {
				t.Error(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// Tutorial returns the story's network, which ends with the test; see New.
func Tutorial(t testing.TB, o lab.TutorialOptions) *lab.Tutorial {
	t.Helper()
	tutorial, err := lab.NewTutorial(New(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if debug() {
		for device, host := range map[string]*lab.Host{lab.Uplink: tutorial.Client, lab.BridgeName: tutorial.Node} {
			if _, err := host.Capture(device); err != nil {
				t.Fatal(err)
			}
		}
	}
	return tutorial
}

func debug() bool { return os.Getenv("DEBUG") != "" }
