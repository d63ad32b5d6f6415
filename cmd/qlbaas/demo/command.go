package demo

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

// Env is what the demo sees of the process.
type Env struct {
	Stdout io.Writer
}

// Command returns the command demo.
func Command(env Env) *cli.Command {
	c := &cli.Command{
		Name:  "demo",
		Usage: "play the life of a load balancer on real packets, in network namespaces of its own",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep", Usage: "leave everything standing and say what can be tried"},
			hookFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return cmdline.Usagef("demo: unexpected argument %q", c.Args().First())
			}
			return play(c.Context, env, options{keep: c.Bool("keep"), hook: c.String("hook")}, chapters())
		},
		Subcommands: []*cli.Command{cleanCommand(env), getCommand(env), webCommand()},
	}
	for _, one := range append([]*cli.Command{c}, c.Subcommands...) {
		one.HideHelpCommand = true
		one.OnUsageError = cmdline.UsageError
	}
	return c
}

func hookFlag() cli.Flag {
	return cmdline.Choice{
		StringFlag: &cli.StringFlag{Name: "hook", Usage: "where the balancer is attached", Value: "auto"},
		Values:     []string{"auto", "tcx", "clsact", "xdp"},
	}
}

func cleanCommand(env Env) *cli.Command {
	return &cli.Command{
		Name:  "clean",
		Usage: "remove what a demo has left standing",
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return cmdline.Usagef("demo clean: unexpected argument %q", c.Args().First())
			}
			unlock, err := lock()
			if err != nil {
				return err
			}
			defer unlock()
			found, err := clean(newPlace(placeDir))
			switch {
			case err != nil:
				return err
			case found:
				fmt.Fprintln(env.Stdout, "What a demo had left standing is removed.")
			default:
				fmt.Fprintln(env.Stdout, "Nothing was left standing.")
			}
			return nil
		},
	}
}

func getCommand(env Env) *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "ask a web server, each time over a new connection, and print the answers",
		ArgsUsage: "[URL]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "network namespace to ask from", Value: clientHost},
			&cli.IntFlag{Name: "n", Usage: "how many times", Value: 1},
		},
		Action: func(c *cli.Context) error {
			url := vipURL
			if c.Args().Present() {
				url = c.Args().First()
			}
			if c.NArg() > 1 {
				return cmdline.Usagef("demo get: unexpected argument %q", c.Args().Get(1))
			}
			return get(c.Context, env.Stdout, c.String("from"), url, c.Int("n"))
		},
	}
}

func webCommand() *cli.Command {
	return &cli.Command{
		Name:      "web",
		Usage:     "serve the demo's web page; SIGUSR1 closes the port, SIGUSR2 opens it",
		ArgsUsage: "NAME ADDRESS",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return cmdline.Usagef("demo web: want a name and an address")
			}
			address, err := netip.ParseAddrPort(c.Args().Get(1))
			if err != nil {
				return cmdline.Usagef("demo web: %v", err)
			}
			return serve(c.Context, c.Args().First(), address)
		},
	}
}
