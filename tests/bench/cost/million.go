package cost

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
	"qlbaas/tests/bench/table"
)

const (
	millionBytes = 320  // what a connection may take of the memory
	millionCost  = 1.25 // what its packets may cost, in those of few
)

// million measures what packets cost with a million connections.
func (b *bench) million(s *stage) error {
	if b.Quick || s.subject == subjectOutside { // see remind
		return nil
	}
	kinds := []kind{
		{what: "65,536 flows", size: smallFrame, clients: few, pool: b.small, make: fromClient},
		{what: "1,048,576 flows", size: smallFrame, clients: everyone, pool: b.huge, make: fromClient},
	}
	found, err := b.measure(s, kinds)
	if err != nil {
		return err
	}
	what := kinds[1].name()
	b.figure(table.Of(what, s.subject, "ns", found[1].own))
	b.goal(table.AtMost(what, s.subject, s.subject+" with 65,536", found[1].own, found[0].own, millionCost))
	return nil
}

// memory says what a connection takes: both entries and their buckets by the kernel's account of
// the map and the size of its slab objects, and how much all slabs have grown.
func (b *bench) memory(p *pool) error {
	entries := float64(maps.FlowEntries(p.flows))
	locked, err := memlock(p.table)
	if err != nil {
		return err
	}
	object, err := slabObject((locked - p.buckets) / entries)
	if err != nil {
		return err
	}
	flows := float64(p.flows)
	taken := (p.buckets + entries*(object+chargeWord)) / flows
	what := "memory per connection, of 1,048,576"
	b.figure(table.Of(what, "flows", "bytes", []float64{taken}))
	b.figure(table.Of(what, "all slabs' growth", "bytes", []float64{(p.buckets + p.slabs) / flows}))
	b.goal(table.AtMost(what, "flows", "1 byte", []float64{taken}, []float64{1}, millionBytes))
	return nil
}

// A word of every slab object says who is charged for it.
const chargeWord = 8

// slabObject is what is taken for so many bytes.
func slabObject(size float64) (float64, error) {
	least := math.Inf(1)
	err := lines("/proc/slabinfo", func(line string) {
		words := strings.Fields(line) // name, objects in use, all, their size …
		if len(words) < 4 || !strings.HasPrefix(words[0], "kmalloc-") {
			return
		}
		if of, err := strconv.ParseFloat(words[3], 64); err == nil && of >= size {
			least = min(least, of)
		}
	})
	if err == nil && math.IsInf(least, 1) {
		err = fmt.Errorf("no slab has objects of %.0f bytes", size)
	}
	return least, err
}

// memlock is what the kernel says that a map takes, in bytes.
func memlock(m *ebpf.Map) (float64, error) {
	return field(fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()), "memlock")
}

// unreclaimable is what is in slabs and cannot be taken back, in bytes.
func unreclaimable() (float64, error) {
	// The kernel sums its counters up now and then, and when it is asked to.
	if err := os.WriteFile("/proc/sys/vm/stat_refresh", []byte("1"), 0o644); err != nil {
		return 0, fmt.Errorf("ask for memory statistics: %w", err)
	}
	kilobytes, err := field("/proc/meminfo", "SUnreclaim")
	return kilobytes * 1024, err
}

// field is the number in a line "name: 123".
func field(path, name string) (number float64, err error) {
	number = -1
	err = lines(path, func(line string) {
		before, after, _ := strings.Cut(line, ":")
		if words := strings.Fields(after); before == name && len(words) > 0 {
			number, _ = strconv.ParseFloat(words[0], 64)
		}
	})
	if err == nil && number < 0 {
		err = fmt.Errorf("%s says nothing of %s", path, name)
	}
	return number, err
}

// lines calls fn with each line of a file.
func lines(path string, fn func(line string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	all := bufio.NewScanner(f)
	for all.Scan() {
		fn(all.Text())
	}
	return all.Err()
}
