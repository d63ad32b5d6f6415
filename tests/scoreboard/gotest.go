package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// seedVar is what tests take their seed of.
const seedVar = "QLBAAS_SEED"

// tests is what a run of Go's tests has come to. A test's name is that of its package
// and its own, with a slash between.
type tests struct {
	passed, failed map[string]bool
	numbers        []map[string]any // of lines "scoreboard: {…}", in order
	said           map[string][]string
	begun          map[string]string // lines that have no end yet
}

func newTests() *tests {
	return &tests{
		passed: map[string]bool{}, failed: map[string]bool{}, said: map[string][]string{}, begun: map[string]string{},
	}
}

// event is a line of `go test -json`.
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	FailedBuild string
}

// goTest runs tests of the tree, and returns an error if that was not possible at all.
// Failed tests are none. What they say goes to stderr.
func goTest(ctx context.Context, seed uint64, run string, packages ...string) (*tests, error) {
	args := []string{"test", "-json", "-count=1", fmt.Sprintf("-failfast=%t", firstFailureIsEnough(ctx))}
	if end, ok := ctx.Deadline(); ok {
		args = append(args, "-timeout="+time.Until(end).Round(time.Second).String())
	}
	args = append(append(args, "-run="+run), packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), seedVar+"="+seedText(seed))
	cmd.Stderr = os.Stderr
	// The test binaries have to end as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := newTests()
	read := t.read(out)
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case read != nil:
		return nil, read
	case len(t.passed)+len(t.failed) == 0:
		return nil, fmt.Errorf("no test of %v has run: %w", packages, errors.Join(ended))
	}
	return t, nil
}

func (t *tests) read(out io.Reader) error {
	lines := bufio.NewReader(out)
	broken := ""
	for {
		text, err := lines.ReadBytes('\n')
		if len(text) > 0 && text[0] == '{' {
			var e event
			if err := json.Unmarshal(text, &e); err != nil {
				return fmt.Errorf("read `go test -json`: %w", err)
			}
			if e.FailedBuild != "" {
				broken = e.FailedBuild
			}
			t.note(e)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if broken != "" {
		return fmt.Errorf("%s does not build", broken)
	}
	return nil
}

func (t *tests) note(e event) {
	name := e.Package + "/" + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(os.Stderr, e.Output)
	case "output":
		fmt.Fprint(os.Stderr, e.Output)
		t.say(name, e.Output)
	case "pass":
		if e.Test != "" {
			t.passed[name] = true
		}
	case "fail": // also of a package, which may have died between tests
		t.failed[name] = true
	}
}

// say takes what a test says; long lines come in pieces.
func (t *tests) say(name, piece string) {
	line := t.begun[name] + piece
	if !strings.HasSuffix(line, "\n") {
		t.begun[name] = line
		return
	}
	delete(t.begun, name)
	t.said[name] = append(t.said[name], line)
	if _, numbers, ok := strings.Cut(line, "scoreboard: {"); ok {
		var n map[string]any
		if json.Unmarshal([]byte("{"+numbers), &n) == nil {
			t.numbers = append(t.numbers, n)
		}
	}
}

// sum adds up a number that tests have said.
func (t *tests) sum(name string) (total float64) {
	for _, n := range t.numbers {
		if x, ok := n[name].(float64); ok {
			total += x
		}
	}
	return total
}

// add takes over the tries and failures that tests have said. A test that fails for
// another reason counts as one.
func (t *tests) add(r *result) {
	r.Tries += int(t.sum("tries"))
	failures := int(t.sum("failures"))
	if failures == 0 {
		failures = len(leaves(t.failed))
	}
	r.Failures += failures
}

// leaves are the tests of a kind that have no subtests of that kind.
func leaves(kind map[string]bool) (names []string) {
	for name := range kind {
		prefix, leaf := strings.TrimSuffix(name, "/")+"/", true
		for other := range kind {
			leaf = leaf && (other == name || !strings.HasPrefix(other, prefix))
		}
		if leaf {
			names = append(names, name)
		}
	}
	return names
}
