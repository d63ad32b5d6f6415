package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process runs inside a host. The lab kills it, with all that is in its session,
// when it closes.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid once exited is closed
}

// Start starts cmd inside the host's network namespace, in a session of its own;
// its mounts and processes are those of the caller. Do not call cmd.Wait.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig != 0 {
		// It would strike at once: the forking thread ends when Do returns.
		return nil, fmt.Errorf("start %s on %s: Pdeathsig cannot be used", cmd.Path, h.name)
	}
	cmd.SysProcAttr.Setsid = true
	// A grandchild that keeps the output open must not hold Wait up.
	cmd.WaitDelay = time.Second
	if err := h.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", cmd.Path, h.name, err)
	}
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	h.lab.addProcess(p)
	go func() {
		p.err = cmd.Wait()
		h.lab.dropProcess(p)
		close(p.exited)
	}()
	return p, nil
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends the process (not its children) a signal.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// Stopped returns nil once every thread of a process has stopped: SIGSTOP is sent before
// they do, one by one. The error is os.ErrNotExist for a process that is gone.
func Stopped(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("find the threads of process %d: %w", pid, os.ErrNotExist)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		// 123 (name) T …: the name may hold anything, a parenthesis too.
		after := text[bytes.LastIndexByte(text, ')')+1:]
		if err == nil && !bytes.HasPrefix(after, []byte(" T")) {
			return fmt.Errorf("%s: %s", path, text)
		}
	}
	return nil
}

// Exited is closed when the process has ended and been waited for.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait returns what the process ended with: nil for exit code 0, an
// *exec.ExitError for another, ctx's error if that ends first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.cmd.Path, ctx.Err())
	}
}

// Kill ends the process and all of its session at once, and waits for it.
func (p *Process) Kill() {
	// The session leader's id is the group's; what it has put into other groups of
	// its own is found by Host.Close.
	_ = unix.Kill(-p.Pid(), unix.SIGKILL) // fails only when all are gone
	<-p.exited
}

// Run executes a command inside the host and returns its output and errors
// together. The error of a command that fails quotes them.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	// A shell's children die with it.
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	p, err := h.Start(cmd)
	if err != nil {
		return "", err
	}
	<-p.exited // ctx kills it
	if p.err != nil {
		return out.String(), fmt.Errorf("run %s %s on %s: %w: %s", name, strings.Join(args, " "), h.name, p.err,
			strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// processes is the lab's set of what it has started.
type processes struct {
	mu      sync.Mutex
	running map[*Process]struct{}
}

func (l *Lab) addProcess(p *Process) {
	l.processes.mu.Lock()
	defer l.processes.mu.Unlock()
	if l.processes.running == nil {
		l.processes.running = map[*Process]struct{}{}
	}
	l.processes.running[p] = struct{}{}
}

func (l *Lab) dropProcess(p *Process) {
	l.processes.mu.Lock()
	defer l.processes.mu.Unlock()
	delete(l.processes.running, p)
}

// killProcesses ends everything that was started and not waited for.
func (l *Lab) killProcesses() {
	l.processes.mu.Lock()
	var left []*Process
	for p := range l.processes.running {
		left = append(left, p)
	}
	l.processes.mu.Unlock()
	for _, p := range left {
		p.Kill()
	}
}

// killInside kills every process, other than this one, that lives in the network
// namespace, until none is left, and returns what they were.
func killInside(ns int) (killed []string, err error) {
	for range 100 {
		pids, err := processesInside(ns)
		if err != nil || len(pids) == 0 {
			return killed, err
		}
		for _, pid := range pids {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err == nil && len(line) > 0 { // without words it is on its way out by itself
				killed = append(killed, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")))
			}
			if err := killAndWait(pid, ns); err != nil {
				return killed, err
			}
		}
	}
	return killed, errors.New("kill processes: there are always more")
}

// killAndWait kills a process of the network namespace, which need not be a child,
// and waits until it is gone.
func killAndWait(pid, ns int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// Now that the id is pinned down: is it still the process that was found?
	if !livesIn(pid, ns) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ended, int((5 * time.Second).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n == 0:
			return fmt.Errorf("wait for process %d: it does not die", pid)
		default:
			return nil
		}
	}
}

// processesInside finds the processes of a network namespace.
func processesInside(ns int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && livesIn(pid, ns) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// livesIn tells whether the process is in the network namespace. One that has
// ended is nowhere, even while it waits to be reaped.
func livesIn(pid, ns int) bool {
	var want, got unix.Stat_t
	return unix.Fstat(ns, &want) == nil &&
		unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &got) == nil &&
		got.Ino == want.Ino && got.Dev == want.Dev
}
