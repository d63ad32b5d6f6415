package maps

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"qlbaas/bpf"
)

func TestSlotsComeAndGo(t *testing.T) {
	p := newPool(t)
	added, err := p.AddSlots(7, 0, 1983)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := pins(added), "counters_0 counters_1983 counters_7 "+
		"member_states_0 member_states_1983 member_states_7"; got != want {
		t.Errorf("made %q, want %q", got, want)
	}
	if got := p.Slots(); !slices.Equal(got, []uint16{0, 7, 1983}) {
		t.Errorf("slots %v", got)
	}
	consistent(t, p)
	if err := p.SetHealth(7, Health{Up: true, Serial: 3}); err != nil {
		t.Fatal(err)
	}
	count(t, p, 7, Counters{PacketsIn: 5})
	if err := p.RemoveSlots(7, 100); err != nil { // 100 was never there
		t.Fatal(err)
	}
	if got := p.Slots(); !slices.Equal(got, []uint16{0, 1983}) {
		t.Errorf("slots after removal %v", got)
	}
	consistent(t, p)
	if _, err := p.MemberCounters(7); !errors.Is(err, ErrNotFound) {
		t.Errorf("counters of a slot that is gone: %v", err)
	}
	if _, err := p.MemberState(7); !errors.Is(err, ErrNotFound) {
		t.Errorf("state of a slot that is gone: %v", err)
	}
	addSlots(t, p, 7)
	if h, err := p.Health(7); err != nil || h != (Health{}) {
		t.Errorf("health of a slot that is used again: %v, %v", h, err)
	}
	if c, err := p.MemberCounters(7); err != nil || c != (Counters{}) {
		t.Errorf("counters of a slot that is used again: %v, %v", c, err)
	}
}

func TestSlotsAreAddedAllOrNone(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 1)
	count(t, p, 1, Counters{BytesOut: 9})
	for _, c := range []struct {
		slots []uint16
		want  error
	}{
		{[]uint16{3, 1}, ErrExists}, {[]uint16{3, 3}, ErrExists}, {[]uint16{3, MaxSlots}, ErrInvalid},
	} {
		if _, err := p.AddSlots(c.slots...); !errors.Is(err, c.want) {
			t.Errorf("add %v: %v, want %v", c.slots, err, c.want)
		}
	}
	failed := 0
	for allowed := 0; allowed < 10; allowed += 3 {
		var err error
		withDescriptors(t, allowed, func() { _, err = p.AddSlots(3, 4, 5, 6, 8, 9, 10, 11, 12, 13) })
		if err != nil {
			failed++
		}
		consistent(t, p)
	}
	if failed != 4 {
		t.Errorf("%d of 4 additions without descriptors failed", failed)
	}
	freeze(t, p.own.Counters.FD()) // states can be put, counters cannot
	if _, err := p.AddSlots(3, 4); !errors.Is(err, unix.EPERM) {
		t.Errorf("add to a frozen map: %v", err)
	}
	if got := p.Slots(); !slices.Equal(got, []uint16{1}) {
		t.Errorf("slots %v, want 1 only", got)
	}
	if id, err := p.idAt(place{memberStates, 3}); id != 0 || err != nil {
		t.Errorf("half a slot was left behind: map %d, %v", id, err)
	}
	if c, err := p.MemberCounters(1); err != nil || c.BytesOut != 9 {
		t.Errorf("counters of a slot that was there: %v, %v", c, err)
	}
}

func TestAllSlotsAtOnce(t *testing.T) {
	p := newPool(t)
	var slots []uint16
	for slot := range uint16(MaxSlots) {
		slots = append(slots, slot)
	}
	addSlots(t, p, slots...)
	consistent(t, p)
	g := example(1, slots...)
	write(t, p, g)
	if got := generation(t, p); !got.Equal(g) {
		t.Error("generation of all slots comes back different")
	}
	if err := p.RemoveSlots(slots...); err != nil {
		t.Fatal(err)
	}
	consistent(t, p)
}

func TestKernelNamesKeepTheIndex(t *testing.T) {
	for _, c := range []struct {
		at   place
		want string
	}{
		{place{vips, 0}, "vips_0"},
		{place{memberStates, 7}, "member_states_7"},
		{place{memberStates, 2047}, "member_sta_2047"},
		{place{counters, 2047}, "counters_2047"},
	} {
		if got := c.at.kernelName(); got != c.want {
			t.Errorf("%s is %q in the kernel, want %q", c.at.name(), got, c.want)
		}
	}
	p := newPool(t)
	added, err := p.AddSlots(1234)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"counters_1234", "member_sta_1234"} {
		if info, err := added[i].Map.Info(); err != nil || info.Name != want {
			t.Errorf("%s is %q in the kernel, %v", added[i].Name, info.Name, err)
		}
	}
}

func TestPlaceNames(t *testing.T) {
	for _, name := range []string{
		"", "vips", "_0", "vips_", "vips_x", "vips_-1", "vips_00", "vips_+1",
		"flows_0", "vips_99999999999", "vips_0_0",
	} {
		if at, ok := placeOf(name); ok {
			t.Errorf("%q is taken for %v", name, at)
		}
	}
	for _, outer := range outerNames() {
		if at, ok := placeOf(place{outer, 12}.name()); !ok || at != (place{outer, 12}) {
			t.Errorf("%s_12 is read as %v, %v", outer, at, ok)
		}
	}
	got := SlotInner(3)
	if want := []string{"counters_3", "member_states_3", "member_states_1987"}; !slices.Equal(got[:3], want) ||
		len(got) != 1+MaxSources {
		t.Errorf("inner maps of slot 3: %v", got)
	}
}

