package maps

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// plain has no Equal method that cmp would use instead of looking inside.
type plain Generation

func diff(want, got Generation) string {
	return cmp.Diff(plain(want), plain(got), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}),
		cmpopts.IgnoreUnexported(plain{}), cmpopts.EquateEmpty())
}

func TestNothingIsThereAtFirst(t *testing.T) {
	p := newPool(t)
	if _, err := p.Generation(); !errors.Is(err, ErrNotFound) {
		t.Errorf("generation of a new pool: %v, want ErrNotFound", err)
	}
	if len(p.Slots())+len(p.Inner()) != 0 {
		t.Errorf("new pool has slots %v, inner maps %v", p.Slots(), p.Inner())
	}
	if err := p.ZeroWeight(3); err != nil {
		t.Errorf("weight of a new pool: %v", err)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 1, 2, 700)
	if _, _, err := p.EnableAffinity(100); err != nil {
		t.Fatal(err)
	}
	full := example(7, 0, 2, 700)
	full.VIP.Affinity, full.VIP.Refuse, full.VIP.Method = true, true, SourceIP
	full.VIP.ConnectionLimit = 0
	full.Members[1].Present, full.Schedule = false, []uint16{700, 0, 0, 700, 0}
	full.Members[2].Weight = MaxWeight
	least := example(9, 0, 1, 700)
	least.VIP.Method, least.Schedule = LeastConnections, nil
	least.Weights = make([]uint32, 701)
	least.Weights[0], least.Weights[700] = 3, 256
	nobody := example(10, 0)
	nobody.Schedule, nobody.VIP.AffinityTimeout = nil, 0
	for _, want := range []Generation{example(1), example(2, 0, 1, 2, 700), full, least, nobody, least, full} {
		write(t, p, want)
		got := generation(t, p)
		if d := diff(want, got); d != "" {
			t.Errorf("generation %d (-written +read):\n%s", want.Number, d)
		}
		if !got.Equal(want) {
			t.Errorf("generation %d does not equal itself", want.Number)
		}
		consistent(t, p)
	}
}

// The bytes that programs read, not through this package's own eyes.
func TestBytesInTheKernel(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 1)
	g := example(0x01020304, 1)
	g.VIP.Address = netip.MustParseAddrPort("172.16.100.11:8080")
	g.VIP.Refuse = true
	bigger(t, p, 4)
	if _, err := p.AddPorts(3, 1); err != nil {
		t.Fatal(err)
	}
	g.VIP.SNAT[3] = Source{Address: netip.MustParseAddr("172.16.100.12"), Closing: true}
	write(t, p, g)

	raw, err := p.inner[place{vips, 0}].LookupBytes(uint32(0))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		at   int
		want []byte
	}{
		{"address", 0, []byte{172, 16, 100, 11}},
		{"port in network order", 4, []byte{0x1f, 0x90, 0, 0}},
		{"protocol", 8, []byte{6, 0, 0, 0}},
		{"flags: refuse", 12, []byte{1, 0, 0, 0}},
		{"half", 20, []byte{0, 0, 0, 0}},
		{"schedule_len", 24, []byte{1, 0, 0, 0}},
		{"connection_limit: none", 36, []byte{0xff, 0xff, 0xff, 0xff}},
		{"generation in host order", 68, []byte{4, 3, 2, 1}},
		{"snats", 72, []byte{4, 0, 0, 0}},
		{"snat_open", 76, []byte{1, 0, 0, 0}},
		// A free place has the VIP's own.
		{"snat", 80, []byte{172, 16, 100, 11, 172, 16, 100, 11, 172, 16, 100, 11, 172, 16, 100, 12, 0, 0, 0, 0}},
		{"broadcast: none", 144, []byte{0, 0, 0, 0}},
		{"id", 148, []byte{0x0b, 0x1d, 0x5c, 0x4e, 0x7a, 0x1f}},
	} {
		if got := raw[c.at : c.at+len(c.want)]; !bytes.Equal(got, c.want) {
			t.Errorf("vip %s at %d: % x, want % x", c.what, c.at, got, c.want)
		}
	}

	raw, err = p.inner[place{members, 0}].LookupBytes(uint32(1))
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{
		172, 16, 0, 1, 0, 80, 1, 0, 1, 0, 0, 0, 101, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 2,
	}
	if !bytes.Equal(raw, want) {
		t.Errorf("member: % x\nwant    % x", raw, want)
	}
}

