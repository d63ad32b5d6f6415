package bpf_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
)

// TestMemoryOfFlows: what a full table takes of the kernel's memory per connection, both
// entries and their buckets: as the kernel accounts for the map, and as its slabs grow. What
// others take meanwhile is in the latter, so the least of some rounds counts.
func TestMemoryOfFlows(t *testing.T) {
	const most = 320 // bytes, IPv4
	found := map[string]any{"tries": 1, "failures": 0, "limit": most}
	for _, ipv6 := range []bool{false, true} {
		family, rounds := "ipv4", scaled(3, 5)
		if ipv6 {
			family, rounds = "ipv6", 1
		}
		accounted, grown := 0.0, 0.0
		for round := range rounds {
			a, g := fullTable(t, scaled(16384, 131_072), ipv6)
			if accounted = a; round == 0 || g < grown {
				grown = g
			}
		}
		found[family+"_accounted"], found[family+"_grown"] = accounted, grown
		if ipv6 {
			continue
		}
		if accounted > most || grown > most {
			found["failures"] = 1
			t.Errorf("a flow takes %.0f bytes by the map's account, %.0f by the slabs, want %d at most", accounted, grown, most)
		}
		if accounted < 200 || grown < 200 {
			t.Errorf("a flow takes %.0f bytes by the map's account, %.0f by the slabs: nothing that can be", accounted, grown)
		}
	}
	report(t, found)
}

// fullTable fills a table and says what it takes per flow.
func fullTable(t *testing.T, flows int, ipv6 bool) (accounted, grown float64) {
	t.Helper()
	w := newWorld(t, tcHook, options{flowLimit: uint32(flows), ipv6: ipv6})
	own := w.pool.Maps()
	buckets := memlock(t, own.Flows) // there is nothing else yet
	before := unreclaimable(t)
	for n := range flows {
		w.opensFast(w.host(nth(n)))
	}
	after := unreclaimable(t)
	state, err := w.pool.PoolState()
	w.must(err)
	if int(state.Flows) != flows {
		t.Fatalf("%d flows are in the table, want %d", state.Flows, flows)
	}
	if own.Flows.MaxEntries() != maps.FlowEntries(uint32(flows)) {
		t.Fatalf("the table has room for %d entries", own.Flows.MaxEntries())
	}
	return memlock(t, own.Flows) / float64(flows), (after - before + buckets) / float64(flows)
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
