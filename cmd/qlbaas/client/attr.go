package client

import (
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

// kind says how a flag's text becomes a JSON value.
type kind int

const (
	text      kind = iota // a string
	integer               // a number where it is one, else the text for the server to refuse
	boolean               // True or False, else the text; without values, a flag alone means True
	dict                  // key=value,…; action=clear is null
	dicts                 // a repeatable dict
	texts                 // a repeatable string; action=clear alone is the empty list
	constant              // a flag without value that stands for attr.value
	reference             // id or unique name of an object of another collection
)

// verbs says in which commands an attribute is a flag.
type verbs int

const (
	inCreate verbs = 1 << iota
	inUpdate
	inList
	everywhere = inCreate | inUpdate | inList
)

// attr is one attribute of a resource as a flag.
type attr struct {
	// flag is the name without dashes; key is the JSON key, flag with
	// underscores when empty.
	flag, key string
	kind      kind
	usage     string
	in        verbs
	required  bool
	// values are offered by completion and named by the help.
	values []string
	// value is what a constant stands for.
	value any
	// of is the collection of a reference.
	of *resource
}

func (a *attr) name() string {
	if a.key != "" {
		return a.key
	}
	return strings.ReplaceAll(a.flag, "-", "_")
}

func (a *attr) cliFlag() cli.Flag {
	usage := a.usage
	if len(a.values) > 0 {
		usage = strings.TrimSpace(usage + " (" + strings.Join(a.values, ", ") + ")")
	}
	f := &cli.StringFlag{Name: a.flag, Usage: usage}
	switch {
	case a.kind == constant:
		return &cli.BoolFlag{Name: a.flag, Usage: usage, DisableDefaultText: true}
	case a.kind == boolean && len(a.values) == 0:
		return cmdline.Switch{StringFlag: f}
	case a.kind == dict:
		return cmdline.Dict{StringFlag: f}
	case a.kind == dicts || a.kind == texts:
		return &cli.StringSliceFlag{Name: a.flag, Usage: usage + " (repeatable)"}
	case len(a.values) > 0:
		return cmdline.Choice{StringFlag: f, Values: a.values}
	}
	return f
}

// json returns the value of a flag that was given; references are looked up.
func (a *attr) json(c *call) (any, error) {
	typed := c.cli.String(a.flag)
	switch a.kind {
	case constant:
		return a.value, nil
	case integer:
		return number(typed), nil
	case boolean:
		return truth(typed), nil
	case dict:
		return pairs(a.flag, typed)
	case texts:
		if given := c.cli.StringSlice(a.flag); !slices.Equal(given, []string{"action=clear"}) {
			return given, nil
		}
		return []string{}, nil
	case dicts:
		return a.dicts(c)
	case reference:
		return c.find(a.of, typed)
	}
	return typed, nil
}

func (a *attr) dicts(c *call) (any, error) {
	out := []any{}
	for _, one := range c.cli.StringSlice(a.flag) {
		d, err := pairs(a.flag, one)
		if err != nil {
			return nil, err
		}
		m, ok := d.(map[string]any)
		if !ok {
			return []any{}, nil
		}
		if a.of != nil && m["subnet_id"] != nil {
			if m["subnet_id"], err = c.find(a.of, m["subnet_id"].(string)); err != nil {
				return nil, err
			}
		}
		out = append(out, m)
	}
	return out, nil
}

func number(s string) any {
	if n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil {
		return n
	}
	return s
}

func truth(s string) any {
	switch {
	case strings.EqualFold(s, "true"):
		return true
	case strings.EqualFold(s, "false"):
		return false
	}
	return s
}

// pairs parses key=value,… ; action=clear and the empty text are null.
func pairs(flag, s string) (any, error) {
	if s == "" || s == "action=clear" {
		return nil, nil
	}
	out := map[string]any{}
	for pair := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, cmdline.Usagef("--%s %q: want key=value[,key=value…] or action=clear", flag, s)
		}
		if _, twice := out[key]; twice {
			return nil, cmdline.Usagef("--%s %q: %s is given twice", flag, s, key)
		}
		out[key] = value
	}
	return out, nil
}
