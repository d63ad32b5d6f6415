package loader

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
)

// Names of the hooks, as Options.Hook takes and PoolStatus.Hook returns them.
const (
	HookAuto   = "auto"
	HookTCX    = "tcx"
	HookClsact = "clsact"
	HookXDP    = "xdp"
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

// chooseHook turns what was asked for into what is possible; tcx is how tc_lb is
// attached.
func chooseHook(wanted string) (hook string, tcx bool, err error) {
	tcx, err = haveTCX()
	if err != nil {
		return "", false, fmt.Errorf("probe for tcx: %w", err)
	}
	switch wanted {
	case "", HookAuto:
		if tcx {
			return HookTCX, tcx, nil
		}
		return HookClsact, tcx, nil
	case HookTCX:
		if !tcx {
			return "", false, fmt.Errorf("%w: hook tcx (needs Linux 6.6; %s works here)", ErrUnsupported, HookClsact)
		}
		return wanted, tcx, nil
	case HookClsact:
		return wanted, false, nil
	case HookXDP:
		return wanted, tcx, nil
	default:
		return "", false, fmt.Errorf("hook %q is none of %s, %s, %s, %s",
			wanted, HookAuto, HookTCX, HookClsact, HookXDP)
	}
}

// haveTCX attaches to a device that cannot exist: only a kernel that knows tcx
// gets as far as looking for it.
func haveTCX() (bool, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:      "Dual BSD/GPL",
	})
	if err != nil {
		return false, err
	}
	defer prog.Close()
	attached, err := link.AttachTCX(link.TCXOptions{
		Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress,
	})
	if err == nil {
		return true, attached.Close()
	}
	return !errors.Is(err, ebpf.ErrNotSupported), nil
}
