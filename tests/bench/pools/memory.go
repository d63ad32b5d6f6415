package pools

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"qlbaas/tests/bench/table"
)

// kernelMemory is what the kernel has taken that it cannot give back at once, in bytes:
// slabs, areas, memory per CPU, and stacks and page tables of processes.
func kernelMemory() (float64, error) {
	// It sums its counters up now and then, and when it is asked to.
	if err := os.WriteFile("/proc/sys/vm/stat_refresh", []byte("1"), 0); err != nil {
		return 0, err
	}
	m, err := kilobytes("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return m["SUnreclaim"] + m["VmallocUsed"] + m["Percpu"] + m["PageTables"], nil
}

// settled is kernelMemory once it has stopped to move, for what was freed returns late; on
// a machine that is never still it is what is there after a while.
func settled(ctx context.Context) (float64, error) {
	const (
		looks  = 150
		enough = 10
		pause  = 100 * time.Millisecond
		little = 256 << 10
	)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	last, still := math.Inf(1), 0
	for range looks {
		now, err := kernelMemory()
		if err != nil {
			return 0, err
		}
		if still++; math.Abs(now-last) > little {
			still = 0
		}
		if last = now; still == enough {
			break
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
	return last, nil
}

// privateMemory is what a process has that no other one shares, in bytes.
func privateMemory(pid int) (float64, error) {
	m, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	own := m["Private_Clean"] + m["Private_Dirty"]
	if own == 0 {
		return 0, fmt.Errorf("process %d has no memory of its own", pid)
	}
	return own, nil
}

// kilobytes reads lines "Name: 1234 kB", as bytes.
func kilobytes(path string) (map[string]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]float64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64); err == nil {
			all[name] = n * 1024
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(fmt.Errorf("nothing is said in %s", path), lines.Err())
	}
	return all, lines.Err()
}

// doubt notes that the kernel's memory has not grown evenly, pool by pool.
func (b *bench) doubt(who string, batches []float64) {
	const agree = 0.25
	low, high, typical := slices.Min(batches), slices.Max(batches), table.Median(batches)
	if low < typical*(1-agree) || high > typical*(1+agree) {
		b.note("DOUBTFUL: %s of %s: from %.2f to %.2f MB per pool; somebody else takes memory meanwhile, or gives it back", kernel, who, low, high)
	}
}
