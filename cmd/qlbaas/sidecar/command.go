// Package sidecar is the hidden command l7: the process beside a pool with cookie
// persistence. The agent starts it, nobody else has a use for it.
package sidecar

import (
	"io"
	"log/slog"
	"net/netip"
	"os"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
	"qlbaas/l7"
)

// Env is what the sidecar sees of the process.
type Env struct {
	Stderr  io.Writer
	Version string
}

// Command returns the command l7.
func Command(env Env) *cli.Command {
	return &cli.Command{
		Name:            "l7",
		Usage:           "read cookies for one pool (the agent starts this)",
		Hidden:          true,
		HideHelpCommand: true,
		OnUsageError:    cmdline.UsageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "control", Usage: "path of the socket for questions, for whoever lists processes"},
			&cli.StringFlag{Name: "from", Usage: "address that members see"},
			&cli.IntFlag{Name: "clients-fd", Usage: "listening socket for clients", Value: -1},
			&cli.IntFlag{Name: "control-fd", Usage: "listening socket for questions", Value: -1},
			&cli.IntFlag{Name: "predecessor-fd", Usage: "connection to a running sidecar, instead of both", Value: -1},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return cmdline.Usagef("l7: unexpected argument %q", c.Args().First())
			}
			options := l7.Options{
				Clients: inherited(c, "clients-fd"), Control: inherited(c, "control-fd"),
				Predecessor: inherited(c, "predecessor-fd"),
				Version:     env.Version,
				Log:         slog.New(slog.NewTextHandler(env.Stderr, nil)),
			}
			if text := c.String("from"); text != "" {
				var err error
				if options.From, err = netip.ParseAddr(text); err != nil {
					return cmdline.Usagef("l7: --from %q is no address", text)
				}
			}
			if options.Predecessor == nil && (options.Clients == nil || options.Control == nil) {
				return cmdline.Usagef("l7: needs --clients-fd and --control-fd, or --predecessor-fd")
			}
			show()
			return l7.Run(c.Context, options)
		},
	}
}

// show gives the process a name of its own, for it is executed by descriptor, and says
// that it goes first when memory is short: it is replaced at once. Where the kernel does
// not want to hear that, nothing else changes.
func show() {
	for file, text := range map[string]string{"comm": "qlbaas-l7", "oom_score_adj": "100"} {
		_ = os.WriteFile("/proc/self/"+file, []byte(text), 0) // see above
	}
}

// inherited is a descriptor that the starter has left open.
func inherited(c *cli.Context, flag string) *os.File {
	fd := c.Int(flag)
	if fd < 0 {
		return nil
	}
	return os.NewFile(uintptr(fd), flag)
}
