package maps

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

// TestDisplaced empties places and puts strangers into them, which is noticed, and
// mended with the maps that were there.
func TestDisplaced(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 5)
	wantDisplaced(t, p)
	if err := p.outers[memberStates].Delete(uint32(5)); err != nil {
		t.Fatal(err)
	}
	stranger, err := ebpf.NewMap(p.templates[counters])
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := p.outers[counters].Put(uint32(0), stranger); err != nil {
		t.Fatal(err)
	}
	wantDisplaced(t, p, "counters_0", "member_states_5")
	if err := p.PutBack(); err != nil {
		t.Fatal(err)
	}
	wantDisplaced(t, p)
	want, err := p.inner[place{counters, 0}].Info()
	if err != nil {
		t.Fatal(err)
	}
	wantID, _ := want.ID()
	if got, err := p.idAt(place{counters, 0}); err != nil || got != wantID {
		t.Errorf("map %d is in the place of %d, %v", got, wantID, err)
	}
}

func wantDisplaced(t *testing.T, p *Pool, want ...string) {
	t.Helper()
	got, err := p.Displaced()
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("displaced %q, %v; want %q", got, err, want)
	}
}
