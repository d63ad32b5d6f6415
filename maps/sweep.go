package maps

import (
	"fmt"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// Sweep is one call of the expiry program.
type Sweep struct {
	Slot uint16
	// Word is the first word of 64 ports to look at, Words how many;
	// Word+Words <= NATWords.
	Word, Words uint32
	// Pressure applies the short time limits; Reset marks live flows to be reset (the
	// member's drain has ended).
	Pressure, Reset bool
}

// Swept is what a Sweep found.
type Swept struct {
	// Looked ports were taken; Expired flows and handshakes were ended; Healed ports
	// were taken by nobody.
	Looked, Expired, Healed uint32
}

// Run runs the program sweep_ports of the pool once.
func (s Sweep) Run(program *ebpf.Program) (Swept, error) {
	if int(s.Slot) >= MaxSlots || uint64(s.Word)+uint64(s.Words) > NATWords {
		return Swept{}, fmt.Errorf("sweep: %w", invalid("words %d+%d of slot %d", s.Word, s.Words, s.Slot))
	}
	args := bpf.Lb4Sweep{Slot: uint32(s.Slot), Word: s.Word, Words: s.Words}
	if s.Pressure {
		args.Flags |= uint32(bpf.Lb4SweepFlagsSWEEP_PRESSURE)
	}
	if s.Reset {
		args.Flags |= uint32(bpf.Lb4SweepFlagsSWEEP_RESET)
	}
	var swept bpf.Lb4Sweep
	if _, err := program.Run(&ebpf.RunOptions{Context: &args, ContextOut: &swept}); err != nil {
		return Swept{}, fmt.Errorf("sweep slot %d: %w", s.Slot, err)
	}
	return Swept{Looked: swept.Looked, Expired: swept.Expired, Healed: swept.Healed}, nil
}
