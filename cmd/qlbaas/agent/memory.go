package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"qlbaas/cmd/qlbaas/cmdline"
)

// memoryLimit returns how many bytes this process may have: the machine's memory,
// or the lowest limit of its control groups (v2 and v1) if that is less. root is
// where proc and sys are, "/" but in tests.
func memoryLimit(root string) (uint64, error) {
	limit, err := machineMemory(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0, err
	}
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if errors.Is(err, fs.ErrNotExist) {
		return limit, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) != 3:
		case fields[1] == "":
			limit = min(limit, groupLimit(filepath.Join(root, "sys/fs/cgroup"), fields[2], "memory.max"))
		case strings.Contains(","+fields[1]+",", ",memory,"):
			limit = min(limit, groupLimit(filepath.Join(root, "sys/fs/cgroup/memory"), fields[2], "memory.limit_in_bytes"))
		}
	}
	return limit, nil
}

// groupLimit is the lowest limit of a control group and those above it. Groups
// outside of what is mounted here have none that could be read.
func groupLimit(mount, group, file string) uint64 {
	limit := uint64(math.MaxUint64)
	for dir := filepath.Clean("/" + group); ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(mount, dir, file))
		if n, parseErr := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && parseErr == nil {
			limit = min(limit, n) // "max" is no number and no limit
		}
		if dir == "/" {
			return limit
		}
	}
}

func machineMemory(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "MemTotal:" || fields[2] != "kB" {
			continue
		}
		kilobytes, err := strconv.ParseUint(fields[1], 10, 53)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		return kilobytes << 10, nil
	}
	return 0, fmt.Errorf("read %s: no MemTotal", path)
}

// budget reads --memory-budget: bytes, with K, M or G, or a percentage of limit.
func budget(text string, limit uint64) (uint64, error) {
	wrong := cmdline.Usagef("--memory-budget %q: want bytes, as 536870912 or 512M, or a percentage, as 25%%", text)
	if digits, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseUint(digits, 10, 8)
		if err != nil || percent < 1 || percent > 100 {
			return 0, wrong
		}
		return limit / 100 * percent, nil
	}
	digits, shift := text, 0
	for i, unit := range []string{"K", "M", "G"} {
		if d, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = d, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > math.MaxUint64>>shift {
		return 0, wrong
	}
	if n <<= shift; n > limit {
		return 0, cmdline.Usagef("--memory-budget %s: this process may have %d bytes; tables beyond that would get it killed", text, limit)
	}
	return n, nil
}