// pinAll pins a pool's inner maps as the loader does.
func pinAll(t *testing.T, dir string, inner []Inner) {
	t.Helper()
	for _, i := range inner {
		path := filepath.Join(dir, i.Name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		clone, err := i.Map.Clone() // a Map remembers its pin; the next daemon's would not
		if err != nil {
			t.Fatal(err)
		}
		if err := clone.Pin(path); err != nil {
			t.Fatal(err)
		}
		clone.Close()
	}
}

func loadPins(t *testing.T, dir string) map[string]*ebpf.Map {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	pinned := make(map[string]*ebpf.Map)
	for _, f := range files {
		if pinned[f.Name()], err = ebpf.LoadPinnedMap(filepath.Join(dir, f.Name()), nil); err != nil {
			t.Fatal(err)
		}
	}
	return pinned
}

func TestAdoptionByPins(t *testing.T) {
	dir := bpffs(t)
	p := newPool(t)
	addSlots(t, p, 0, 5)
	if _, _, err := p.EnableAffinity(64); err != nil {
		t.Fatal(err)
	}
	g := example(3, 0, 5)
	g.VIP.Affinity = true
	write(t, p, example(2, 0))
	write(t, p, g)
	count(t, p, 5, Counters{BytesIn: 77})
	pinAll(t, dir, p.Inner())
	before := pins(p.Inner())

	p, found := restart(t, p, loadPins(t, dir))
	if len(found.Repin)+len(found.Stale) != 0 {
		t.Errorf("repin %q, stale %q", pins(found.Repin), found.Stale)
	}
	if got := pins(p.Inner()); got != before {
		t.Errorf("inner maps %q, before %q", got, before)
	}
	consistent(t, p)
	if got := generation(t, p); !got.Equal(g) || got.Number != 3 {
		t.Errorf("generation after restart:\n%s", diff(g, got))
	}
	if c, err := p.MemberCounters(5); err != nil || c.BytesIn != 77 {
		t.Errorf("counters after restart: %v, %v", c, err)
	}
	// Half 1 is active; half 0 had room for one slot only.
	if got := pins(write(t, p, example(4, 5))); got != "members_0 vips_0" {
		t.Errorf("first write after restart made %q: the active half was taken for the idle one", got)
	}
	if got := generation(t, p); !got.Equal(example(4, 5)) {
		t.Errorf("first write after restart:\n%s", diff(example(4, 5), got))
	}
}

// The daemon died between changing maps and pinning them.
func TestAdoptionWithoutPins(t *testing.T) {
	dir := bpffs(t)
	p := newPool(t)
	addSlots(t, p, 0, 1)
	write(t, p, example(1, 0))
	pinAll(t, dir, p.Inner())
	if err := p.RemoveSlots(1); err != nil { // its pins stay
		t.Fatal(err)
	}
	addSlots(t, p, 2)             // never pinned
	write(t, p, example(2, 0, 2)) // vips_0 pinned is the former one
	stranger, err := p.inner[place{vips, 0}].Clone()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Pin(filepath.Join(dir, "stranger")); err != nil {
		t.Fatal(err)
	}
	stranger.Close()

	p, found := restart(t, p, loadPins(t, dir))
	slices.Sort(found.Stale)
	if want := []string{"counters_1", "member_states_1", "stranger", "vips_0"}; !slices.Equal(found.Stale, want) {
		t.Errorf("stale %q, want %q", found.Stale, want)
	}
	if got, want := pins(found.Repin), "counters_2 member_states_2 members_1 schedules_1 vips_0 weights_1"; got != want {
		t.Errorf("repin %q, want %q", got, want)
	}
	consistent(t, p)
	if got := generation(t, p); !got.Equal(example(2, 0, 2)) {
		t.Errorf("generation after restart:\n%s", diff(example(2, 0, 2), got))
	}
}

// What `bpftool map dump pinned` shows has the fields' names.
func TestInnerMapsDescribeThemselves(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0)
	if _, _, err := p.EnableAffinity(4); err != nil {
		t.Fatal(err)
	}
	write(t, p, example(1, 0))
	for _, i := range p.Inner() {
		info, err := i.Map.Info()
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := info.BTFID(); !ok || id == 0 {
			t.Errorf("%s has no BTF", i.Name)
		}
	}
}

// count adds to the counters of a slot, spread over all CPUs.
func count(t testing.TB, p *Pool, slot uint16, c Counters) {
	t.Helper()
	m := p.inner[place{counters, uint32(slot)}]
	var perCPU []bpf.Lb4MemberCounters
	if err := m.Lookup(uint32(0), &perCPU); err != nil {
		t.Fatal(err)
	}
	first := &perCPU[0]
	last := &perCPU[len(perCPU)-1]
	first.PacketsIn += c.PacketsIn / 2
	last.PacketsIn += c.PacketsIn - c.PacketsIn/2
	first.BytesIn += c.BytesIn / 3
	last.BytesIn += c.BytesIn - c.BytesIn/3
	last.PacketsOut += c.PacketsOut
	first.BytesOut += c.BytesOut
	last.Connections += c.Connections
	if err := m.Put(uint32(0), perCPU); err != nil {
		t.Fatal(err)
	}
}

// bigger gives a pool's ports an outer map with room for so many source addresses.
func bigger(t testing.TB, p *Pool, sources uint32) {
	t.Helper()
	spec := loadSpec(t).Maps[memberStates].Copy()
	spec.MaxEntries = StateEntries(sources)
	to, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CopyStates(to); err != nil {
		t.Fatal(err)
	}
	if err := p.ReplaceStates(to).Close(); err != nil {
		t.Fatal(err)
	}
	consistent(t, p)
}
