package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/agent"
	"qlbaas/cmd/qlbaas/client"
	"qlbaas/cmd/qlbaas/cmdline"
	"qlbaas/cmd/qlbaas/demo"
	"qlbaas/cmd/qlbaas/sidecar"
)

// version is set by the linker (-X main.version=…) in a release.
var version string

// newApp returns the table of all commands.
func newApp(e env) *cli.App {
	app := cmdline.NewApp("qlbaas", "load balancers in the kernel", e.stdout, e.stderr)
	app.Flags = client.Flags()
	app.Commands = append(app.Commands, agent.Command(agent.Env{
		Stderr: e.stderr, Version: versionText(), Open: e.open,
	}))
	app.Commands = append(app.Commands, client.Commands(client.Env{
		Stdout: e.stdout, Stderr: e.stderr, Getenv: e.getenv,
	})...)
	app.Commands = append(app.Commands, demo.Command(demo.Env{Stdout: e.stdout}), versionCommand(e))
	app.Commands = append(app.Commands, sidecar.Command(sidecar.Env{Stderr: e.stderr, Version: versionText()}))
	app.Commands = append(app.Commands, cmdline.CompletionCommands(e.stdout)...)
	return app
}

func versionCommand(e env) *cli.Command {
	return &cli.Command{
		Name:            "version",
		Usage:           "print the version of this program",
		HideHelpCommand: true,
		OnUsageError:    cmdline.UsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return cmdline.Usagef("version: unexpected argument %q", c.Args().First())
			}
			_, err := fmt.Fprintf(e.stdout, "qlbaas %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// versionText is the release, or the commit that the program was built from.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	if commit == "" {
		return "devel"
	}
	return "devel-" + commit + changed
}
