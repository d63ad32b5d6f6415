package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a lock is tried again.
const lockPoll = 20 * time.Millisecond

// lock takes the lock that bbolt will take, until f is closed.
func lock(f *os.File, exclusive bool, timeout time.Duration) error {
	how := unix.LOCK_NB | unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_NB | unix.LOCK_EX
	}
	for end := time.Now().Add(timeout); ; time.Sleep(lockPoll) {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return lockedError(f.Name())
		}
	}
}

func lockedError(path string) error { return fmt.Errorf("%w: %s", ErrLocked, holder(path)) }

// holder names the process that has a lock on the file, as far as it can be seen.
func holder(path string) string {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return "unknown"
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return "unknown"
	}
	defer locks.Close()
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	pid := lockedBy(locks, file)
	if pid == "" {
		return "unknown"
	}
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
}

// lockedBy finds the process in lines such as
// "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF".
func lockedBy(locks io.Reader, file string) string {
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 6 && fields[1] == "FLOCK" && fields[5] == file {
			return fields[4]
		}
	}
	return ""
}
