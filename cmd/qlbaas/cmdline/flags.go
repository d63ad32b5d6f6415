package cmdline

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// Choice is a flag with a known set of values. They are offered by completion
// and shown in the help; the server decides what is valid.
type Choice struct {
	*cli.StringFlag
	Values []string
}

// Switch is a boolean flag whose value may be left out: `--shared` means
// `--shared True`.
type Switch struct{ *cli.StringFlag }

// Dict is a flag with a value of the form key=value[,key=value…]. The older
// spelling `type=dict key=value` of the neutron command is understood too.
type Dict struct{ *cli.StringFlag }

// takes says what follows a flag on the command line.
type takes int

const (
	takesNothing takes = iota
	takesValue
	takesSwitch
	takesDict
)

func takesOf(f cli.Flag) takes {
	switch f.(type) {
	case *cli.BoolFlag:
		return takesNothing
	case Switch:
		return takesSwitch
	case Dict:
		return takesDict
	}
	return takesValue
}

// findFlag looks a flag up by the name that was typed, without dashes. An
// underscore is as good as a dash, as it was for the neutron command.
func findFlag(flags []cli.Flag, name string) cli.Flag {
	want := canonical(name)
	for _, f := range flags {
		for _, n := range f.Names() {
			if canonical(n) == want {
				return f
			}
		}
	}
	return nil
}

func canonical(name string) string { return strings.ReplaceAll(name, "_", "-") }

func isBoolWord(s string) bool {
	return strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
}