func TestWhatProgramsWouldStumbleOverIsRefused(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 1)
	write(t, p, example(1, 0, 1))
	before := generation(t, p)
	for _, c := range []struct {
		names  string // what the error's text names
		change func(*Generation)
	}{
		{"method", func(g *Generation) { g.VIP.Method = 3 }},
		{"port 0", func(g *Generation) { g.VIP.Address = netip.AddrPortFrom(g.VIP.Address.Addr(), 0) }},
		{"not IPv4", func(g *Generation) {
			g.VIP.Address = netip.MustParseAddrPort("[2001:db8::1]:80")
			g.VIP.SNAT = SourcesOf(g.VIP.Address.Addr())
		}},
		{"source address", func(g *Generation) { g.VIP.SNAT = Sources{} }},
		{"not the VIP's", func(g *Generation) { g.VIP.SNAT[0].Closing = true }},
		{"two places", func(g *Generation) { g.VIP.SNAT[1] = g.VIP.SNAT[0] }},
		{"free and closing", func(g *Generation) { g.VIP.SNAT[1].Closing = true }},
		{"place 1 of 1", func(g *Generation) { g.VIP.SNAT[1].Address = netip.MustParseAddr("10.0.0.1") }},
		{"protocol", func(g *Generation) { g.VIP.Protocol = 0 }},
		{"vip: id", func(g *Generation) { g.VIP.ID = "x" }},
		{"idle", func(g *Generation) { g.VIP.Idle = -time.Second }},
		{"half-open timeout", func(g *Generation) { g.VIP.HalfOpen = time.Millisecond }},
		{"pressure", func(g *Generation) { g.VIP.HalfOpenPressure = time.Millisecond }},
		{"closing", func(g *Generation) { g.VIP.Closing = time.Millisecond }},
		{"rest", func(g *Generation) { g.VIP.Rest = time.Millisecond }},
		{"affinity timeout", func(g *Generation) { g.VIP.AffinityTimeout = time.Millisecond }},
		{"affinity without a table", func(g *Generation) { g.VIP.Affinity = true }},
		{"not added", func(g *Generation) { g.Members = append(g.Members, exampleMember(2)) }},
		{"ascending", func(g *Generation) { g.Members[1].Slot = 0 }},
		{"slot 1984", func(g *Generation) { g.Members[1].Slot = 1984 }},
		{"serial 0", func(g *Generation) { g.Members[0].Serial = 0 }},
		{"weight 257", func(g *Generation) { g.Members[0].Weight = 257 }},
		{"port 0", func(g *Generation) { g.Members[0].Address = netip.MustParseAddrPort("10.0.0.1:0") }},
		{"not IPv4", func(g *Generation) { g.Members[0].Address = netip.MustParseAddrPort("[::1]:80") }},
		{"member: id", func(g *Generation) { g.Members[0].ID = "../../x" }},
		{"slot 5 in the schedule", func(g *Generation) { g.Schedule[0] = 5 }},
		{"slot 0 in the schedule", func(g *Generation) { g.Members[0].Present = false }},
		{"effective weights", func(g *Generation) { g.Weights = []uint32{1} }},
		{"with a schedule", func(g *Generation) { g.VIP.Method = LeastConnections }},
		{"slot 9 has weight", func(g *Generation) {
			g.VIP.Method, g.Schedule, g.Weights = LeastConnections, nil, []uint32{9: 1}
		}},
		{"weight of slot", func(g *Generation) {
			g.VIP.Method, g.Schedule, g.Weights = LeastConnections, nil, []uint32{MaxSlots: 1}
		}},
		{"schedule of", func(g *Generation) { g.Schedule = make([]uint16, MaxSchedule+1) }},
	} {
		g := example(2, 0, 1)
		c.change(&g)
		_, err := p.Write(g)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("error %v does not name %q", err, c.names)
		}
		if got := generation(t, p); !got.Equal(before) || got.Number != 1 {
			t.Fatalf("%s: refused, and yet written", c.names)
		}
	}
}

func TestEqual(t *testing.T) {
	if a, b := example(1, 3, 4), example(2, 3, 4); !a.Equal(b) {
		t.Error("numbers must not matter")
	}
	least := func(weights ...uint32) Generation {
		return Generation{VIP: VIP{Method: LeastConnections}, Weights: weights}
	}
	if !least(1, 2).Equal(least(1, 2, 0, 0)) {
		t.Error("trailing zeros must not matter")
	}
	if least(1, 2).Equal(least(1, 0)) {
		t.Error("weights must matter")
	}
	for name, change := range map[string]func(*Generation){
		"vip":      func(g *Generation) { g.VIP.Idle++ },
		"member":   func(g *Generation) { g.Members[0].Weight++ },
		"members":  func(g *Generation) { g.Members = g.Members[1:] },
		"schedule": func(g *Generation) { g.Schedule[0], g.Schedule[1] = g.Schedule[1], g.Schedule[0] },
	} {
		a, b := example(1, 3, 4), example(1, 3, 4)
		if change(&b); a.Equal(b) {
			t.Errorf("another %s must matter", name)
		}
	}
}

