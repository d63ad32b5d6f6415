package maps

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"qlbaas/bpf"
)

// mirror is a syscall program that answers with what it was asked: looked = place *
// 10000 + slot, expired = word * 1000 + words, healed = flags.
func mirror(t *testing.T) *ebpf.Program {
	t.Helper()
	load := func(to asm.Register, offset int16) asm.Instruction {
		return asm.LoadMem(to, asm.R1, offset, asm.Word)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Syscall, Flags: 1 << 4, // BPF_F_SLEEPABLE
		License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			load(asm.R2, 0), load(asm.R3, 4), load(asm.R4, 8), load(asm.R5, 12), load(asm.R0, 28),
			asm.Mul.Imm(asm.R0, 10000),
			asm.Add.Reg(asm.R2, asm.R0),
			asm.StoreMem(asm.R1, 16, asm.R2, asm.Word),
			asm.Mul.Imm(asm.R3, 1000),
			asm.Add.Reg(asm.R3, asm.R4),
			asm.StoreMem(asm.R1, 20, asm.R3, asm.Word),
			asm.StoreMem(asm.R1, 24, asm.R5, asm.Word),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

func TestSweep(t *testing.T) {
	program := mirror(t)
	for _, c := range []struct {
		sweep Sweep
		flags bpf.Lb4SweepFlags
	}{
		{Sweep{Slot: 7, Word: 5, Words: 8}, 0},
		{Sweep{Word: NATWords - 1, Words: 1, Pressure: true}, bpf.Lb4SweepFlagsSWEEP_PRESSURE},
		{Sweep{Slot: MaxSlots - 1, Words: NATWords, Reset: true}, bpf.Lb4SweepFlagsSWEEP_RESET},
		{Sweep{Pressure: true, Reset: true}, bpf.Lb4SweepFlagsSWEEP_PRESSURE | bpf.Lb4SweepFlagsSWEEP_RESET},
		{Sweep{Slot: 2, Place: 15, End: true}, bpf.Lb4SweepFlagsSWEEP_END},
	} {
		got, err := c.sweep.Run(program)
		want := Swept{Looked: uint32(c.sweep.Place)*10000 + uint32(c.sweep.Slot), Expired: c.sweep.Word*1000 + c.sweep.Words, Healed: uint32(c.flags)}
		if err != nil || got != want {
			t.Errorf("%+v: %+v, %v, want %+v", c.sweep, got, err, want)
		}
	}
	for _, bad := range []Sweep{
		{Slot: MaxSlots}, {Place: MaxSources}, {Word: NATWords, Words: 1}, {Word: 1, Words: NATWords}, {Word: 1<<32 - 1, Words: 2},
	} {
		if _, err := bad.Run(program); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", bad, err)
		}
	}
}
