package maps

import (
	"errors"
	"testing"
)

// TestStartPorts gives a slot its first port and leaves all else at nothing.
func TestStartPorts(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 3)
	if err := p.StartPorts(3, 5000); err != nil {
		t.Fatal(err)
	}
	if got, err := p.MemberState(3); err != nil || got != (MemberState{PortCursor: 5000}) {
		t.Errorf("member state %+v, %v", got, err)
	}
	if err := p.StartPorts(4, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("a slot that is not there: %v", err)
	}
}
