package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/binary"
	"qlbaas/tests/lab"
)

// agent is a daemon in the hands of one test or subtest.
type agent struct {
	t *testing.T
	*daemon
}

// daemon is the product's daemon as a process on a host, with directories of its own.
type daemon struct {
	host *lab.Host
	// args are flags beside those for the directories.
	args []string
	// through is a command that runs the agent's, with its own arguments; empty for none.
	through []string

	state, run, bpffs string
	// log takes what every incarnation writes.
	log     string
	process *lab.Process
	// expected are parts of log lines above INFO that the test provokes.
	expected []string
	// pools are the ids of those that were created.
	pools []string
}

// newAgent prepares an agent and does not start it. When the test ends the agent is
// stopped, and its log must hold nothing above INFO that was not expected.
func newAgent(t *testing.T, host *lab.Host, args ...string) *agent {
	t.Helper()
	// A socket's path has 107 bytes at most, and t.TempDir holds the test's name.
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t, &daemon{
		host: host, args: args,
		state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run"), log: filepath.Join(dir, "log"),
		bpffs: filepath.Join("/sys/fs/bpf", filepath.Base(dir)),
		// Whether there is a group of that name is the machine's affair.
		expected: []string{"the API socket belongs to root alone"},
	}}
	t.Cleanup(func() {
		a.end()
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the agent's directories: %v", err)
		}
	})
	return a
}

// startAgent starts an agent and waits until it answers.
func startAgent(t *testing.T, host *lab.Host, args ...string) *agent {
	t.Helper()
	a := newAgent(t, host, args...)
	a.start()
	return a
}

func (a *agent) command(args ...string) *exec.Cmd {
	all := []string{"agent", "--state-dir", a.state, "--run-dir", a.run, "--bpffs", a.bpffs, "--log-format", "json"}
	all = slices.Concat(a.through, []string{binary.Path()}, all, a.args, args)
	return exec.Command(all[0], all[1:]...)
}

// socket is where the API is.
func (a *agent) socket() string { return filepath.Join(a.run, "api.sock") }

// start starts the agent and waits until its API answers.
func (a *agent) start(args ...string) {
	a.t.Helper()
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	cmd := a.command(args...)
	cmd.Stderr = log
	if a.process, err = a.host.Start(cmd); err != nil {
		a.t.Fatal(err)
	}
	until(a.t, patience, func() error {
		select {
		case <-a.process.Exited():
			a.t.Fatalf("the agent has ended: %v\n%s", a.process.Wait(a.t.Context()), a.lastLines(20))
		default:
		}
		_, err := a.request("GET", "/", nil)
		return err
	})
}

// kill9 ends the agent without a chance to do anything.
func (a *agent) kill9() {
	a.t.Helper()
	a.process.Kill()
	a.process = nil
}

// stop ends the agent as a service manager does.
func (a *agent) stop() {
	a.t.Helper()
	if err := a.process.Signal(unix.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	if err := a.process.Wait(bounded(a.t, patience)); err != nil {
		a.t.Fatalf("the agent did not end well: %v", err)
	}
	a.process = nil
}

// restart is what a crash and the service manager do together.
func (a *agent) restart() {
	a.t.Helper()
	a.kill9()
	a.start()
}

// expect says that log lines with this text belong to the test.
func (a *agent) expect(text string) { a.expected = append(a.expected, text) }

// end stops the agent if it runs, and judges its log.
func (a *agent) end() {
	if a.process != nil {
		if err := a.process.Signal(unix.SIGTERM); err != nil {
			a.t.Errorf("the agent has ended by itself: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := a.process.Wait(ctx); err != nil {
			a.t.Errorf("the agent did not end well: %v", err)
		}
	}
	a.judgeLog()
	if a.t.Failed() {
		a.t.Logf("the agent's log:\n%s", a.lastLines(60))
	}
	// What a failed test has left must not meet the next one's agent.
	for _, id := range a.pools {
		if err := lab.Remove("qlbaas-" + id); err != nil {
			a.t.Error(err)
		}
	}
	if err := os.RemoveAll(a.bpffs); err != nil {
		a.t.Errorf("remove pins: %v", err)
	}
}

// judgeLog fails the test for lines above INFO that nobody expected.
func (a *agent) judgeLog() {
	f, err := os.Open(a.log)
	if err != nil {
		return // never started
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	before := ""
	for ; lines.Scan(); before = lines.Text() {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && (entry.Level == "INFO" || entry.Level == "DEBUG") {
			continue
		}
		line := lines.Text()
		if !slices.ContainsFunc(a.expected, func(text string) bool { return strings.Contains(line, text) }) {
			a.t.Errorf("the agent complained: %s\nafter: %s", line, before)
		}
	}
}

func (a *agent) lastLines(n int) string {
	content, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	for i, line := range lines {
		lines[i] = line[:min(len(line), 500)]
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// runsTo starts an agent that has to end by itself, and returns how long that took,
// its exit code and what it said.
func (a *agent) runsTo(bound time.Duration, args ...string) (took time.Duration, code int, said string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), bound)
	defer cancel()
	start := time.Now()
	cmd := a.command(args...)
	said, err := a.host.Run(ctx, cmd.Path, cmd.Args[1:]...)
	took = time.Since(start)
	if ctx.Err() != nil {
		a.t.Fatalf("the agent did not end within %s: %s", bound, said)
	}
	return took, exitCode(a.t, err), said
}

// exitCode is a process's, from the error of its end.
func exitCode(t testing.TB, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return -1
}

// cli runs a command of the product against the agent and returns its exit code,
// what it printed, and what it complained about.
func (a *agent) cli(args ...string) (code int, out, complaint string) {
	a.t.Helper()
	cmd := exec.CommandContext(bounded(a.t, patience), binary.Path(), append([]string{"--api", "unix://" + a.socket()}, args...)...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return exitCode(a.t, cmd.Run()), stdout.String(), stderr.String()
}

// typed runs a command that has to succeed, and decodes the JSON that it prints.
func (a *agent) typed(into any, args ...string) {
	a.t.Helper()
	code, out, complaint := a.cli(append(args, "-o", "json")...)
	if code != 0 {
		a.t.Fatalf("qlbaas %s: exit code %d: %s", strings.Join(args, " "), code, complaint)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		a.t.Fatalf("qlbaas %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
