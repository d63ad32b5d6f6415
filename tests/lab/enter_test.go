package lab_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// The tests of Enter run this binary once more, as it would run on a machine: in a
// mount namespace whose /run does not say that it is a laboratory. partVar tells it
// what to play inside the world that it then enters.
const partVar = "LAB_TEST_PART"

func play(part string) int {
	fmt.Println("pid", os.Getpid(), "parent", os.Getppid())
	err := mess()
	fmt.Println("mess", err)
	switch part {
	case "exit":
		return 7
	case "signal":
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGTERM)
		fmt.Println("ready")
		<-c
		return 9
	case "orphan":
		return orphan()
	case "hold":
		if err := lab.Hold(os.Stdout); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	default:
		fmt.Println("ready")
		select {}
	}
}

// mess leaves behind whatever a careless test could leave behind.
func mess() error {
	l, err := lab.New(lab.Options{})
	if err != nil {
		return err
	}
	h, err := l.Host("left")
	if err != nil {
		return err
	}
	if err := h.Bridge("br0"); err != nil {
		return err
	}
	_, err = h.Start(command("sleep", "1000"))
	dir, err2 := os.MkdirTemp("", "mess")
	if !strings.HasPrefix(dir, "/run/") {
		err2 = errors.Join(err2, fmt.Errorf("temporary files are in %s", dir))
	}
	return errors.Join(err, err2, os.MkdirAll("/sys/fs/bpf/left/behind", 0o700), exec.Command("ip", "link", "add", "br1", "type", "bridge").Run())
}

// orphan has a grandchild that outlives its parent, and expects it to be reaped.
func orphan() int {
	out, err := exec.Command("sh", "-c", "sleep 0.01 >&- & echo $!").Output()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for i := range 50_000 { // a zombie would stay for good
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			fmt.Println("reaped after", i)
			return 0
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 1e5}, nil) // the end of somebody else's child is no event for us
	}
	return 1
}

// machine starts this binary as on a machine that has no laboratory.
func machine(t *testing.T, part string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), "unshare", "--mount", "sh", "-c",
		`mount -n -t tmpfs none /run && mkdir /run/netns && exec "$0"`, exe)
	cmd.Env = append(os.Environ(), partVar+"="+part)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestEnterReturnsTheExitCode(t *testing.T) {
	before := traces(t)
	out, err := machine(t, "exit").Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("got %v, want exit code 7", err)
	}
	if want := "pid 2 parent 1\nmess <nil>\n"; !strings.HasPrefix(string(out), "pid ") || !strings.HasSuffix(string(out), " parent 1\nmess <nil>\n") {
		t.Errorf("got %q, want it like %q", out, want)
	}
	if after := traces(t); after != before {
		t.Errorf("the machine has changed from\n%s\nto\n%s", before, after)
	}
	if pids := players(t, "exit"); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
}

// traces is what a laboratory could change on its machine.
func traces(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("sh", "-c",
		"ip -o link | cut -d: -f2; ls /run /run/netns /sys/fs/bpf; grep -c . /proc/self/mountinfo").CombinedOutput()
	if err != nil && !strings.Contains(string(out), "/run/netns") {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestEnterKeepsItsMounts enters from a mount namespace that passes everything on.
func TestEnterKeepsItsMounts(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `
		mount -n -t tmpfs none /run && mount -n --make-rshared / || exit 1
		before=$(cat /proc/self/mountinfo)
		"$0"
		test $? = 7 && test "$before" = "$(cat /proc/self/mountinfo)"`, exe)
	cmd.Env = append(os.Environ(), partVar+"=exit")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestEnterReapsOrphans(t *testing.T) {
	out, err := machine(t, "orphan").Output()
	if err != nil || !strings.Contains(string(out), "reaped") {
		t.Errorf("got %v: %s", err, out)
	}
}

func TestEnterForwardsSignals(t *testing.T) {
	cmd := machine(t, "signal")
	await(t, cmd, "ready")
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 9 {
		t.Errorf("got %v, want exit code 9", err)
	}
}

// TestEverythingDiesWithTheTest kills the outermost process without a chance to
// clean up, as a test runner does.
func TestEverythingDiesWithTheTest(t *testing.T) {
	cmd := machine(t, "hang")
	await(t, cmd, "ready")
	var ends []unix.PollFd
	for _, pid := range players(t, "hang") {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		ends = append(ends, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if len(ends) != 4 { // three incarnations and the sleeper
		t.Errorf("%d processes, want 4", len(ends))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if cmd.Wait() == nil {
		t.Error("it was not killed")
	}
	for i := range ends {
		n, err := unix.Poll(ends[i:i+1], int(patience.Milliseconds()))
		if err != nil || n != 1 {
			t.Errorf("a process lives on: %v", err)
		}
	}
}

// TestHold follows the words that a person gets.
func TestHold(t *testing.T) {
	cmd := machine(t, "hold")
	words := await(t, cmd, "Interrupt the test")
	var enter []string
	for _, line := range words {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "nsenter" && fields[1] == "--target" {
			enter = fields
		}
	}
	if enter == nil {
		t.Fatalf("no command in %q", words)
	}
	out, err := exec.Command(enter[0], append(enter[1:], "ls", "/run/netns", "/sys/fs/bpf")...).CombinedOutput()
	if err != nil || strings.Count(string(out), "left\n") != 2 {
		t.Errorf("%q shows %v: %s", enter, err, out)
	}
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// await starts cmd and returns what it says up to a line that begins so.
func await(t *testing.T, cmd *exec.Cmd, last string) (said []string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it is dead unless the test has failed
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.HasPrefix(lines.Text(), last) {
			return said
		}
	}
	t.Fatalf("it said %q and ended", said)
	return nil
}

// players finds the processes that play a part.
func players(t *testing.T, part string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && strings.Contains(string(env), partVar+"="+part) {
			pids = append(pids, pid)
		}
	}
	return pids
}
