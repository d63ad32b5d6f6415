package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/google/nftables"

	"qlbaas/loader/hook"
)

// Names of the hooks, as Options.Hook takes and PoolStatus.Hook returns them.
const (
	HookAuto   = hook.Auto
	HookTCX    = hook.NameTCX
	HookClsact = hook.NameClsact
	HookXDP    = hook.NameXDP
)

// minimumKernel is the oldest kernel that has all of needed.
const minimumKernel = "Linux 6.1"

// needed lists what the programs and this package cannot do without, and whether
// the kernel has it.
func needed() []feature {
	helper := func(typ ebpf.ProgramType, fn asm.BuiltinFunc) func() error {
		return func() error { return features.HaveProgramHelper(typ, fn) }
	}
	return []feature{
		{"tc programs", func() error { return features.HaveProgramType(ebpf.SchedCLS) }},
		{"syscall programs", func() error { return features.HaveProgramType(ebpf.Syscall) }},
		{"maps of maps", func() error { return features.HaveMapType(ebpf.ArrayOfMaps) }},
		{"inner maps of any size", func() error { return features.HaveMapFlag(features.BPF_F_INNER_MAP) }},
		{"LRU maps", func() error { return features.HaveMapType(ebpf.LRUHash) }},
		{"bpf_loop", helper(ebpf.SchedCLS, asm.FnLoop)},
		{"bpf_fib_lookup", helper(ebpf.SchedCLS, asm.FnFibLookup)},
		{"nftables", haveNftables},
	}
}

type feature struct {
	name  string
	probe func() error
}

// probeKernel returns ErrUnsupported, with the feature's name, if the kernel is too
// old or was built without something.
func probeKernel(features []feature) error {
	for _, f := range features {
		err := f.probe()
		if errors.Is(err, ebpf.ErrNotSupported) {
			return fmt.Errorf("%w: %s (needs %s)", ErrUnsupported, f.name, minimumKernel)
		}
		if err != nil {
			return fmt.Errorf("probe for %s: %w", f.name, err)
		}
	}
	return nil
}

// haveNftables asks for something that every nftables can answer.
func haveNftables() error {
	nft, err := nftables.New()
	if err != nil {
		return err
	}
	if _, err := nft.ListTablesOfFamily(nftables.TableFamilyINet); err != nil {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return nil
}
