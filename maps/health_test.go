package maps

import (
	"errors"
	"slices"
	"testing"
)

func TestHealth(t *testing.T) {
	p := newPool(t)
	for slot, h := range map[uint16]Health{0: {true, 4}, 9: {false, 5}, MaxSlots - 1: {true, 1<<32 - 1}} {
		if err := p.SetHealth(slot, h); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Health(slot); err != nil || got != h {
			t.Errorf("health of slot %d: %v, %v, want %v", slot, got, err, h)
		}
	}
	all, err := p.Healths()
	if err != nil || len(all) != MaxSlots {
		t.Fatalf("%d verdicts, %v", len(all), err)
	}
	for slot, want := range map[int]Health{0: {true, 4}, 1: {}, 9: {false, 5}, MaxSlots - 1: {true, 1<<32 - 1}} {
		if all[slot] != want {
			t.Errorf("health of slot %d among all: %v, want %v", slot, all[slot], want)
		}
	}
	if err := p.SetHealth(MaxSlots, Health{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("slot out of range: %v", err)
	}
	if _, err := p.Health(MaxSlots); !errors.Is(err, ErrInvalid) {
		t.Errorf("slot out of range: %v", err)
	}
	p, _ = restart(t, p, nil)
	if got, err := p.Health(0); err != nil || got != (Health{true, 4}) {
		t.Errorf("health after restart: %v, %v", got, err)
	}
}

func TestWeightIsZeroedInPlace(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 40, 41)
	g := example(1, 0, 40, 41)
	g.VIP.Method, g.Schedule, g.Weights = LeastConnections, nil, make([]uint32, 42)
	g.Weights[0], g.Weights[40], g.Weights[41] = 1, 2, 3
	write(t, p, g)
	write(t, p, g) // both halves hold it
	vip := idOf(t, p.inner[place{vips, 0}])
	for _, slot := range []uint16{40, 40, 39, 500, MaxSlots - 1, 1<<16 - 1} {
		if err := p.ZeroWeight(slot); err != nil {
			t.Errorf("slot %d: %v", slot, err)
		}
	}
	got := generation(t, p)
	if want := []uint32{0: 1, 41: 3}; !slices.Equal(got.Weights, want) {
		t.Errorf("weights %v, want %v", got.Weights, want)
	}
	if idOf(t, p.inner[place{vips, 0}]) != vip {
		t.Error("the generation was swapped")
	}
	without := g
	without.Weights = got.Weights
	if got.Equal(without) {
		t.Error("equal to what programs were not told yet: that only two are usable")
	}
	write(t, p, without)
	if got := generation(t, p); !got.Equal(without) {
		t.Errorf("after the write:\n%s", diff(without, got))
	}
}
