package cmdline

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeWord is the hidden command that the shells' scripts call.
const completeWord = "__complete"

// Complete returns what may stand in place of the last of words, sorted. words
// are the arguments typed so far without the program's name; the last one is the
// word under the cursor, perhaps empty.
func Complete(app *cli.App, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	w := &walk{path: []string{app.Name}, commands: app.Commands, flags: app.Flags, rest: words[:len(words)-1]}
	for len(w.rest) > 0 {
		if f := w.pending(); f != nil {
			return matching(last, values(f))
		}
		if w.rest[0] == "--" || w.step() != nil || w.verbatim {
			return nil
		}
	}
	if name, _, joined := strings.Cut(last, "="); joined && strings.HasPrefix(name, "-") {
		return matching(last, prefixed(name+"=", values(findFlag(w.flags, strings.TrimLeft(name, "-")))))
	}
	if strings.HasPrefix(last, "-") {
		return matching(last, flagNames(w.flags))
	}
	return matching(last, commandNames(w.commands))
}

// pending returns the flag whose value the word under the cursor is.
func (w *walk) pending() cli.Flag {
	word := w.rest[0]
	if len(w.rest) != 1 || !strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
		return nil
	}
	f := findFlag(w.flags, strings.TrimLeft(word, "-"))
	if f == nil || takesOf(f) == takesNothing {
		return nil
	}
	return f
}

func values(f cli.Flag) []string {
	switch f := f.(type) {
	case Choice:
		return f.Values
	case Switch:
		return []string{"True", "False"}
	}
	return nil
}

func prefixed(prefix string, words []string) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		out = append(out, prefix+w)
	}
	return out
}

func flagNames(flags []cli.Flag) []string {
	out := []string{"--help"}
	for _, f := range flags {
		for _, n := range f.Names() {
			out = append(out, dashed(n))
		}
	}
	return out
}

func commandNames(commands []*cli.Command) []string {
	var out []string
	for _, c := range commands {
		if !c.Hidden {
			out = append(out, c.Name)
		}
	}
	return out
}

func matching(prefix string, words []string) []string {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// CompletionCommands returns the command that prints a shell's script to out
// and the hidden one that the scripts call.
func CompletionCommands(out io.Writer) []*cli.Command {
	script := &cli.Command{
		Name:            "completion",
		Usage:           "print the completion script of a shell",
		Description:     "bash: source <(qlbaas completion bash)\nzsh:  source <(qlbaas completion zsh)\nfish: qlbaas completion fish | source",
		HideHelpCommand: true,
		Action: func(*cli.Context) error {
			return Usagef("completion: name one of bash, zsh, fish")
		},
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script.Subcommands = append(script.Subcommands, &cli.Command{
			Name:            shell,
			Usage:           "print the script for " + shell,
			HideHelpCommand: true,
			Action: func(*cli.Context) error {
				_, err := io.WriteString(out, scripts()[shell])
				return err
			},
		})
	}
	words := &cli.Command{
		Name:            completeWord,
		Hidden:          true,
		SkipFlagParsing: true,
		HideHelp:        true,
		Action: func(c *cli.Context) error {
			for _, word := range Complete(c.App, c.Args().Slice()) {
				if _, err := fmt.Fprintln(out, word); err != nil {
					return err
				}
			}
			return nil
		},
	}
	return []*cli.Command{script, words}
}
