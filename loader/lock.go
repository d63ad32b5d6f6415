package loader

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dirLock keeps a second daemon away from a directory. The kernel ends it with
// the process, however that ends, and leaves no file to clean up.
type dirLock struct {
	dir *os.File
}

// A daemon that was killed while it started a process leaves its lock to that one until the
// program of it runs: so long the next daemon waits.
const (
	lockWait = 500 * time.Millisecond
	lockPoll = 10 * time.Millisecond
)

// lockDir takes the lock or returns ErrLocked, with the holder's process id.
func lockDir(path string) (*dirLock, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open directory to lock: %w", err)
	}
	take := func() error { return unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
	err = take()
	for end := time.Now().Add(lockWait); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); {
		time.Sleep(lockPoll)
		err = take()
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w, %s", ErrLocked, lockHolder(dir))
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &dirLock{dir: dir}, nil
}

// covers tells whether path still is the directory that is locked. It is another
// one after its file system was unmounted.
func (l *dirLock) covers(path string) bool {
	var held, found unix.Stat_t
	if err := unix.Fstat(int(l.dir.Fd()), &held); err != nil {
		return false
	}
	if err := unix.Stat(path, &found); err != nil {
		return false
	}
	return held.Dev == found.Dev && held.Ino == found.Ino
}

func (l *dirLock) Close() error { return l.dir.Close() }

// lockHolder finds who holds the flock on dir, for the error's text.
func lockHolder(dir *os.File) string {
	const unknown = "whose process id is not visible here"
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return unknown
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return unknown
	}
	defer locks.Close()
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		// 1: FLOCK ADVISORY WRITE 1234 00:2f:5678 0 EOF
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != inode {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			return fmt.Sprintf("process %d", pid)
		}
	}
	return unknown
}
