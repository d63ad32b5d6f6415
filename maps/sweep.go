package maps

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// Sweep is one call of the expiry program.
type Sweep struct {
	Slot uint16
	// Place of the source address whose ports are looked at.
	Place uint16
	// Word is the first word of 64 ports to look at, Words how many;
	// Word+Words <= NATWords.
	Word, Words uint32
	// Pressure applies the short time limits; Reset marks live flows to be reset (the
	// member's drain has ended); End ends all flows at once (the source address goes).
	Pressure, Reset, End bool
}

// Swept is what a Sweep found.
type Swept struct {
	// Looked ports were taken; Expired flows and handshakes were ended; Healed ports
	// were taken by nobody.
	Looked, Expired, Healed uint32
}

// Run runs the program sweep_ports of the pool once.
func (s Sweep) Run(program *ebpf.Program) (Swept, error) {
	if int(s.Slot) >= MaxSlots || s.Place >= MaxSources || uint64(s.Word)+uint64(s.Words) > NATWords {
		return Swept{}, fmt.Errorf("sweep: %w", invalid("words %d+%d of slot %d, source %d", s.Word, s.Words, s.Slot, s.Place))
	}
	args := bpf.Lb4Sweep{
		Slot: uint32(s.Slot), Snat: uint32(s.Place), Word: s.Word, Words: s.Words, Flags: s.flags(),
	}
	var swept bpf.Lb4Sweep
	if _, err := program.Run(&ebpf.RunOptions{Context: &args, ContextOut: &swept}); err != nil {
		return Swept{}, fmt.Errorf("sweep slot %d: %w", s.Slot, err)
	}
	return Swept{Looked: swept.Looked, Expired: swept.Expired, Healed: swept.Healed}, nil
}

func (s Sweep) flags() (flags uint32) {
	for _, f := range []struct {
		set  bool
		flag bpf.Lb4SweepFlags
	}{
		{s.Pressure, bpf.Lb4SweepFlagsSWEEP_PRESSURE},
		{s.Reset, bpf.Lb4SweepFlagsSWEEP_RESET},
		{s.End, bpf.Lb4SweepFlagsSWEEP_END},
	} {
		if f.set {
			flags |= uint32(f.flag)
		}
	}
	return flags
}

// The kernel makes a timer of what memory it has at hand, without waiting for any: now and
// then there is none, and a moment later there is.
const (
	timerTries = 20
	timerPause = time.Millisecond
)

// StartExpiry starts the pool's timer, or hands it over to the objects that program (the
// pool's sweep_ports) belongs to. It looks after the flows while nobody calls Sweep.Run.
func StartExpiry(program *ebpf.Program) error {
	args := bpf.Lb4Sweep{Flags: uint32(bpf.Lb4SweepFlagsSWEEP_START)}
	for range timerTries {
		rc, err := program.Run(&ebpf.RunOptions{Context: &args})
		if err != nil {
			return fmt.Errorf("start expiry timer: %w", err)
		}
		if rc == 0 {
			return nil
		}
		time.Sleep(timerPause)
	}
	return errors.New("start expiry timer: the kernel refuses")
}
