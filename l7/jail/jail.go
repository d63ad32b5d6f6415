package jail

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrPrivileged means that the process has rights that it must not have.
var ErrPrivileged = errors.New("process is privileged")

// Enter locks the whole process in, all threads. It returns ErrPrivileged for root and
// for whoever has a capability.
func Enter() error {
	if err := checkOrdinary(); err != nil {
		return err
	}
	// A core file would hold the keys.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The filter takes this along to the other threads.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	program := filter(os.Getpid())
	length := uint16(len(program))
	fprog := unix.SockFprog{Len: length, Filter: &program[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("set system call filter: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("set system call filter: thread %d has another one", thread)
	}
	return nil
}

func checkOrdinary() error {
	if os.Getuid() == 0 || os.Geteuid() == 0 {
		return fmt.Errorf("%w: it runs as root", ErrPrivileged)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("ask for capabilities: %w", err)
	}
	for _, d := range data {
		if d.Effective|d.Permitted|d.Inheritable != 0 {
			return fmt.Errorf("%w: it has capabilities", ErrPrivileged)
		}
	}
	return nil
}
