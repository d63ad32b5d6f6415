package client

import (
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

func (r *resource) createCommand(env Env) *cli.Command {
	return command(env, &cli.Command{
		Name:      "create",
		Usage:     "create a " + r.title,
		ArgsUsage: r.argsUsage(),
		Flags:     r.flags(inCreate),
	}, r.create)
}

// argsUsage names create's positional arguments.
func (r *resource) argsUsage() string {
	out := ""
	for _, a := range r.args {
		out += " " + a.usage
	}
	return strings.TrimSpace(out)
}

func (r *resource) create(c *call) error {
	if err := c.checkRequired(r.attrs); err != nil {
		return err
	}
	var names []string
	for _, a := range r.args {
		names = append(names, a.usage)
	}
	words, err := c.arguments(names...)
	if err != nil {
		return err
	}
	body, err := c.body(r.attrs, inCreate)
	if err != nil {
		return err
	}
	for i, a := range r.args {
		if a.kind != reference {
			body[a.name()] = words[i]
			continue
		}
		if body[a.name()], err = c.find(a.of, words[i]); err != nil {
			return err
		}
	}
	answer, err := c.server.do(c, http.MethodPost, r.path, nil, map[string]any{r.noun: body})
	if err != nil {
		return err
	}
	return c.printObject("Created a new "+r.title+":", r.noun, answer)
}

func (c *call) checkRequired(attrs []attr) error {
	for _, a := range attrs {
		if a.required && a.in&inCreate != 0 && !c.cli.IsSet(a.flag) {
			return cmdline.Usagef("%s: --%s is required", c.cli.Command.HelpName, a.flag)
		}
	}
	return nil
}

// flags returns the flags of the attributes that a verb takes.
func (r *resource) flags(in verbs) []cli.Flag {
	var out []cli.Flag
	for i := range r.attrs {
		if r.attrs[i].in&in == 0 {
			continue
		}
		if in == inList {
			out = append(out, r.attrs[i].filterFlag())
			continue
		}
		f := r.attrs[i].cliFlag()
		if in == inCreate && r.attrs[i].required {
			markRequired(f)
		}
		out = append(out, f)
	}
	return out
}

// markRequired says in the help what checkRequired enforces. The library's own
// check is not used: it answers with the whole help text.
func markRequired(f cli.Flag) {
	switch f := f.(type) {
	case *cli.StringFlag:
		f.Usage = strings.TrimSpace(f.Usage + " (required)")
	case cmdline.Choice:
		f.Usage = strings.TrimSpace(f.Usage + " (required)")
	}
}
