package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// States of /proc/net/tcp in which a socket has nothing to send or to receive.
const (
	stateTimeWait = "06"
	stateListen   = "0A"
)

// probePorts are where sockets begin that are none of a sidecar's.
const probePorts = 65024

// socketsOpen tells whether the thread's network namespace has connections of a sidecar,
// its process's or those that the kernel brings to an end.
func socketsOpen() (bool, error) {
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return false, fmt.Errorf("list connections: %w", err)
		}
		open, err := anyOpen(string(text))
		if open || err != nil {
			return open, err
		}
	}
	return false, nil
}

// anyOpen reads a table: a title, then a line for each socket.
func anyOpen(table string) (bool, error) {
	_, rest, _ := strings.Cut(table, "\n")
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			return false, fmt.Errorf("list connections: line %q", line)
		}
		_, port, _ := strings.Cut(fields[1], ":")
		number, err := strconv.ParseUint(port, 16, 16)
		if err != nil {
			return false, fmt.Errorf("list connections: %w", err)
		}
		if number < probePorts && fields[3] != stateTimeWait && fields[3] != stateListen {
			return true, nil
		}
	}
	return false, nil
}
