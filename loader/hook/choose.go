package hook

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Names of the hooks.
const (
	Auto       = "auto"
	NameTCX    = "tcx"
	NameClsact = "clsact"
	NameXDP    = "xdp"
)

// ErrUnsupported says that the kernel lacks something; the text names it.
var ErrUnsupported = errors.New("not supported by this kernel")

// Choose turns what was asked for into what is possible; tcx is how tc programs are
// attached.
func Choose(wanted string) (hook string, tcx bool, err error) {
	tcx, err = haveTCX()
	if err != nil {
		return "", false, fmt.Errorf("probe for tcx: %w", err)
	}
	switch wanted {
	case "", Auto:
		if tcx {
			return NameTCX, tcx, nil
		}
		return NameClsact, tcx, nil
	case NameTCX:
		if !tcx {
			return "", false, fmt.Errorf("%w: hook tcx (needs Linux 6.6; %s works here)", ErrUnsupported, NameClsact)
		}
		return wanted, tcx, nil
	case NameClsact:
		return wanted, false, nil
	case NameXDP:
		return wanted, tcx, nil
	default:
		return "", false, fmt.Errorf("hook %q is none of %s, %s, %s, %s",
			wanted, Auto, NameTCX, NameClsact, NameXDP)
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
