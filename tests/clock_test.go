package tests

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// TestForeignClock: the agent's own clocks mean nothing to connections. In a time namespace
// days ahead it ends none of them early, and in one that lags behind it keeps none for
// longer. Steps of the wall clock cannot be made without making them for the whole machine;
// neither programs nor agent ask it when a connection was seen.
func TestForeignClock(t *testing.T) {
	const seconds = 10 // the least that can be set
	w := newWorld(t, "auto", lab.TutorialOptions{})
	short := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), vip: object{"idle_timeout": seconds}})
	long := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), at: short.beside(0)})

	var uptime unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &uptime); err != nil {
		t.Fatal(err)
	}
	w.inTime(1_000_000)
	silent, talking, kept := short.open(), short.open(), long.open()
	start := time.Now()
	lives := func() error {
		w.mustEcho(talking)
		if n := short.stats().number("active_connections"); n != 2 {
			t.Fatalf("%v connections are active after %s, want 2", n, time.Since(start))
		}
		if took := time.Since(start); took < seconds*time.Second/2 {
			return fmt.Errorf("only %s have passed", took)
		}
		return nil
	}
	until(t, patience, lives) // while the agent looks at all of them
	w.inTime(-int(uptime.Sec / 2))
	short.awaitExpiry(start, seconds, 1, talking)
	if err := silent.echo(); err == nil {
		t.Error("the connection that is counted out still works")
	}
	w.mustEcho(talking, kept)
}

// inTime starts the agent anew with clocks that differ from the machine's by so many
// seconds.
func (w *world) inTime(offset int) {
	w.t.Helper()
	w.kill9()
	by := strconv.Itoa(offset)
	w.through = []string{"unshare", "--time", "--monotonic", by, "--boottime", by, "--"}
	w.start()
	offsets, err := os.ReadFile(fmt.Sprintf("/proc/%d/timens_offsets", w.process.Pid()))
	if err != nil {
		w.t.Fatal(err)
	}
	if is := strings.Fields(string(offsets)); len(is) != 6 || is[1] != by || is[4] != by {
		w.t.Fatalf("the agent's clocks differ by %q, want %s", is, by)
	}
}
