package jail_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"qlbaas/l7/jail"
	"qlbaas/tests/lab"
)

// prisonerEnv makes the test binary a process that enters the jail and tries to leave it.
const prisonerEnv = "JAIL_TEST_PRISONER"

func TestMain(m *testing.M) {
	if os.Getenv(prisonerEnv) != "" {
		os.Exit(prisoner())
	}
	os.Exit(lab.Enter(m.Run))
}

// ways out, each of which must be closed.
func ways() map[string]func() error {
	return map[string]func() error{
		"open a file":    func() error { _, err := os.Open("/etc/passwd"); return err },
		"list bpffs":     func() error { _, err := os.ReadDir("/sys/fs/bpf"); return err },
		"make a file":    func() error { return os.WriteFile("/tmp/escaped", nil, 0o600) },
		"execute":        func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"fork":           func() error { return exec.Command("/bin/true").Run() },
		"unix socket":    func() error { _, err := net.Dial("unix", "/run/qlbaas/api.sock"); return err },
		"netlink socket": func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err },
		"packet socket":  func() error { _, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); return err },
		"bpf": func() error {
			var attr [128]byte
			return failed(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attr)), uintptr(len(attr)))
		},
		"another namespace": func() error { return unix.Setns(0, unix.CLONE_NEWNET) },
		"a new namespace":   func() error { return failed(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0) },
		"mount":             func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
		"signal another":    func() error { return unix.Kill(os.Getppid(), unix.SIGTERM) },
		"signal a thread of another": func() error {
			return failed(unix.SYS_TGKILL, uintptr(os.Getppid()), uintptr(os.Getppid()), uintptr(unix.SIGTERM))
		},
		"trace another": func() error { return unix.PtraceAttach(os.Getppid()) },
		"read another's memory": func() error {
			return failed(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid()), 0, 0)
		},
		"become root": func() error { return failed(unix.SYS_SETUID, 0, 0, 0) },
		"memory that is executed": func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			return err
		},
		"io_uring": func() error { return failed(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
	}
}

func failed(call, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// prisoner prints what it could do.
func prisoner() int {
	if err := jail.Enter(); err != nil {
		fmt.Println("enter:", err)
		return 1
	}
	for name, try := range ways() {
		if err := try(); !errors.Is(err, unix.EPERM) {
			fmt.Printf("%s: %v\n", name, err)
		}
	}
	// What it needs it has: sockets, threads, memory.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		var conn net.Conn
		if conn, err = net.Dial("tcp", l.Addr().String()); err == nil {
			_, err = conn.Write(make([]byte, 1<<16))
		}
	}
	if err != nil {
		fmt.Println("use a socket:", err)
	}
	fmt.Println("end")
	return 0
}

func start(t *testing.T, uid uint32) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("/run", "prisoner") // where everybody may execute it
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	cmd := exec.Command(path)
	cmd.Env, cmd.Dir = append(os.Environ(), prisonerEnv+"=1"), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	said, _ := cmd.CombinedOutput() // what it says is the result
	return string(said)
}

func TestNoWayOut(t *testing.T) {
	if said := start(t, 64123); said != "end\n" {
		t.Errorf("the prisoner says:\n%s", said)
	}
}

func TestRootDoesNotEnter(t *testing.T) {
	if said := start(t, 0); !strings.Contains(said, jail.ErrPrivileged.Error()) {
		t.Errorf("root says:\n%s", said)
	}
}
