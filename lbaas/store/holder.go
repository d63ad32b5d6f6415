package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

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
