package maps

import (
	"errors"
	"testing"

	"qlbaas/bpf"
)

// TestStartPorts gives a slot its first port and leaves all else at nothing.
func TestStartPorts(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 3)
	if err := p.StartPorts(3, 0, 5000); err != nil {
		t.Fatal(err)
	}
	if got, err := p.MemberState(3); err != nil || got != (MemberState{PortCursor: 5000}) {
		t.Errorf("member state %+v, %v", got, err)
	}
	if err := p.StartPorts(4, 0, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("a slot that is not there: %v", err)
	}
}

// TestPorts finds the words with ports, however few there are.
func TestPorts(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 3)
	stored := bpf.Lb4MemberState{PortsUsed: 3}
	stored.Ports[5], stored.Ports[6], stored.Ports[NATWords-1] = 1, 1<<63, 1<<9
	if err := p.inner[place{memberStates, 3}].Put(uint32(0), &stored); err != nil {
		t.Fatal(err)
	}
	ports, err := p.Ports(3, 0)
	if err != nil || ports.Used != 3 {
		t.Fatalf("ports %+v, %v", ports, err)
	}
	for from, want := range map[uint32]uint32{0: 5, 5: 5, 6: 6, 7: NATWords - 1, NATWords - 1: NATWords - 1} {
		if got, ok := ports.NextTaken(from); !ok || got != want {
			t.Errorf("from word %d: %d, %v, want %d", from, got, ok, want)
		}
	}
	if got, ok := ports.NextTaken(NATWords); ok {
		t.Errorf("word %d after the last one", got)
	}
	if _, err := p.Ports(4, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("a slot that is not there: %v", err)
	}
}
