package maps

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Offsets in the values that the witness reads, as programs see them.
const (
	vipHalf, vipGeneration = 20, 68
	memberSerial           = 12
)

// witness is a program that reads a generation as the data plane does: the vip, then
// slot 0 of the half that it names. It returns 0 if the member's serial is the
// generation's number, 1 if a map is missing, 2 if the halves do not belong together.
func witness(t *testing.T, p *Pool) *ebpf.Program {
	t.Helper()
	lookup := func(miss string) asm.Instructions { // map in R1, key at stack -4; result in R0
		return asm.Instructions{
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, miss),
		}
	}
	key := func(src asm.Register) asm.Instruction { return asm.StoreMem(asm.RFP, -4, src, asm.Word) }
	var code asm.Instructions
	code = append(code, asm.Mov.Imm(asm.R9, 0), key(asm.R9), asm.LoadMapPtr(asm.R1, p.own.Vips.FD()))
	code = append(code, lookup("missing")...)
	code = append(code, asm.Mov.Reg(asm.R1, asm.R0))
	code = append(code, lookup("missing")...)
	code = append(code,
		asm.LoadMem(asm.R6, asm.R0, vipHalf, asm.Word),
		asm.LoadMem(asm.R7, asm.R0, vipGeneration, asm.Word),
		key(asm.R6), asm.LoadMapPtr(asm.R1, p.own.Members.FD()))
	code = append(code, lookup("missing")...)
	code = append(code, key(asm.R9), asm.Mov.Reg(asm.R1, asm.R0))
	code = append(code, lookup("missing")...)
	code = append(code,
		asm.LoadMem(asm.R8, asm.R0, memberSerial, asm.Word),
		asm.Mov.Imm(asm.R0, 0),
		asm.JEq.Reg(asm.R8, asm.R7, "exit"),
		asm.Mov.Imm(asm.R0, 2),
		asm.Ja.Label("exit"),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("missing"),
		asm.Return().WithSymbol("exit"),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, Instructions: code, License: "Dual BSD/GPL",
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

// Programs never see one generation's vip with another's members, however often both
// are written, in place or anew.
func TestGenerationsAreNeverMixed(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 1, 60)
	numbered := func(number uint32) Generation {
		g := example(number, 0, 1)
		if number%16 == 0 {
			g = example(number, 0, 1, 60) // takes more room
		}
		g.Members[0].Serial = number
		return g
	}
	write(t, p, numbered(1))
	program := witness(t, p)
	var runs, mixed, missing atomic.Uint64
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			packet := make([]byte, 64)
			for !done.Load() {
				rc, err := program.Run(&ebpf.RunOptions{Data: packet})
				if err != nil {
					t.Error(err)
					return
				}
				runs.Add(1)
				switch rc {
				case 1:
					missing.Add(1)
				case 2:
					mixed.Add(1)
				}
			}
		})
	}
	for number := uint32(2); number <= 100; number++ {
		write(t, p, numbered(number))
	}
	done.Store(true)
	readers.Wait()
	t.Logf("%d runs during 99 writes", runs.Load())
	if runs.Load() < 1000 || mixed.Load() > 0 || missing.Load() > 0 {
		t.Errorf("%d runs: %d mixed, %d with a map missing", runs.Load(), mixed.Load(), missing.Load())
	}
	// The witness itself can tell: a member that is not of this generation.
	g := numbered(101)
	g.Members[0].Serial = 7
	write(t, p, g)
	if rc, err := program.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil || rc != 2 {
		t.Errorf("witness says %d, %v to a mixed generation", rc, err)
	}
}

// Views are used by many at once: the reconciler writes, a scrape reads.
func TestConcurrentUse(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 1)
	write(t, p, example(1, 0, 1))
	fillFlows(t, p.own.Flows, 1000)
	var done atomic.Bool
	var readers sync.WaitGroup
	read := func(f func() error) {
		readers.Go(func() {
			for !done.Load() {
				if err := f(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	read(func() error { _, err := p.Totals(); return err })
	read(func() error { _, err := p.Generation(); return err })
	read(func() error { _ = p.Inner(); return p.ZeroWeight(1) })
	read(func() error { _, err := p.MemberCounters(0); return err })
	read(func() error {
		for _, err := range p.Flows() {
			if err != nil {
				return err
			}
		}
		for _, err := range p.Affinities() {
			if err != nil {
				return err
			}
		}
		return nil
	})
	for number := uint32(2); number < 12; number++ {
		if _, _, err := p.EnableAffinity(64); err != nil {
			t.Error(err)
		}
		addSlots(t, p, 5)
		g := example(number, 0, 1, 5)
		write(t, p, g)
		if err := p.Retire(5, 105+number); err != nil {
			t.Error(err)
		}
		write(t, p, example(number, 0, 1))
		if err := p.DisableAffinity(); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	readers.Wait()
	consistent(t, p)
}
