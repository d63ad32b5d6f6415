package cmdline

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"
)

// NewApp returns an application without commands that follows the conventions of
// this package: it never ends the process, never splits a value at a comma, and
// leaves errors to its caller.
func NewApp(name, usage string, stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:                      name,
		Usage:                     usage,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		HideHelpCommand:           true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              UsageError,
		Action: func(*cli.Context) error {
			return Usagef("name a command; see %s --help", name)
		},
	}
}

// UsageError turns the library's complaint about a call into an error of
// ExitUsage.
func UsageError(_ *cli.Context, err error, _ bool) error { return Usagef("%v", err) }

// Run arranges args and runs the command that they name. It ends when ctx ends,
// as far as the command heeds it.
func Run(ctx context.Context, app *cli.App, args []string) error {
	args, err := Arrange(app, args)
	if err != nil {
		return err
	}
	return app.RunContext(ctx, args)
}
