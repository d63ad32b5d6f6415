package maps

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"strings"
	"structs"
	"time"
	"unsafe"

	"qlbaas/bpf"
)

// address is the constraint of everything that is generic over the family; one type
// per family.
type address interface{ bpf.Lb4Addr | bpf.Lb6Addr }

// The structs below are the shared structs with addresses in them, written once for
// all families. TestLayout compares each with the generated struct of every family,
// field by field. (A conversion, which the compiler would check, is not possible
// between packages: the blank field's name counts as unexported.)
type (
	flowKey[A address] struct {
		_     structs.HostLayout
		Saddr A
		Daddr A
		Sport uint16
		Dport uint16
		Proto uint32
	}

	flow[A address] struct {
		_       structs.HostLayout
		Saddr   A
		Daddr   A
		Sport   uint16
		Dport   uint16
		Slot    uint16
		Snat    uint16
		State   uint32
		Seen    uint32
		Next    uint32
		Ack     uint32
		Shift   uint32
		Started uint32
		Serial  uint32
	}

	flowEntry[A address] struct {
		_      structs.HostLayout
		Flow   flow[A]
		Routed uint32
		Mtu    uint16
		Dmac   [6]uint8
	}

	halfOpenKey[A address] struct {
		_     structs.HostLayout
		Pool  uint32
		Tuple flowKey[A]
	}

	halfOpen[A address] struct {
		_        structs.HostLayout
		Flow     flow[A]
		Ring     uint32
		Window   uint16
		Segment  uint16
		Reserved uint32
	}

	vip[A address] struct {
		_                   structs.HostLayout
		Addr                A
		Port                uint16
		Reserved            uint16
		Proto               uint32
		Flags               uint32
		Method              uint32
		Half                uint32
		ScheduleLen         uint32
		WeightBlocks        uint32
		HashSeed            uint32
		ConnectionLimit     uint32
		FlowLimit           uint32
		IdleSec             uint32
		HalfOpenSec         uint32
		HalfOpenPressureSec uint32
		ClosingSec          uint32
		RestSec             uint32
		AffinitySec         uint32
		Generation          uint32
		Snats               uint32
		SnatOpen            uint32
		Snat                [MaxSources]A
		Broadcast           A
		Id                  [16]uint8
	}

	member[A address] struct {
		_      structs.HostLayout
		Addr   A
		Port   uint16
		Weight uint16
		Flags  uint32
		Serial uint32
		Id     [16]uint8
	}
)

