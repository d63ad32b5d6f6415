package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Verify recomputes every checksum of an Ethernet frame in full: IPv4 header, TCP,
// UDP and ICMP, and the same again in the packet that an ICMP error quotes, as far
// as it is quoted. It fails with one line for each wrong one, and on headers that
// claim more than there is. Fragments carry no checksum of their own and pass, as
// does everything that is not IP.
func Verify(frame []byte) error {
	b, number, err := skipLink(frame)
	if err != nil {
		return err
	}
	if number != TypeIPv4 && number != TypeIPv6 {
		return nil
	}
	return VerifyIP(b)
}

// VerifyIP is Verify for a packet without link header.
func VerifyIP(b []byte) error { return verifyIP(b, false) }

// Complete returns a copy of the frame as a device with checksum offload would
// send it: the sum of everything from start on is stored start+offset bytes in,
// where the kernel has left the pseudo header's sum (CHECKSUM_PARTIAL). The two
// numbers are those of the frame's virtio header.
func Complete(frame []byte, start, offset int) ([]byte, error) {
	if start < 0 || offset < 0 || start+offset+2 > len(frame) {
		return nil, fmt.Errorf("complete checksum: field at %d+%d in a frame of %d bytes", start, offset, len(frame))
	}
	out := bytes.Clone(frame)
	s := Checksum(out[start:])
	if s == 0 {
		s = 0xffff // the same number, and right for UDP too
	}
	binary.BigEndian.PutUint16(out[start+offset:], s)
	return out, nil
}

func verifyIP(b []byte, quoted bool) error {
	h, err := parseIP(b)
	if err != nil {
		return err
	}
	var errs []error
	if h.version == 4 {
		errs = append(errs, check("ipv4 header", b[:int(b[0]&0xf)*4], 10, 0))
	}
	whole := h.total <= len(b)
	if !whole && !quoted {
		errs = append(errs, fmt.Errorf("ip: total length %d in %d bytes", h.total, len(b)))
	}
	// The sum of a part says nothing.
	if whole && !h.fragment && h.length <= h.total {
		errs = append(errs, h.verifyTransport(b[h.length:h.total]))
	}
	if err := errors.Join(errs...); err != nil {
		if quoted {
			return fmt.Errorf("quoted packet: %w", err)
		}
		return err
	}
	return nil
}

// verifyTransport checks the segment that the header's packet carries.
func (h ipHeader) verifyTransport(segment []byte) error {
	shortest, ok := map[uint8]int{
		ProtoTCP: 20, ProtoUDP: 8, ProtoICMPv4: 8, ProtoICMPv6: 8,
	}[h.proto]
	if ok && len(segment) < shortest {
		return fmt.Errorf("protocol %d: header cut off after %d bytes", h.proto, len(segment))
	}
	partial := h.addresses.sum(h.proto, len(segment))
	switch h.proto {
	case ProtoTCP:
		return check("tcp", segment, 16, partial)
	case ProtoUDP:
		return h.verifyUDP(segment)
	case ProtoICMPv4:
		return h.verifyICMP(segment, check("icmp", segment, 2, 0))
	case ProtoICMPv6:
		return h.verifyICMP(segment, check("icmpv6", segment, 2, partial))
	case ProtoIPv4, ProtoIPv6:
		return verifyIP(segment, false)
	}
	return nil
}

func (h ipHeader) verifyUDP(segment []byte) error {
	length := int(binary.BigEndian.Uint16(segment[4:]))
	if length < 8 || length > len(segment) {
		return fmt.Errorf("udp: length %d in %d bytes", length, len(segment))
	}
	if segment[6] == 0 && segment[7] == 0 {
		if h.version == 4 {
			return nil // not computed, and that is allowed
		}
		return errors.New("udp: no checksum over IPv6")
	}
	return check("udp", segment[:length], 6, h.addresses.sum(ProtoUDP, length))
}

// verifyICMP adds the check of a quoted packet to the message's own result.
func (h ipHeader) verifyICMP(segment []byte, own error) error {
	if !isICMPError(h.version, segment[0]) {
		return own
	}
	return errors.Join(own, verifyIP(segment[8:], true))
}

// check compares the checksum at offset at of b with the one computed over b with
// a zero field, starting from the sum of a pseudo header. Zero and 0xffff are one
// number in this arithmetic.
func check(name string, b []byte, at int, start uint64) error {
	got := binary.BigEndian.Uint16(b[at:])
	want := ^fold(start + sum(b[:at]) + sum(b[at+2:]))
	if got == want || got%0xffff == want%0xffff {
		return nil
	}
	return fmt.Errorf("%s checksum %#04x, want %#04x", name, got, want)
}
