package maps

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"qlbaas/bpf"
)

func sourceAddress(n int) netip.Addr { return netip.AddrFrom4([4]byte{172, 16, 100, 20 + byte(n)}) }

func addPorts(t testing.TB, p *Pool, source uint16, slots ...uint16) []Inner {
	t.Helper()
	made, err := p.AddPorts(source, slots...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Ports of further source addresses come and go, whatever the slots do.
func TestPortsOfSources(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 7)
	if p.Sources() != 1 {
		t.Errorf("room for %d source addresses", p.Sources())
	}
	if _, err := p.AddPorts(1, 0); !errors.Is(err, ErrFull) {
		t.Errorf("ports beyond the room: %v", err)
	}
	bigger(t, p, 4)
	if got := pins(addPorts(t, p, 2, 7, 0, 7)); got != "member_states_3968 member_states_3975" {
		t.Errorf("made %q", got)
	}
	if got := addPorts(t, p, 2, 0, 7); len(got) > 0 || !p.HasPorts(2, 0, 7) || p.HasPorts(1, 0) {
		t.Errorf("made %q again", pins(got))
	}
	consistent(t, p)
	addSlots(t, p, 9)
	if p.HasPorts(2, 0, 7, 9) {
		t.Error("a new slot has ports of all source addresses")
	}
	addPorts(t, p, 2, 9)
	if got := p.SourcesWithPorts(); !slices.Equal(got, []uint16{0, 2}) {
		t.Errorf("ports of %v", got)
	}
	if err := p.RemoveSlots(7); err != nil {
		t.Fatal(err)
	}
	if got := p.Slots(); !slices.Equal(got, []uint16{0, 9}) {
		t.Errorf("slots %v", got)
	}
	consistent(t, p)
	if _, err := p.AddSlots(0); !errors.Is(err, ErrExists) {
		t.Errorf("a slot is added twice: %v", err)
	}
	if _, err := p.RemovePorts(0); !errors.Is(err, ErrInvalid) {
		t.Errorf("the VIP's own ports are removed: %v", err)
	}
	names, err := p.RemovePorts(2)
	slices.Sort(names)
	if want := []string{PortsInner(0, 2), PortsInner(9, 2)}; err != nil || !slices.Equal(names, want) {
		t.Errorf("removed %q, %v, want %q", names, err, want)
	}
	consistent(t, p)
	if got := p.SourcesWithPorts(); !slices.Equal(got, []uint16{0}) {
		t.Errorf("ports of %v", got)
	}
}

// A generation knows its source addresses by their places, over a restart too, and wants
// ports of all of them.
func TestGenerationOfSources(t *testing.T) {
	p := newPool(t)
	bigger(t, p, 16)
	addSlots(t, p, 0, 1)
	g := example(1, 0, 1)
	g.VIP.SNAT[1] = Source{Address: sourceAddress(1), Closing: true}
	g.VIP.SNAT[15].Address = sourceAddress(15)
	addPorts(t, p, 1, 0, 1)
	addPorts(t, p, 15, 0)
	if _, err := p.Write(g); !errors.Is(err, ErrInvalid) {
		t.Errorf("without ports in slot 1: %v", err)
	}
	addPorts(t, p, 15, 1)
	write(t, p, g)
	if d := diff(g, generation(t, p)); d != "" {
		t.Errorf("generation (-written +read):\n%s", d)
	}
	if used := g.VIP.SNAT.Used(); !slices.Equal(used, []uint16{0, 1, 15}) || g.VIP.SNAT.Places() != 16 {
		t.Errorf("places %v, %d", used, g.VIP.SNAT.Places())
	}
	before := pins(p.Inner())
	p, found := restart(t, p, nil)
	if got := pins(found.Repin); got != before {
		t.Errorf("after a restart %q, before %q", got, before)
	}
	consistent(t, p)
	if d := diff(g, generation(t, p)); d != "" {
		t.Errorf("generation after a restart:\n%s", d)
	}
	other := g
	other.VIP.SNAT[1].Closing = false
	if g.Equal(other) {
		t.Error("a closing address makes no difference")
	}
}

// What a member holds is the sum over its source addresses.
func TestStateOfSources(t *testing.T) {
	p := newPool(t)
	bigger(t, p, 2)
	addSlots(t, p, 3)
	addPorts(t, p, 1, 3)
	for source, stored := range []bpf.Lb4MemberState{
		{Active: 4, PortsUsed: 5, PortCursor: 70}, {PortsUsed: 6, PortCursor: 80},
	} {
		stored.Ports[source] = 1
		if err := p.inner[portsAt(3, uint16(source))].Put(uint32(0), &stored); err != nil {
			t.Fatal(err)
		}
	}
	want := MemberState{Active: 4, PortsUsed: 11, PortCursor: 70}
	if got, err := p.MemberState(3); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	ports, err := p.Ports(3, 1)
	if err != nil || ports.Used != 6 || ports.Cursor != 80 {
		t.Fatalf("%+v, %v", ports, err)
	}
	if word, ok := ports.NextTaken(0); !ok || word != 1 {
		t.Errorf("word %d, %v", word, ok)
	}
	if _, err := p.Ports(3, 2); !errors.Is(err, ErrNotFound) {
		t.Errorf("ports beyond the room: %v", err)
	}
	if err := p.StartPorts(3, 1, 9); err != nil {
		t.Fatal(err)
	}
	if ports, err := p.Ports(3, 1); err != nil || ports.Cursor != 9 || ports.Used != 0 {
		t.Errorf("%+v, %v", ports, err)
	}
}

// Members do not all begin at the same port.
func TestFirstPortsDiffer(t *testing.T) {
	p := newPool(t)
	first := map[uint32]bool{}
	for slot := range uint16(8) {
		addSlots(t, p, slot)
		ports, err := p.Ports(slot, 0)
		if err != nil || ports.Used != 0 || ports.Cursor >= NATPorts {
			t.Fatalf("%+v, %v", ports, err)
		}
		first[ports.Cursor] = true
	}
	if len(first) < 6 { // of eight, two meet once in two thousand times
		t.Errorf("first ports %v", first)
	}
}

// What further source addresses cost, compared with the kernel's own figures.
func TestCostOfSources(t *testing.T) {
	p := newPool(t)
	bigger(t, p, 4)
	addSlots(t, p, 0, 1, 2)
	for source := uint16(1); source < 4; source++ {
		addPorts(t, p, source, 0, 1, 2)
	}
	is := taken(t, p.own.MemberStates)
	for at, m := range p.inner {
		if at.outer == memberStates {
			is += taken(t, m)
		}
	}
	costs, err := PoolCost(loadSpec(t), Limits{Flows: 64, Slots: 3, Sources: 4})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(costs, func(c TableCost) bool { return c.Name == memberStates })
	compare(t, costs[at:at+1], map[string]uint64{memberStates: is})
}

func TestStartExpiry(t *testing.T) {
	for _, code := range []int32{0, 1} {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.Syscall, Flags: 1 << 4, License: "Dual BSD/GPL", // BPF_F_SLEEPABLE
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, code), asm.Return()},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := StartExpiry(program); (err != nil) != (code != 0) {
			t.Errorf("the program says %d: %v", code, err)
		}
		program.Close()
	}
}

func TestEvents(t *testing.T) {
	p := newPool(t)
	counts := make([]uint64, ebpf.MustPossibleCPU())
	counts[0], counts[len(counts)-1] = counts[0]+5, counts[len(counts)-1]+7
	if err := p.own.Events.Put(uint32(bpf.Lb4EventEVENT_NAT_PRESSURE), counts); err != nil {
		t.Fatal(err)
	}
	got, err := p.Events()
	if err != nil || len(got) != len(Events()) || got["nat_pressure"] != 12 || got["arp_conflict"] != 0 {
		t.Errorf("%v, %v", got, err)
	}
}
