package cmdline

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

// testApp has one of every kind of flag and a command of every shape.
func testApp() *cli.App {
	text := func(name string, aliases ...string) *cli.StringFlag {
		return &cli.StringFlag{Name: name, Aliases: aliases}
	}
	create := &cli.Command{Name: "create", ArgsUsage: "POOL", Flags: []cli.Flag{
		text("name"),
		text("limit"),
		&cli.StringSliceFlag{Name: "tag"},
		&cli.BoolFlag{Name: "down"},
		Switch{text("shared")},
		Dict{text("session-persistence")},
		Choice{text("protocol"), []string{"TCP", "HTTP", "HTTPS"}},
		text("provider:physical_network"),
	}}
	list := &cli.Command{Name: "list", Flags: []cli.Flag{text("status"), text("field", "F")}}
	return &cli.App{
		Name:            "qlbaas",
		HideHelpCommand: true,
		Flags:           []cli.Flag{text("api"), text("output", "o")},
		Commands: []*cli.Command{
			{Name: "vip", Subcommands: []*cli.Command{create, list}},
			{Name: "raw", SkipFlagParsing: true, Hidden: true},
		},
	}
}

func TestArrange(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want []string
	}{
		{
			"flags after the positional",
			[]string{"vip", "create", "web", "--name", "x"},
			[]string{"vip", "create", "--name=x", "--", "web"},
		},
		{
			"flags before the positional",
			[]string{"vip", "create", "--name", "x", "web"},
			[]string{"vip", "create", "--name=x", "--", "web"},
		},
		{
			"common flags before the command",
			[]string{"--api", "http://h", "-o", "json", "vip", "list"},
			[]string{"vip", "list", "--api=http://h", "--output=json"},
		},
		{
			"value that begins with a dash",
			[]string{"vip", "create", "web", "--limit", "-1"},
			[]string{"vip", "create", "--limit=-1", "--", "web"},
		},
		{
			"joined value",
			[]string{"vip", "create", "--name=a=b", "web"},
			[]string{"vip", "create", "--name=a=b", "--", "web"},
		},
		{
			"empty values",
			[]string{"vip", "create", "--name", "", "--limit=", "web"},
			[]string{"vip", "create", "--name=", "--limit=", "--", "web"},
		},
		{
			"bool takes nothing",
			[]string{"vip", "create", "--down", "web"},
			[]string{"vip", "create", "--down", "--", "web"},
		},
		{
			"switch without value",
			[]string{"vip", "create", "--shared", "web"},
			[]string{"vip", "create", "--shared=True", "--", "web"},
		},
		{
			"switch with value",
			[]string{"vip", "create", "--shared", "False", "web"},
			[]string{"vip", "create", "--shared=False", "--", "web"},
		},
		{
			"dict",
			[]string{"vip", "create", "--session-persistence", "type=SOURCE_IP", "web"},
			[]string{"vip", "create", "--session-persistence=type=SOURCE_IP", "--", "web"},
		},
		{
			"dict as neutron users type it",
			[]string{"vip", "create", "--session-persistence", "type=dict", "type=APP_COOKIE", "cookie_name=x", "web"},
			[]string{"vip", "create", "--session-persistence=type=APP_COOKIE,cookie_name=x", "--", "web"},
		},
		{
			"underscores",
			[]string{"vip", "create", "--session_persistence", "action=clear", "--provider:physical-network", "br0"},
			[]string{"vip", "create", "--session-persistence=action=clear", "--provider:physical_network=br0"},
		},
		{
			"repeated",
			[]string{"vip", "create", "--tag", "a,b", "web", "--tag", "c"},
			[]string{"vip", "create", "--tag=a,b", "--tag=c", "--", "web"},
		},
		{
			"after two dashes all is positional",
			[]string{"vip", "create", "--", "--name", "-o"},
			[]string{"vip", "create", "--", "--name", "-o"},
		},
		{
			"two dashes mean nothing to a list",
			[]string{"vip", "list", "--", "--status", "ACTIVE"},
			[]string{"vip", "list", "--status=ACTIVE"},
		},
		{"a lone dash is positional", []string{"vip", "create", "-"}, []string{"vip", "create", "--", "-"}},
		{"help", []string{"vip", "-h"}, []string{"vip", "--help"}},
		{"help as a command", []string{"help", "vip", "create"}, []string{"vip", "create", "--help"}},
		{"verbatim", []string{"raw", "--nonsense", "vip"}, []string{"raw", "--nonsense", "vip"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Arrange(testApp(), append([]string{"qlbaas"}, c.in...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]string{"qlbaas"}, c.want...), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestArrangeRefuses(t *testing.T) {
	for _, in := range [][]string{
		{"nope"},
		{"vip", "nope"},
		{"vip", "create", "--nope", "x"},
		{"vip", "create", "--name"},
		{"vip", "create", "--session-persistence", "type=dict"},
		{"vip", "create", "--session-persistence", "type=dict", "--name", "x"},
	} {
		_, err := Arrange(testApp(), append([]string{"qlbaas"}, in...))
		if ExitCode(err) != ExitUsage {
			t.Errorf("%q: got %v, want a usage error", in, err)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{Usagef("x"), 2},
		{fmt.Errorf("wrapped: %w", Usagef("x")), 2},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}
