package packet

import (
	"encoding/binary"
	"net/netip"
)

// Checksum is the Internet checksum (RFC 1071) of b in host order, ready to be
// stored big endian. The field that will hold it must be zero in b.
func Checksum(b []byte) uint16 {
	return ^fold(sum(b))
}

// sum adds b up as big endian 16-bit words; an odd last byte is the high one.
func sum(b []byte) uint64 {
	var s uint64
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// fold adds the carries back in until 16 bits are left.
func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// pseudo is what a transport's checksum takes from the enclosing IP header.
type pseudo struct {
	src, dst netip.Addr
}

// sum adds up the pseudo header of length bytes of protocol proto. Source and
// destination are both IPv4 or both IPv6.
func (p pseudo) sum(proto uint8, length int) uint64 {
	s := sum(p.src.AsSlice()) + sum(p.dst.AsSlice())
	return s + uint64(proto) + uint64(length)>>16 + uint64(length)&0xffff
}

// checksum is the full transport checksum of segment, whose checksum field must
// be zero.
func (p pseudo) checksum(proto uint8, segment []byte) uint16 {
	return ^fold(p.sum(proto, len(segment)) + sum(segment))
}

// Sum says how a layer's checksum field is filled.
type Sum uint8

// The ways to fill a checksum field.
const (
	// SumGood is the right checksum, computed in full.
	SumGood Sum = iota
	// SumBad is a wrong one.
	SumBad
	// SumZero leaves the field zero; for UDP over IPv4 that means "not computed".
	SumZero
	// SumPartial is what the kernel leaves for the device to finish
	// (CHECKSUM_PARTIAL): the folded sum of the pseudo header, not complemented.
	SumPartial
)

// field is the checksum field's value for a segment with a zero field; good is
// its right checksum.
func (s Sum) field(good, partial uint16) uint16 {
	switch s {
	case SumBad:
		return bad(good)
	case SumZero:
		return 0
	case SumPartial:
		return partial
	default:
		return good
	}
}

// bad is a checksum that is neither good nor equivalent to it (0 and 0xffff are
// the same number), nor zero, which UDP would take for "none".
func bad(good uint16) uint16 {
	if good == 0x1234 {
		return good ^ 0x2345
	}
	return good ^ 0x1234
}
