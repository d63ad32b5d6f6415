package cmdline

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// Arrange returns args (with the program's name first) as path of commands,
// flags, "--", positional arguments, which is the order that urfave/cli
// understands. Everything after a "--" is positional, but in a command without
// positional arguments the "--" has no meaning and is dropped, so that neutron's
// `list -- --status ACTIVE` works. Unknown flags and commands, and a flag
// without its value, are usage errors.
func Arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, Usagef("no program name")
	}
	w := &walk{path: args[:1:1], commands: app.Commands, flags: app.Flags, rest: args[1:]}
	for len(w.rest) > 0 && !w.verbatim {
		if err := w.step(); err != nil {
			return nil, err
		}
	}
	return w.result(), nil
}

// walk is the state of one Arrange: what was sorted so far and what is left.
type walk struct {
	path, opts, words []string
	rest              []string
	command           *cli.Command
	commands          []*cli.Command
	flags             []cli.Flag
	verbatim          bool
}

func (w *walk) next() string {
	s := w.rest[0]
	w.rest = w.rest[1:]
	return s
}

func (w *walk) step() error {
	word := w.next()
	switch {
	case word == "--" && w.takesWords():
		w.words = append(w.words, w.rest...)
		w.rest = nil
		return nil
	case word == "--":
		return nil
	case len(word) > 1 && word[0] == '-':
		return w.flag(word)
	case len(w.commands) > 0:
		return w.descend(word)
	}
	w.words = append(w.words, word)
	return nil
}

func (w *walk) takesWords() bool { return w.command != nil && w.command.ArgsUsage != "" }

func (w *walk) descend(word string) error {
	for _, c := range w.commands {
		if !c.HasName(word) {
			continue
		}
		w.command, w.commands = c, c.Subcommands
		w.path = append(w.path, c.Name)
		w.flags = append(c.Flags[:len(c.Flags):len(c.Flags)], w.flags...)
		w.verbatim = c.SkipFlagParsing
		return nil
	}
	if word == "help" {
		w.opts = append(w.opts, "--help")
		return nil
	}
	return Usagef("unknown command %q; see %s --help", word, strings.Join(w.path, " "))
}

// flag files one flag, with its value joined by "=", so that a value may begin
// with a dash.
func (w *walk) flag(word string) error {
	name, value, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
	if name == "help" || name == "h" {
		w.opts = append(w.opts, "--help")
		return nil
	}
	f := findFlag(w.flags, name)
	if f == nil {
		return Usagef("unknown flag %s; see %s --help", dashed(name), strings.Join(w.path, " "))
	}
	out := "--" + f.Names()[0]
	if !joined {
		if takesOf(f) == takesNothing {
			w.opts = append(w.opts, out)
			return nil
		}
		var ok bool
		if value, ok = w.value(takesOf(f)); !ok {
			return Usagef("flag %s needs a value", dashed(f.Names()[0]))
		}
	}
	w.opts = append(w.opts, out+"="+value)
	return nil
}

// value takes the words that belong to a flag as its value.
func (w *walk) value(kind takes) (string, bool) {
	if kind == takesSwitch && (len(w.rest) == 0 || !isBoolWord(w.rest[0])) {
		return "True", true
	}
	if len(w.rest) == 0 {
		return "", false
	}
	first := w.next()
	if kind != takesDict || first != "type=dict" {
		return first, true
	}
	var pairs []string
	for len(w.rest) > 0 && !strings.HasPrefix(w.rest[0], "-") && strings.Contains(w.rest[0], "=") {
		pairs = append(pairs, w.next())
	}
	return strings.Join(pairs, ","), len(pairs) > 0
}

func (w *walk) result() []string {
	out := append(w.path, w.opts...)
	if w.verbatim {
		return append(out, w.rest...)
	}
	if len(w.words) > 0 {
		out = append(append(out, "--"), w.words...)
	}
	return out
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
