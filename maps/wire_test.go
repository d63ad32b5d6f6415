package maps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"qlbaas/bpf"
)

// sameLayout compares two structs field by field: names, offsets and what the fields
// are made of. Blank fields are not compared.
func sameLayout(t *testing.T, path string, a, b reflect.Type) {
	t.Helper()
	if a.Kind() != b.Kind() || a.Size() != b.Size() {
		t.Errorf("%s: %s of %d bytes, generated: %s of %d bytes", path, a, a.Size(), b, b.Size())
		return
	}
	switch a.Kind() {
	case reflect.Array:
		sameLayout(t, path+"[]", a.Elem(), b.Elem())
	case reflect.Struct:
		if a.NumField() != b.NumField() {
			t.Errorf("%s: %d fields, generated: %d", path, a.NumField(), b.NumField())
			return
		}
		for i := range a.NumField() {
			f, g := a.Field(i), b.Field(i)
			if f.Name != g.Name || f.Offset != g.Offset {
				t.Errorf("%s: field %s at %d, generated: %s at %d", path, f.Name, f.Offset, g.Name, g.Offset)
			}
			if f.Name != "_" {
				sameLayout(t, path+"."+f.Name, f.Type, g.Type)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	for _, pair := range [][2]any{
		{flowKey[bpf.Lb4Addr]{}, bpf.Lb4FlowKey{}},
		{flow[bpf.Lb4Addr]{}, bpf.Lb4Flow{}},
		{flowEntry[bpf.Lb4Addr]{}, bpf.Lb4FlowEntry{}},
		{halfOpenKey[bpf.Lb4Addr]{}, bpf.Lb4HalfOpenKey{}},
		{halfOpen[bpf.Lb4Addr]{}, bpf.Lb4HalfOpen{}},
		{vip[bpf.Lb4Addr]{}, bpf.Lb4Vip{}},
		{member[bpf.Lb4Addr]{}, bpf.Lb4Member{}},
		{flowKey[bpf.Lb6Addr]{}, bpf.Lb6FlowKey{}},
		{flow[bpf.Lb6Addr]{}, bpf.Lb6Flow{}},
		{flowEntry[bpf.Lb6Addr]{}, bpf.Lb6FlowEntry{}},
		{halfOpenKey[bpf.Lb6Addr]{}, bpf.Lb6HalfOpenKey{}},
		{halfOpen[bpf.Lb6Addr]{}, bpf.Lb6HalfOpen{}},
		{vip[bpf.Lb6Addr]{}, bpf.Lb6Vip{}},
		{member[bpf.Lb6Addr]{}, bpf.Lb6Member{}},
	} {
		a, b := reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1])
		sameLayout(t, b.Name(), a, b)
	}
}

// Keys and values of the maps have the sizes of the structs that this package reads
// and writes in them.
func TestSizesAreTheObjects(t *testing.T) {
	spec := loadSpec(t)
	for name, want := range map[string][2]any{
		"flows":          {flowKey[bpf.Lb4Addr]{}, flowEntry[bpf.Lb4Addr]{}},
		"half_open":      {halfOpenKey[bpf.Lb4Addr]{}, halfOpen[bpf.Lb4Addr]{}},
		"half_open_node": {uint32(0), bpf.Lb4HalfOpenNode{}},
		"half_open_use":  {uint32(0), bpf.Lb4HalfOpenUse{}},
		"conns":          {uint32(0), bpf.Lb4Conns{}},
		"health":         {uint32(0), bpf.Lb4Health{}},
		"retired":        {uint32(0), bpf.Lb4Retired{}},
		"pool_state":     {uint32(0), bpf.Lb4PoolState{}},
		"verdicts":       {uint32(0), uint64(0)},
		"drops":          {uint32(0), uint64(0)},
		"events":         {uint32(0), uint64(0)},
		"expiry":         {uint32(0), bpf.Lb4Expiry{}},
		vips:             {uint32(0), vip[bpf.Lb4Addr]{}},
		members:          {uint32(0), member[bpf.Lb4Addr]{}},
		schedules:        {uint32(0), bpf.Lb4ScheduleBlock{}},
		weights:          {uint32(0), bpf.Lb4WeightBlock{}},
		affinities:       {bpf.Lb4Addr{}, bpf.Lb4Affinity{}},
		memberStates:     {uint32(0), bpf.Lb4MemberState{}},
		counters:         {uint32(0), bpf.Lb4MemberCounters{}},
	} {
		m := spec.Maps[name]
		if m.InnerMap != nil {
			m = m.InnerMap
		}
		key, value := uint32(binary.Size(want[0])), uint32(binary.Size(want[1]))
		if m.KeySize != key || m.ValueSize != value {
			t.Errorf("%s: %d+%d bytes, want %d+%d", name, m.KeySize, m.ValueSize, key, value)
		}
	}
}

func TestPortsAndAddressesAreInNetworkOrder(t *testing.T) {
	addr, err := toAddr[bpf.Lb4Addr](netip.MustParseAddr("172.16.100.9"))
	if err != nil {
		t.Fatal(err)
	}
	key := flowKey[bpf.Lb4Addr]{Saddr: addr, Dport: toPort(0x1f90)}
	raw, err := binary.Append(nil, binary.NativeEndian, &key)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{172, 16, 100, 9, 0, 0, 0, 0, 0, 0, 0x1f, 0x90, 0, 0, 0, 0}
	if !bytes.Equal(raw, want) {
		t.Errorf("% x, want % x", raw, want)
	}
}

func TestOtherFamiliesAreRefused(t *testing.T) {
	for _, a := range []netip.Addr{
		{}, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:10.0.0.1"),
	} {
		if _, err := toAddr[bpf.Lb4Addr](a); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", a, err)
		}
	}
}

