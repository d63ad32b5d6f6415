package client

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

// DefaultAPI is the server that is asked when neither --api nor QLBAAS_API names one.
const DefaultAPI = "unix:///run/qlbaas/api.sock"

// Env is what the commands see of the process.
type Env struct {
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// call is one run of a command.
type call struct {
	context.Context
	cli    *cli.Context
	env    Env
	server *server
}

// Flags returns the flags that every client command has. They may stand before
// the command's name, too.
func Flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "api", Usage: "server: unix:///path, http://host:port or https://host:port (also $QLBAAS_API)", DefaultText: DefaultAPI},
		&cli.StringFlag{Name: "api-token-file", Usage: "file with the token (also $QLBAAS_API_TOKEN_FILE)"},
		cmdline.Choice{StringFlag: &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "table or json", DefaultText: "table"}, Values: []string{"table", "json"}},
	}
}

// command completes a leaf command: common flags, server, usage errors.
func command(env Env, c *cli.Command, action func(*call) error) *cli.Command {
	c.Flags = append(c.Flags, Flags()...)
	c.HideHelpCommand = true
	c.OnUsageError = cmdline.UsageError
	c.Action = func(cc *cli.Context) error {
		if o := cc.String("output"); o != "" && o != "table" && o != "json" {
			return cmdline.Usagef("--output %q: want table or json", o)
		}
		s, err := openServer(env, cc)
		if err != nil {
			return err
		}
		defer s.close()
		return action(&call{Context: cc.Context, cli: cc, env: env, server: s})
	}
	return c
}

func openServer(env Env, c *cli.Context) (*server, error) {
	api := firstOf(c.String("api"), env.Getenv("QLBAAS_API"), DefaultAPI)
	file := firstOf(c.String("api-token-file"), env.Getenv("QLBAAS_API_TOKEN_FILE"))
	if file == "" {
		return newServer(api, "")
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, cmdline.Usagef("read token: %v", err)
	}
	token := firstToken(string(content))
	if token == "" {
		return nil, cmdline.Usagef("read token: %s holds none", file)
	}
	return newServer(api, token)
}

// firstToken reads the token of the first line that holds one. The agent's own
// file will do: what follows a colon is not part of the token.
func firstToken(content string) string {
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			token, _, _ := strings.Cut(line, ":")
			return token
		}
	}
	return ""
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// arguments returns the positional arguments, which must be as many as names.
func (c *call) arguments(names ...string) ([]string, error) {
	args := c.cli.Args().Slice()
	if len(args) < len(names) {
		return nil, cmdline.Usagef("%s: %s is missing", c.cli.Command.HelpName, names[len(args)])
	}
	if len(args) > len(names) {
		return nil, cmdline.Usagef("%s: unexpected argument %q", c.cli.Command.HelpName, args[len(names)])
	}
	return args, nil
}

// body collects the attributes whose flags were given.
func (c *call) body(attrs []attr, in verbs) (map[string]any, error) {
	body := map[string]any{}
	by := map[string]string{}
	for i := range attrs {
		a := &attrs[i]
		if a.in&in == 0 {
			continue
		}
		if !c.cli.IsSet(a.flag) {
			continue
		}
		if other := by[a.name()]; other != "" {
			return nil, cmdline.Usagef("--%s and --%s contradict each other", other, a.flag)
		}
		v, err := a.json(c)
		if err != nil {
			return nil, err
		}
		by[a.name()], body[a.name()] = a.flag, v
	}
	return body, nil
}
