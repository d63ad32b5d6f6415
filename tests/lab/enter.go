package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Enter runs the calling program's tests in a private world and returns the exit
// code for os.Exit. It is all that a TestMain does:
//
//	func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }
//
// The program starts itself again, twice, with the same arguments: as the first
// process of new mount, network and process namespaces, which prepares them and
// reaps orphans, and as its child, which calls run. When that child or any of the
// two before it ends, for whatever reason, everything inside is gone.
// Needs root; without it the tests fail.
func Enter(run func() int) int {
	code, err := enter(run)
	if err != nil {
		fmt.Fprintf(os.Stderr, "enter laboratory: %v\n", err)
		return 1
	}
	return code
}

// stageVar tells the second incarnation from the first.
const stageVar = "QLBAAS_LAB_STAGE"

// marker exists in the private /run only. It holds the process id, as the machine
// sees it, of the private world's first process.
const marker = "/run/.qlbaas-lab"

// Inside tells whether this process runs in a private world made by Enter.
func Inside() bool {
	_, err := os.Stat(marker)
	return err == nil
}

func enter(run func() int) (int, error) {
	switch {
	case Inside():
		return run(), nil
	case os.Getenv(stageVar) != "":
		return firstProcess()
	case os.Geteuid() != 0:
		return 0, errors.New("it needs root (`make unit` runs the tests that do not)")
	default:
		return outside()
	}
}

// outside starts the private world and waits for it.
func outside() (int, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// The kernel ties Pdeathsig to the thread that forks, so that must be this
	// goroutine's for good.
	runtime.LockOSThread()
	cmd := exec.Command(exe)
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), stageVar+"=first")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start namespaces: %w", err)
	}
	stop := forwardSignals(cmd.Process.Pid)
	defer stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("wait for namespaces: %w", err)
	}
	return exitCode(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// exitCode is what a shell would say.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// forwardSignals passes on what ends a test run, or (SIGQUIT) makes it print its
// stacks first.
func forwardSignals(pid int) (stop func()) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range c {
			_ = unix.Kill(pid, s.(syscall.Signal)) // fails only when the process is gone
		}
	}()
	return func() {
		signal.Stop(c)
		close(c)
		<-done
	}
}

// firstProcess prepares the private world, runs the tests in it as a child, and
// reaps every orphan until that child ends.
func firstProcess() (int, error) {
	if err := prepare(); err != nil {
		return 0, err
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	env := []string{"TMPDIR=" + privateTmp}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, stageVar+"=") && !strings.HasPrefix(v, "TMPDIR=") {
			env = append(env, v)
		}
	}
	// Not os/exec: its Wait and the loop below would take each other's children.
	child, err := syscall.ForkExec(exe, os.Args, &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", exe, err)
	}
	stop := forwardSignals(child)
	defer stop()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for %s: %w", exe, err)
		case pid == child:
			return exitCode(status), nil
		}
	}
}

// privateTmp replaces /tmp for what the tests make. /tmp itself stays in sight,
// because the go command builds there and wants its results there.
const privateTmp = "/run/tmp"

// bpffs is where the kernel's BPF pins are, in the private world as on any machine.
const bpffs = "/sys/fs/bpf"

// prepare makes the mounts and the loopback device of the private world.
func prepare() error {
	// /proc is still the machine's and shows our process id as it sees it.
	outer, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		// Nothing mounted from here on reaches the machine.
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"bpf", bpffs, "bpf", 0, "mode=0700"},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := os.Mkdir(privateTmp, 0o700); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return os.WriteFile(marker, []byte(outer), 0o600)
}
