package client

import (
	"strings"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

// resource is one kind of object: where the API keeps it, how it is printed, and
// its attributes as flags.
type resource struct {
	// command is the word on the command line, title the name in messages, noun
	// the key of an object's envelope, plural the key of a list's.
	command, title, noun, plural string
	// path of the collection.
	path string
	// columns of a list's table.
	columns []string
	// args are create's positional arguments.
	args  []attr
	attrs []attr
	// named is false for objects that have no name: only an id finds them.
	named bool
	// extra commands beside the five verbs.
	extra []*cli.Command
}

// Commands returns the client commands.
func Commands(env Env) []*cli.Command {
	var out []*cli.Command
	for _, r := range resources(env) {
		out = append(out, r.group(env))
	}
	return append(out, statusCommand(env))
}

func (r *resource) group(env Env) *cli.Command {
	usage := strings.ToUpper(r.command[:1]) + r.command[1:]
	commands := []*cli.Command{
		r.createCommand(env), r.listCommand(env), r.showCommand(env), r.updateCommand(env), r.deleteCommand(env),
	}
	return &cli.Command{
		Name:            r.command,
		Usage:           usage + "s: create, list, show, update, delete",
		HideHelpCommand: true,
		Subcommands:     append(commands, r.extra...),
		Action: func(c *cli.Context) error {
			return cmdline.Usagef("%s: name a command; see qlbaas %s --help", r.command, r.command)
		},
	}
}
