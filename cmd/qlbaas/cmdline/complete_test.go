package cmdline

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestComplete(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want []string
	}{
		{nil, []string{"vip"}},
		{[]string{""}, []string{"vip"}},
		{[]string{"v"}, []string{"vip"}},
		{[]string{"x"}, nil},
		{[]string{"--a"}, []string{"--api"}},
		{[]string{"vip", ""}, []string{"create", "list"}},
		{[]string{"-o", "json", "vip", "c"}, []string{"create"}},
		{[]string{"vip", "create", "--s"}, []string{"--session-persistence", "--shared"}},
		{[]string{"vip", "create", "web", "--pro"}, []string{"--protocol", "--provider:physical_network"}},
		{[]string{"vip", "create", "--protocol", "HTTP"}, []string{"HTTP", "HTTPS"}},
		{[]string{"vip", "create", "--protocol=T"}, []string{"--protocol=TCP"}},
		{[]string{"vip", "create", "--nope="}, nil},
		{[]string{"vip", "create", "--shared", ""}, []string{"False", "True"}},
		{[]string{"vip", "create", "--name", ""}, nil},
		{[]string{"vip", "create", "--name", "x", "--do"}, []string{"--down"}},
		{[]string{"vip", "create", ""}, nil},
		{[]string{"vip", "create", "--", "--n"}, nil},
		{[]string{"raw", "v"}, nil},
	} {
		if diff := cmp.Diff(c.want, Complete(testApp(), c.in)); diff != "" {
			t.Errorf("%q: %s", c.in, diff)
		}
	}
}

// TestMain lets the test binary play qlbaas for the shell.
func TestMain(m *testing.M) {
	if os.Getenv("QLBAAS_TEST_COMPLETE") == "" {
		os.Exit(m.Run())
	}
	app := testApp()
	app.Commands = append(app.Commands, CompletionCommands(os.Stdout)...)
	args, err := Arrange(app, append([]string{"qlbaas"}, os.Args[1:]...))
	if err == nil {
		err = app.Run(args)
	}
	os.Exit(ExitCode(err))
}

// TestBashScript lets bash complete lines with the printed script, words with
// the shell's own special characters included: nothing of them may be run.
func TestBashScript(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "qlbaas")); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"qlbaas ":                                 "completion vip",
		"qlbaas vi":                               "vip",
		"qlbaas vip cre":                          "create",
		"qlbaas vip create --protocol H":          "HTTP HTTPS",
		"qlbaas vip create --protocol=H":          "HTTP HTTPS",
		"qlbaas vip create --provider:phys":       "physical_network",
		"qlbaas completion b":                     "bash",
		"qlbaas vip create $(touch evil) --name=": "",
	} {
		cmd := exec.Command("bash", "--norc", "-c",
			`source <(qlbaas completion bash); COMP_LINE=$1 COMP_POINT=${#1}; _qlbaas; echo "${COMPREPLY[*]}"`, "bash", line)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "QLBAAS_TEST_COMPLETE=1", "GOCOVERDIR=" + t.TempDir()}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("%q: %v\n%s", line, err, stderr.String())
		}
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
		t.Error("the script ran what was typed")
	}
}