// What the compiler can check: sizes.
var (
	_ = [unsafe.Sizeof(bpf.Lb4FlowKey{})]byte([unsafe.Sizeof(flowKey[bpf.Lb4Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb4FlowEntry{})]byte([unsafe.Sizeof(flowEntry[bpf.Lb4Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb4Flow{})]byte([unsafe.Sizeof(flow[bpf.Lb4Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb4HalfOpenKey{})]byte([unsafe.Sizeof(halfOpenKey[bpf.Lb4Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb4HalfOpen{})]byte([unsafe.Sizeof(halfOpen[bpf.Lb4Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb4Vip{})]byte([unsafe.Sizeof(vip[bpf.Lb4Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb4Member{})]byte([unsafe.Sizeof(member[bpf.Lb4Addr]{})]byte{})

	_ = [unsafe.Sizeof(bpf.Lb6FlowKey{})]byte([unsafe.Sizeof(flowKey[bpf.Lb6Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb6FlowEntry{})]byte([unsafe.Sizeof(flowEntry[bpf.Lb6Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb6Flow{})]byte([unsafe.Sizeof(flow[bpf.Lb6Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb6HalfOpenKey{})]byte([unsafe.Sizeof(halfOpenKey[bpf.Lb6Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb6HalfOpen{})]byte([unsafe.Sizeof(halfOpen[bpf.Lb6Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb6Vip{})]byte([unsafe.Sizeof(vip[bpf.Lb6Addr]{})]byte{})
	_ = [unsafe.Sizeof(bpf.Lb6Member{})]byte([unsafe.Sizeof(member[bpf.Lb6Addr]{})]byte{})
)

// toAddr stores an address in network order. ErrInvalid if it is not of the family; an
// IPv4 address in IPv6 form is of neither.
func toAddr[A address](a netip.Addr) (out A, err error) {
	switch to := any(&out).(type) {
	case *bpf.Lb4Addr:
		if !a.Is4() {
			return out, invalid("address %s is not IPv4", a)
		}
		b := a.As4()
		to.Word[0] = binary.NativeEndian.Uint32(b[:])
	case *bpf.Lb6Addr:
		if !a.Is6() || a.Is4In6() || a.Zone() != "" {
			return out, invalid("address %s is not IPv6", a)
		}
		b := a.As16()
		for i := range to.Word {
			to.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
		}
	}
	return out, nil
}

func fromAddr[A address](a A) netip.Addr {
	switch from := any(&a).(type) {
	case *bpf.Lb4Addr:
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], from.Word[0])
		return netip.AddrFrom4(b)
	case *bpf.Lb6Addr:
		var b [16]byte
		for i, word := range from.Word {
			binary.NativeEndian.PutUint32(b[4*i:], word)
		}
		return netip.AddrFrom16(b)
	}
	return netip.Addr{} // no other type is an address
}

// toPort and fromPort change between host order and a __be16 in a Go uint16.
func toPort(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

func fromPort(port uint16) uint16 { return toPort(port) }

func fromAddrPort[A address](a A, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(fromAddr(a), fromPort(port))
}

// toID reads a UUID in its usual text form, in either case.
func toID(id string) (out [16]uint8, err error) {
	const form = "00000000-0000-0000-0000-000000000000"
	if len(id) != len(form) || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return out, invalid("id %q is not a UUID", id)
	}
	n, err := hex.Decode(out[:], []byte(id[:8]+id[9:13]+id[14:18]+id[19:23]+id[24:]))
	if err != nil || n != len(out) {
		return out, invalid("id %q is not a UUID", id)
	}
	return out, nil
}

// fromID is the inverse of toID, in lower case.
func fromID(id [16]uint8) string {
	h := hex.EncodeToString(id[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// toSec stores whole seconds. What cannot be read back the same is ErrInvalid.
func toSec(d time.Duration) (uint32, error) {
	sec := d / time.Second
	if d < 0 || d%time.Second != 0 || sec > math.MaxUint32 {
		return 0, invalid("%s is not a whole number of seconds below 2^32", d)
	}
	return uint32(sec), nil
}

func fromSec(sec uint32) time.Duration { return time.Duration(sec) * time.Second }

// Tick is a time of the data plane: 2^20 ns of CLOCK_MONOTONIC as BPF sees it,
// modulo 2^32 (52 days).
type Tick uint32

// Sub returns t-u, right for times less than 26 days apart.
func (t Tick) Sub(u Tick) time.Duration { return time.Duration(int32(t-u)) << 20 }

func fromFlow[A address](f *flow[A]) Flow {
	return Flow{
		Source:      fromAddrPort(f.Saddr, f.Sport),
		Destination: fromAddrPort(f.Daddr, f.Dport),
		Slot:        f.Slot,
		Place:       f.Snat,
		Serial:      f.Serial,
		State:       FlowState(f.State),
		Seen:        Tick(f.Seen),
		Started:     Tick(f.Started),
		Next:        f.Next,
		Ack:         f.Ack,
		Shift:       f.Shift,
	}
}

func fromFlowKey[A address](k *flowKey[A]) FlowKey {
	return FlowKey{
		Source:      fromAddrPort(k.Saddr, k.Sport),
		Destination: fromAddrPort(k.Daddr, k.Dport),
		Protocol:    Protocol(k.Proto),
	}
}
