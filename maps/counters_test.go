package maps

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

func TestCountersAreSumsOverCPUs(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 9)
	want := Counters{PacketsIn: 101, BytesIn: 202, PacketsOut: 303, BytesOut: 404, Connections: 505}
	count(t, p, 9, want)
	if got, err := p.MemberCounters(9); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := p.MemberCounters(0); err != nil || got != (Counters{}) {
		t.Errorf("another slot has %+v, %v", got, err)
	}
	if got, err := p.Totals(); err != nil || got != want {
		t.Errorf("totals %+v, %v, want %+v", got, err, want)
	}
}

func totals(t *testing.T, p *Pool) Counters {
	t.Helper()
	sum, err := p.Totals()
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestRetiredMembersStillCount(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 1)
	write(t, p, example(1, 0, 1))
	count(t, p, 0, Counters{PacketsIn: 10, BytesIn: 1, PacketsOut: 2, BytesOut: 3, Connections: 4})
	count(t, p, 1, Counters{PacketsIn: 100})
	before := totals(t, p)
	for range 2 { // repeating it changes nothing
		if err := p.Retire(0, 100); err != nil {
			t.Fatal(err)
		}
		if got := totals(t, p); got != before {
			t.Errorf("totals %+v after retiring, before %+v", got, before)
		}
	}
	gone, err := p.Retired()
	if want := (Counters{10, 1, 2, 3, 4}); err != nil || gone.Counters != want || gone.Serial != 100 {
		t.Errorf("retired %+v, %v", gone, err)
	}
	write(t, p, example(2, 1))
	addSlots(t, p, 0) // the next owner of the slot
	count(t, p, 0, Counters{PacketsIn: 1000})
	g := example(3, 0, 1)
	g.Members[0].Serial = 102
	write(t, p, g)
	if got := totals(t, p).PacketsIn; got != 1110 {
		t.Errorf("%d packets, want 1110", got)
	}
	if err := p.Retire(1, 101); err != nil {
		t.Fatal(err)
	}
	if got := totals(t, p).PacketsIn; got != 1110 {
		t.Errorf("%d packets after retiring another, want 1110", got)
	}
	if err := p.Retire(1, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("serial 0: %v", err)
	}
}

// The daemon died after adding the counters, before or while removing the slot.
func TestRetireAfterACrash(t *testing.T) {
	for _, c := range []struct {
		name    string
		removed []string
	}{
		{"before removing", nil},
		{"counters removed", []string{counters}},
		{"state removed", []string{memberStates}},
		{"all removed", []string{counters, memberStates}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t)
			addSlots(t, p, 3, 4)
			write(t, p, example(1, 3, 4))
			count(t, p, 3, Counters{BytesIn: 1000})
			count(t, p, 4, Counters{BytesIn: 1})
			if err := p.retire(3, 103); err != nil {
				t.Fatal(err)
			}
			for _, outer := range c.removed {
				if err := p.outers[outer].Delete(uint32(3)); err != nil {
					t.Fatal(err)
				}
			}
			p, _ = restart(t, p, nil)
			if got := totals(t, p).BytesIn; got != 1001 {
				t.Errorf("%d bytes after the crash, want 1001", got)
			}
			if err := p.Retire(3, 103); err != nil {
				t.Fatal(err)
			}
			if got := totals(t, p).BytesIn; got != 1001 {
				t.Errorf("%d bytes after retiring again, want 1001", got)
			}
			if got := p.Slots(); len(got) != 1 || got[0] != 4 {
				t.Errorf("slots %v, want 4 only", got)
			}
			consistent(t, p)
			write(t, p, example(2, 4))
		})
	}
}

func TestDropsAndVerdicts(t *testing.T) {
	p := newPool(t)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	perCPU := make([]uint64, cpus)
	perCPU[0] = 3
	perCPU[cpus-1] += 4
	if err := p.own.Drops.Put(uint32(bpf.Lb4DropReasonDROP_CONN_LIMIT), perCPU); err != nil {
		t.Fatal(err)
	}
	if err := p.own.Verdicts.Put(uint32(bpf.Lb4VerdictVERDICT_ANSWERED), perCPU); err != nil {
		t.Fatal(err)
	}
	drops, err := p.Drops()
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := p.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		got   map[string]uint64
		names []string
		moved string
	}{{drops, DropReasons(), "conn_limit"}, {verdicts, Verdicts(), "answered"}} {
		if len(c.got) != len(c.names) {
			t.Errorf("%d names, want %d: %v", len(c.got), len(c.names), c.got)
		}
		for _, name := range c.names {
			want := uint64(0)
			if name == c.moved {
				want = 7
			}
			if n, there := c.got[name]; !there || n != want {
				t.Errorf("%s: %d, %v, want %d", name, n, there, want)
			}
		}
	}
}

func TestStates(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 2)
	put := func(m *ebpf.Map, value any) {
		t.Helper()
		if err := m.Put(uint32(0), value); err != nil {
			t.Fatal(err)
		}
	}
	put(p.inner[place{memberStates, 2}], &bpf.Lb4MemberState{Active: 5, PortsUsed: 9, PortCursor: 70})
	put(p.own.PoolState, &bpf.Lb4PoolState{Turn: 1 << 40, LastSlot: 1, Active: 6, Flows: 8})
	conns := bpf.Lb4Conns{}
	conns.Count[2], conns.Count[MaxSlots-1] = 11, 12
	put(p.own.Conns, &conns)

	if got, err := p.MemberState(2); err != nil || got != (MemberState{Active: 5, PortsUsed: 9, PortCursor: 70}) {
		t.Errorf("member state %+v, %v", got, err)
	}
	if got, err := p.PoolState(); err != nil || got != (PoolState{Active: 6, Flows: 8, Turns: 1 << 40}) {
		t.Errorf("pool state %+v, %v", got, err)
	}
	if got, err := p.FlowsUsed(); err != nil || got != 8 {
		t.Errorf("%d flows used, %v", got, err)
	}
	got, err := p.Conns()
	if err != nil || len(got) != MaxSlots || got[2] != 11 || got[MaxSlots-1] != 12 || got[3] != 0 {
		t.Errorf("connections %v, %v", got, err)
	}
}
