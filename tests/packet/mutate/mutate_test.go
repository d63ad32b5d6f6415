package mutate_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"qlbaas/tests/packet"
	"qlbaas/tests/packet/mutate"
)

func echo() []byte {
	return packet.Frame(
		packet.Ethernet{Dst: make([]byte, 6), Src: make([]byte, 6)},
		packet.IPv4{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), TTL: 64},
		packet.EchoRequest(1, 2), packet.Repeat(40))
}

// TestFrame: the same seed makes the same frames, the original stays what it is, and
// nearly all differ from it.
func TestFrame(t *testing.T) {
	original := echo()
	one, other := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
	same, good := 0, 0
	const count = 10_000
	for range count {
		a, b := mutate.Frame(one, original), mutate.Frame(other, original)
		if !bytes.Equal(a, b) {
			t.Fatal("two frames of one seed")
		}
		if !bytes.Equal(original, echo()) {
			t.Fatal("the original has changed")
		}
		if len(a) < 14 {
			t.Fatalf("a frame of %d bytes", len(a))
		}
		if bytes.Equal(a, original) {
			same++
		} else if packet.Verify(a) == nil {
			good++
		}
	}
	if same > count/20 {
		t.Errorf("%d of %d are not changed", same, count)
	}
	if good < count/10 {
		t.Errorf("only %d of %d changed messages have a right sum", good, count)
	}
}
