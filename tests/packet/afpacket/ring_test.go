package afpacket_test

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"qlbaas/tests/lab"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

// TestLinearBytes asks a program at the other end how much of each frame lies in one
// piece, and sees that all of it arrives.
func TestLinearBytes(t *testing.T) {
	w := newWire(t, lab.Offload{})
	seen := watchLinear(t, w.right, "eth0")
	var ring *afpacket.Ring
	err := w.left.Do(func() (err error) {
		ring, err = afpacket.OpenRing("eth0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ring.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, linear := range []uint16{14, 20, 34, 54} {
		sent := w.frame(uint32(i+1), packet.SumGood, 100)
		if err := ring.Send(linear, sent); err != nil {
			t.Fatal(err)
		}
		got := w.await(t, fmt.Sprint(i+1))
		if d := packet.Diff(got.Bytes, sent); d != "" {
			t.Errorf("received:\n%s", d)
		}
		if n := seen(); n != uint64(linear) {
			t.Errorf("%d bytes are linear, want %d", n, linear)
		}
	}
	if err := ring.Send(14, make([]byte, 4096)); err == nil {
		t.Error("more than a place of the ring was sent")
	}
}

// watchLinear attaches a program that notes how many bytes of the last frame it could
// read at once.
func watchLinear(t *testing.T, h *lab.Host, device string) (seen func() uint64) {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	const data, dataEnd = 76, 80 // in struct __sk_buff
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, dataEnd, asm.Word),
		asm.LoadMem(asm.R2, asm.R1, data, asm.Word),
		asm.Sub.Reg(asm.R6, asm.R2),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.StoreMem(asm.R0, 0, asm.R6, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"), // go on
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	dev, err := h.Netlink().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	var attached link.Link
	err = h.Do(func() (err error) {
		attached, err = link.AttachTCX(link.TCXOptions{Interface: dev.Attrs().Index, Program: program, Attach: ebpf.AttachTCXIngress})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attached.Close() })
	return func() (n uint64) {
		if err := m.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}
