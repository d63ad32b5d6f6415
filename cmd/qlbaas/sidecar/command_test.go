package sidecar_test

import (
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/sidecar"
)

func run(args ...string) error {
	app := cli.NewApp()
	app.Writer, app.ErrWriter = io.Discard, io.Discard
	app.ExitErrHandler = func(*cli.Context, error) {} // the error is looked at here
	app.Commands = []*cli.Command{sidecar.Command(sidecar.Env{Stderr: io.Discard, Version: "test"})}
	return app.Run(append([]string{"qlbaas", "l7"}, args...))
}

func TestMistakes(t *testing.T) {
	for want, args := range map[string][]string{
		"needs --clients-fd":  {},
		"needs --clients-fd ": {"--clients-fd", "100"},
		"unexpected argument": {"start"},
		"is no address":       {"--from", "here", "--clients-fd", "100", "--control-fd", "101"},
		"adopt clients'":      {"--clients-fd", "1000", "--control-fd", "1001"},
	} {
		if err := run(args...); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
