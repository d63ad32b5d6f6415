package bpf_test

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
)

// A word of every slab object says who is charged for it.
const chargeWord = 8

// TestMemoryOfFlows: what a full table takes of the kernel's memory per connection, both
// entries and their buckets, by the kernel's account of the map and the size of its slab
// objects. The scoreboard's is held against how all slabs have grown as well; what others
// take or give back meanwhile is in that, so everyday does not.
func TestMemoryOfFlows(t *testing.T) {
	const most = 320 // bytes, IPv4
	flows := scaled(16384, 131_072)
	found := map[string]any{"tries": 1, "failures": 0, "limit": most, "flows": flows}
	taken, grown := fullTable(t, flows, false)
	found["ipv4"], found["ipv4_grown"] = taken, grown
	found["ipv6"], found["ipv6_grown"] = fullTable(t, flows, true)
	if taken > most || scaled(0, 1)*int(grown) > most {
		found["failures"] = 1
		t.Errorf("a flow takes %.0f bytes, and %.0f of what slabs have grown, want %d at most", taken, grown, most)
	}
	report(t, found)
}

// fullTable fills a table and says what it takes per flow.
func fullTable(t *testing.T, flows int, ipv6 bool) (taken, grown float64) {
	t.Helper()
	w := newWorld(t, tcHook, options{flowLimit: uint32(flows), ipv6: ipv6})
	own := w.pool.Maps()
	buckets, slabs := memlock(t, own.Flows), unreclaimable(t)
	for n := range flows {
		w.opensFast(w.host(nth(n)))
	}
	grown = unreclaimable(t) - slabs + buckets
	state, err := w.pool.PoolState()
	w.must(err)
	if int(state.Flows) != flows {
		t.Fatalf("%d flows are in the table, want %d", state.Flows, flows)
	}
	entries := float64(maps.FlowEntries(uint32(flows)))
	entry := (memlock(t, own.Flows) - buckets) / entries
	if entry < 64 {
		t.Fatalf("the kernel says that an entry takes %.0f bytes", entry)
	}
	taken = buckets + entries*(slabObject(t, entry)+chargeWord)
	return taken / float64(flows), grown / float64(flows)
}

// slabObject is what is taken for so many bytes.
func slabObject(t *testing.T, bytes float64) float64 {
	t.Helper()
	f, err := os.Open("/proc/slabinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	least := math.Inf(1)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text()) // name, objects in use, all, their size …
		if !strings.HasPrefix(words[0], "kmalloc-") {
			continue
		}
		size, err := strconv.ParseFloat(words[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		if size >= bytes {
			least = min(least, size)
		}
	}
	return least
}

// memlock is what the kernel says that a map takes, in bytes.
func memlock(t *testing.T, m *ebpf.Map) float64 {
	t.Helper()
	return field(t, fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()), "memlock")
}

// unreclaimable is what is in slabs and cannot be taken back, in bytes.
func unreclaimable(t *testing.T) float64 {
	t.Helper()
	// The kernel sums its counters up now and then, and when it is asked to.
	if err := os.WriteFile("/proc/sys/vm/stat_refresh", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	return field(t, "/proc/meminfo", "SUnreclaim") * 1024
}

// field is the number in a line "name: 123".
func field(t *testing.T, path, name string) float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), ":")
		if before != name {
			continue
		}
		n, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatalf("no %s in %s", name, path)
	return 0
}