func TestUUIDs(t *testing.T) {
	const id = "01234567-89ab-cdef-0123-456789abcdef"
	for _, form := range []string{id, "01234567-89AB-CDEF-0123-456789ABCDEF"} {
		raw, err := toID(form)
		if err != nil || raw[0] != 0x01 || raw[15] != 0xef {
			t.Errorf("%s: % x, %v", form, raw, err)
		}
		if fromID(raw) != id {
			t.Errorf("%s comes back as %s", form, fromID(raw))
		}
	}
	for _, bad := range []string{
		"", id[1:], id + "0", "0123456789abcdef0123456789abcdef", id[:35] + "g",
		"01234567-89ab-cdef-0123-456789abcde\x00", "{1234567-89ab-cdef-0123-456789abcde}",
		"01234567-89ab-cdef-01234-56789abcdef",
	} {
		if _, err := toID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", bad, err)
		}
	}
}

func TestSeconds(t *testing.T) {
	for _, d := range []time.Duration{0, time.Second, 2 * time.Hour, math.MaxUint32 * time.Second} {
		sec, err := toSec(d)
		if err != nil || fromSec(sec) != d {
			t.Errorf("%s comes back as %s, %v", d, fromSec(sec), err)
		}
	}
	for _, d := range []time.Duration{-time.Second, time.Millisecond, 1 << 32 * time.Second, math.MaxInt64} {
		if _, err := toSec(d); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", d, err)
		}
	}
}

func TestTicksWrap(t *testing.T) {
	for _, c := range []struct {
		t, u Tick
		want time.Duration
	}{
		{954, 0, 954 << 20}, {0, 954, -954 << 20}, {10, math.MaxUint32 - 9, 20 << 20}, {7, 7, 0},
	} {
		if got := c.t.Sub(c.u); got != c.want {
			t.Errorf("%d - %d = %s, want %s", c.t, c.u, got, c.want)
		}
	}
}

func FuzzAddressRoundTrip(f *testing.F) {
	f.Add(uint32(0xac106409), uint16(80))
	f.Fuzz(func(t *testing.T, ip uint32, port uint16) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], ip)
		want := netip.AddrPortFrom(netip.AddrFrom4(b), port)
		addr, err := toAddr[bpf.Lb4Addr](want.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if got := fromAddrPort(addr, toPort(port)); got != want {
			t.Errorf("%s comes back as %s", want, got)
		}
	})
}

func FuzzUUIDRoundTrip(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), "01234567-89ab-cdef-0123-456789abcdef")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		var id [16]byte
		copy(id[:], raw)
		if back, err := toID(fromID(id)); err != nil || back != id {
			t.Errorf("% x comes back as % x, %v", id, back, err)
		}
		if parsed, err := toID(text); err == nil {
			if want := fmt.Sprintf("%x", parsed); len(want) != 32 || !equalFold(fromID(parsed), text) {
				t.Errorf("%q is read as %s", text, fromID(parsed))
			}
		}
	})
}

func equalFold(a, b string) bool { return bytes.EqualFold([]byte(a), []byte(b)) }

func FuzzVIPRoundTrip(f *testing.F) {
	f.Add(uint16(80), uint32(0xac10640b), uint32(7440), uint8(3), uint32(2))
	f.Fuzz(func(t *testing.T, port uint16, ip, sec uint32, flags uint8, method uint32) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], ip)
		g := Generation{Number: sec ^ ip, VIP: VIP{
			ID:      "01234567-89ab-cdef-0123-456789abcdef",
			Address: netip.AddrPortFrom(netip.AddrFrom4(b), port),
			SNAT:    SourcesOf(netip.AddrFrom4(b)), Protocol: Protocol(flags),
			Refuse: flags&1 != 0, Affinity: flags&2 != 0, Method: Method(method),
			HashSeed: ip * 3, ConnectionLimit: ip * 5, FlowLimit: ip * 7,
			Idle: fromSec(sec), HalfOpen: fromSec(sec / 2), HalfOpenPressure: fromSec(sec / 3),
			Closing: fromSec(sec / 5), Rest: fromSec(sec / 7), AffinityTimeout: fromSec(sec / 11),
		}}
		for place := range MaxSources - 1 { // some of the places, some of them closing
			if other := (netip.AddrFrom4([4]byte{b[0], b[1], b[2], b[3] ^ byte(place+1)})); method>>place&1 != 0 {
				g.VIP.SNAT[place+1] = Source{Address: other, Closing: sec>>place&1 != 0}
			}
		}
		value, err := words[bpf.Lb4Addr]{}.vip(&g, 1, 9)
		if err != nil {
			t.Fatal(err)
		}
		back := value.(*vip[bpf.Lb4Addr]).stored()
		if back.VIP != g.VIP || back.number != g.Number || back.half != 1 || back.weightBlocks != 9 {
			t.Errorf("%+v comes back as %+v", g, back)
		}
	})
}
