package bpf_test

import (
	"errors"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"qlbaas/bpf"
)

// The verifier's work and the stack are budgets: a change that multiplies either
// shall be seen here, not on somebody's older kernel.
const (
	maxInsns = 100_000
	maxStack = 448
)

var (
	processedInsns = regexp.MustCompile(`processed (\d+) insns`)
	stackDepth     = regexp.MustCompile(`stack depth ([0-9+]+)`)
)

func TestProgramsFitTheVerifier(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"tc_lb4":  bpf.LoadLb4,
		"xdp_lb4": bpf.LoadXdpLb4,
		"tc_lb6":  bpf.LoadLb6,
		"xdp_lb6": bpf.LoadXdpLb6,
		"tap_lb4": bpf.LoadTapLb4,
		"tap_lb6": bpf.LoadTapLb6,
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := load()
			if err != nil {
				t.Fatal(err)
			}
			coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
				Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
			})
			if err != nil {
				var verr *ebpf.VerifierError
				if errors.As(err, &verr) {
					t.Fatalf("%+v", verr)
				}
				t.Fatal(err)
			}
			defer coll.Close()
			for name, prog := range coll.Programs {
				insns, stack := verified(t, prog.VerifierLog)
				t.Logf("%s: %d instructions verified, stack %d", name, insns, stack)
				if insns > maxInsns || stack > maxStack {
					t.Errorf("%s: %d instructions verified (at most %d), stack %d (at most %d)",
						name, insns, maxInsns, stack, maxStack)
				}
			}
		})
	}
}

// verified reads the verifier's statistics: instructions it walked, and the
// deepest stack of a function.
func verified(t *testing.T, log string) (insns, stack int) {
	t.Helper()
	m := processedInsns.FindStringSubmatch(log)
	if m == nil {
		t.Fatalf("no statistics in the verifier's log: %q", log)
	}
	insns, _ = strconv.Atoi(m[1])
	return insns, deepest(log)
}

func deepest(log string) int {
	m := stackDepth.FindStringSubmatch(log)
	if m == nil {
		return 0
	}
	deepest := 0
	for _, s := range regexp.MustCompile(`\d+`).FindAllString(m[1], -1) {
		if n, _ := strconv.Atoi(s); n > deepest {
			deepest = n
		}
	}
	return deepest
}