func TestGenerationLookups(t *testing.T) {
	g := example(1, 3, 4, 900)
	if m, found := g.Member(900); !found || m.Serial != 1000 {
		t.Errorf("member in slot 900: %v, %v", m, found)
	}
	if _, found := g.Member(5); found {
		t.Error("found a member in slot 5")
	}
	if s := g.MaxSerial(); s != 1000 {
		t.Errorf("highest serial %d, want 1000", s)
	}
	if s := (Generation{}).MaxSerial(); s != 0 {
		t.Errorf("highest serial of nobody %d", s)
	}
}

func pins(inner []Inner) string {
	var names []string
	for _, i := range inner {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

// Only what is new is to be pinned: the halves' maps are written in place once they
// are there, and made anew when they are too small or much too large.
func TestRoomIsKept(t *testing.T) {
	p := newPool(t)
	slots := make([]uint16, 400)
	for i := range slots {
		slots[i] = uint16(i)
	}
	addSlots(t, p, slots...)
	for i, c := range []struct {
		g    Generation
		want string
	}{
		{example(1, 0, 1), "members_0 schedules_0 vips_0 weights_0"},
		{example(2, 0, 1), "members_1 schedules_1 vips_0 weights_1"},
		{example(3, 1), "vips_0"},
		{example(4), "vips_0"},
		{example(5, 0, 1, 2), "members_0 vips_0"},
		{example(6, slots...), "members_1 schedules_1 vips_0"},
		{example(7, 0), "vips_0"},
		{example(8), "vips_0"},                           // nobody fits anywhere,
		{example(9, 0), "vips_0"},                        //
		{example(10, 0), "members_1 schedules_1 vips_0"}, // one in the room of 400 does not
	} {
		if got := pins(write(t, p, c.g)); got != c.want {
			t.Errorf("write %d made %q, want %q", i+1, got, c.want)
		}
		if got := generation(t, p); !got.Equal(c.g) {
			t.Errorf("write %d:\n%s", i+1, diff(c.g, got))
		}
		consistent(t, p)
	}
}

// A write that fails at any map leaves what was, whatever the map.
func TestFailedWriteLeavesWhatWas(t *testing.T) {
	slots := []uint16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	for _, c := range []struct {
		name   string
		freeze func(*Pool) int
	}{
		{"outer members", func(p *Pool) int { return p.own.Members.FD() }},
		{"outer schedules", func(p *Pool) int { return p.own.Schedules.FD() }},
		{"outer vips", func(p *Pool) int { return p.own.Vips.FD() }},
		{"idle weights", func(p *Pool) int { return p.inner[place{weights, 1 - p.half}].FD() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t)
			addSlots(t, p, slots...)
			write(t, p, example(1, 0, 1))
			write(t, p, example(2, 1, 2))
			freeze(t, c.freeze(p)) // from now on every write to this map is refused
			before := generation(t, p)
			least := example(3, slots...)
			least.VIP.Method, least.Schedule = LeastConnections, nil
			least.Weights = []uint32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
			round := example(3, slots...)
			for range 70 {
				round.Schedule = append(round.Schedule, 9)
			}
			failed := 0
			for _, g := range []Generation{least, round} {
				if _, err := p.Write(g); errors.Is(err, unix.EPERM) {
					failed++
					if got := generation(t, p); !got.Equal(before) || got.Number != before.Number {
						t.Errorf("failed write shows:\n%s", diff(before, got))
					}
				} else {
					before = generation(t, p)
				}
				consistent(t, p)
			}
			if failed == 0 {
				t.Error("no write failed: the test tests nothing")
			}
		})
	}
}

// Running out of file descriptors at every single step of a write.
func TestWriteWithoutDescriptors(t *testing.T) {
	p := newPool(t)
	addSlots(t, p, 0, 1, 2, 3)
	before := example(1, 0, 1)
	write(t, p, before)
	want, failed := example(2, 0, 1, 2, 3), 0
	for allowed := 0; ; allowed++ {
		var fresh []Inner
		var err error
		withDescriptors(t, allowed, func() { fresh, err = p.Write(want) })
		consistent(t, p)
		if err == nil {
			if got := pins(fresh); got != "members_1 schedules_1 vips_0 weights_1" {
				t.Errorf("write made %q", got)
			}
			break
		}
		failed++
		if allowed > 100 {
			t.Fatalf("with %d descriptors: %v", allowed, err)
		}
		if got := generation(t, p); !got.Equal(before) {
			t.Fatalf("failed write shows:\n%s", diff(before, got))
		}
	}
	if failed < 4 {
		t.Errorf("only %d writes failed", failed)
	}
	if got := generation(t, p); !got.Equal(want) {
		t.Errorf("after all:\n%s", diff(want, got))
	}
}
