package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

// word is the placeholder of this kind of object in usage texts.
func (r *resource) word() string { return strings.ToUpper(r.command) }

func (r *resource) updateCommand(env Env) *cli.Command {
	return command(env, &cli.Command{
		Name:      "update",
		Usage:     "change attributes of a " + r.title,
		ArgsUsage: r.word(),
		Flags:     r.flags(inUpdate),
	}, r.update)
}

func (r *resource) update(c *call) error {
	words, err := c.arguments(r.word())
	if err != nil {
		return err
	}
	body, err := c.body(r.attrs, inUpdate)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return cmdline.Usagef("%s: nothing to change: give at least one attribute", c.cli.Command.HelpName)
	}
	id, err := c.find(r, words[0])
	if err != nil {
		return err
	}
	answer, err := c.server.do(c, http.MethodPut, r.path+"/"+id, nil, map[string]any{r.noun: body})
	if err != nil {
		return err
	}
	if c.json() {
		return c.printObject("", r.noun, answer)
	}
	return c.say("Updated %s: %s", r.title, id)
}

func (r *resource) deleteCommand(env Env) *cli.Command {
	return command(env, &cli.Command{
		Name:      "delete",
		Usage:     "delete one or more " + r.title + "s",
		ArgsUsage: r.word() + "…",
	}, r.delete)
}

// delete goes on after a refusal, so that one object in use does not keep the
// others; every refusal is in the error.
func (r *resource) delete(c *call) error {
	words := c.cli.Args().Slice()
	if len(words) == 0 {
		return cmdline.Usagef("%s: %s is missing", c.cli.Command.HelpName, r.word())
	}
	var refused []error
	for _, word := range words {
		err := r.deleteOne(c, word)
		var gone *NoServer
		if errors.As(err, &gone) || c.Err() != nil {
			return err
		}
		if err != nil && len(words) > 1 {
			err = fmt.Errorf("%s: %w", printable(word), err)
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}

func (r *resource) deleteOne(c *call, word string) error {
	id, err := c.find(r, word)
	if err != nil {
		return err
	}
	if _, err := c.server.do(c, http.MethodDelete, r.path+"/"+id, nil, nil); err != nil {
		return err
	}
	if c.json() {
		return nil
	}
	return c.say("Deleted %s: %s", r.title, id)
}
