package client

import (
	"net/http"
	"net/url"

	"github.com/urfave/cli/v2"
)

func fieldFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "field", Aliases: []string{"F", "fields"}, Usage: "ask for this attribute only (repeatable)"}
}

func (r *resource) showCommand(env Env) *cli.Command {
	return command(env, &cli.Command{
		Name:      "show",
		Usage:     "show a " + r.title,
		ArgsUsage: r.word(),
		Flags:     []cli.Flag{fieldFlag()},
	}, r.show)
}

func (r *resource) show(c *call) error {
	words, err := c.arguments(r.word())
	if err != nil {
		return err
	}
	id, err := c.find(r, words[0])
	if err != nil {
		return err
	}
	query := url.Values{}
	if fields := c.cli.StringSlice("field"); len(fields) > 0 {
		query["fields"] = fields
	}
	answer, err := c.server.do(c, http.MethodGet, r.path+"/"+id, query, nil)
	if err != nil {
		return err
	}
	return c.printObject("", r.noun, answer)
}
