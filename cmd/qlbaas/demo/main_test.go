package demo

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"qlbaas/cmd/qlbaas/cmdline"
	"qlbaas/tests/lab"
)

// The tests' binary is the web server, too, as the demo's binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(command())
	}
	os.Exit(lab.Enter(m.Run))
}

func command() int {
	app := cmdline.NewApp("qlbaas", "", os.Stdout, os.Stderr)
	app.Commands = append(app.Commands, Command(Env{Stdout: os.Stdout}))
	err := cmdline.Run(context.Background(), app, os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return cmdline.ExitCode(err)
}

// within is a context for one test's steps.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
