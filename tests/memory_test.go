package tests

import (
	"bufio"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"qlbaas/tests/lab"
)

// TestIdlePools: what one more pool of default sizes costs that nobody uses, with its
// namespace, devices, maps and programs. What the kernel can take back at any time, names
// of files, is not in it. Everyday holds maps and machine code against what they may take,
// of which the kernel keeps account; the whole is known only where nobody else is at work.
func TestIdlePools(t *testing.T) {
	const flows, otherMaps = 540_000, 110_000
	most := map[string]struct{ code, functions, kernel float64 }{
		"tcx": {60_000, 80, 1_750_000}, "xdp": {95_000, 130, 2_000_000},
	}
	for _, hook := range scaled([]string{"tcx"}, []string{"tcx", "xdp"}) {
		t.Run(hook, func(t *testing.T) {
			w := newWorld(t, hook, lab.TutorialOptions{})
			found := w.costOfPools(scaled(3, 9), scaled(1, 5))
			limits := map[string]float64{
				"flows": flows, "other_maps": otherMaps, "code": most[hook].code, "functions": most[hook].functions,
				"kernel": scaled(math.Inf(1), most[hook].kernel),
			}
			found["hook"], found["tries"], found["failures"] = hook, len(limits), 0
			for name, limit := range limits {
				if is := found[name].(float64); is > limit || is == 0 {
					found["failures"] = found["failures"].(int) + 1
					t.Errorf("%s of a pool: %.0f, want %.0f at most", name, is, limit)
				}
			}
			report(t, found)
		})
	}
}

// costOfPools makes idle pools, some at a time, and says what one of them costs, in
// bytes: the median, because other programs of this machine take memory as well.
func (w *world) costOfPools(times, some int) numbers {
	w.t.Helper()
	w.call(http.StatusOK, "PUT", "/v2.0/quotas/default", object{"quota": object{"pool": -1, "vip": -1, "member": -1, "port": -1}})
	address := w.VIP
	idle := func() *balancer {
		address = address.Next()
		return w.balance(balancerOptions{at: netip.AddrPortFrom(address, 80)})
	}
	first := idle() // what comes with the first pool is the node's
	last := w.memory()
	grown := map[string][]float64{}
	for range times {
		for range some {
			idle()
		}
		now := w.memory()
		for name, bytes := range now {
			grown[name] = append(grown[name], (bytes-last[name])/float64(some))
		}
		last = now
	}
	found := numbers{"pools": times * some}
	for name, each := range grown {
		slices.Sort(each)
		found[name] = each[len(each)/2]
	}
	for name, bytes := range first.accounts() {
		found[name] = bytes
	}
	// The machine code of many pools shares pages.
	found["kernel"] = found["slab"].(float64) + found["vmalloc"].(float64) + found["percpu"].(float64) + found["code"].(float64)
	return found
}

// memory is what is taken of the machine's memory now, in bytes: in the kernel's slabs and
// areas, and by the agent.
func (w *world) memory() map[string]float64 {
	w.t.Helper()
	// The kernel sums its counters up now and then, and when it is asked to.
	if err := os.WriteFile("/proc/sys/vm/stat_refresh", []byte("1"), 0); err != nil {
		w.t.Fatal(err)
	}
	m, a := w.meminfo("/proc/meminfo"), w.meminfo(fmt.Sprintf("/proc/%d/status", w.process.Pid()))
	return map[string]float64{
		"slab": m["SUnreclaim"], "vmalloc": m["VmallocUsed"], "percpu": m["Percpu"], "agent": a["RssAnon"],
	}
}

// accounts are what the kernel says that the pool's maps and programs take.
func (b *balancer) accounts() map[string]float64 {
	b.w.t.Helper()
	all := map[string]float64{}
	pinned := func(pattern string, each func(path string) error) {
		paths, err := filepath.Glob(b.pin(pattern, "*"))
		if err != nil || len(paths) == 0 {
			b.w.t.Fatalf("nothing is pinned as %s: %v", pattern, err)
		}
		for _, path := range paths {
			if err := each(path); err != nil {
				b.w.t.Fatalf("look at %s: %v", path, err)
			}
		}
	}
	pinned("maps", func(path string) error {
		m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return err
		}
		bytes, _ := info.Memlock()
		if filepath.Base(path) == "flows" {
			all["flows"] = float64(bytes)
		} else {
			all["other_maps"] += float64(bytes)
		}
		return nil
	})
	pinned("programs/*", func(path string) error {
		p, err := ebpf.LoadPinnedProgram(path, nil)
		if err != nil {
			return err
		}
		defer p.Close()
		info, err := p.Info()
		if err != nil {
			return err
		}
		code, err := info.JitedSize()
		functions, _ := info.JitedFuncLens()
		all["code"] += float64(code)
		all["functions"] += float64(len(functions)) // each takes a page and more besides
		return err
	})
	return all
}

// meminfo reads lines "Name: 1234 kB".
func (w *world) meminfo(path string) map[string]float64 {
	w.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	all := map[string]float64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64); err == nil {
			all[name] = n * 1024
		}
	}
	return all
}
