package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// ipHeader is what the checks need of an IP header and its extensions.
type ipHeader struct {
	version int
	// length of all headers up to the transport, and total of the packet as the
	// header claims it, in bytes.
	length, total int
	proto         uint8
	addresses     pseudo
	// fragment is set on every part of a fragmented packet, the first one included.
	fragment bool
}

// parseIP reads the IP header that b starts with.
func parseIP(b []byte) (ipHeader, error) {
	if len(b) == 0 {
		return ipHeader{}, fmt.Errorf("ip: no header")
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b)
	case 6:
		return parseIPv6(b)
	default:
		return ipHeader{}, fmt.Errorf("ip: version %d", b[0]>>4)
	}
}

func parseIPv4(b []byte) (ipHeader, error) {
	length := int(b[0]&0xf) * 4
	if length < 20 || len(b) < length {
		return ipHeader{}, fmt.Errorf("ipv4: header of %d bytes in %d", length, len(b))
	}
	h := ipHeader{
		version: 4, length: length, proto: b[9],
		total:    int(binary.BigEndian.Uint16(b[2:])),
		fragment: binary.BigEndian.Uint16(b[6:])&0x3fff != 0,
		addresses: pseudo{
			netip.AddrFrom4([4]byte(b[12:16])),
			netip.AddrFrom4([4]byte(b[16:20])),
		},
	}
	if h.total < h.length {
		return ipHeader{}, fmt.Errorf("ipv4: total length %d is less than the header's %d", h.total, h.length)
	}
	return h, nil
}

func parseIPv6(b []byte) (ipHeader, error) {
	if len(b) < 40 {
		return ipHeader{}, fmt.Errorf("ipv6: header of 40 bytes in %d", len(b))
	}
	h := ipHeader{
		version: 6, length: 40, proto: b[6],
		total: 40 + int(binary.BigEndian.Uint16(b[4:])),
		addresses: pseudo{
			netip.AddrFrom16([16]byte(b[8:24])),
			netip.AddrFrom16([16]byte(b[24:40])),
		},
	}
	for isExtension(h.proto) {
		rest := b[h.length:]
		n := extensionLength(h.proto, rest)
		if n > len(rest) {
			return ipHeader{}, fmt.Errorf("ipv6: extension header %d of %d bytes in %d", h.proto, n, len(rest))
		}
		if h.proto == ProtoFragment {
			h.fragment = binary.BigEndian.Uint16(rest[2:])&0xfff9 != 0
		}
		h.proto = rest[0]
		h.length += n
		// What follows in a later fragment is the middle of something.
		if h.fragment {
			break
		}
	}
	return h, nil
}

func isExtension(proto uint8) bool {
	switch proto {
	case ProtoHopByHop, ProtoRouting, ProtoFragment, ProtoAH, ProtoDstOption:
		return true
	}
	return false
}

// extensionLength is the size in bytes that the extension header at the start of
// b says it has; at least 8.
func extensionLength(proto uint8, b []byte) int {
	switch {
	case proto == ProtoFragment || len(b) < 2:
		return 8
	case proto == ProtoAH:
		return max(8, (int(b[1])+2)*4)
	default:
		return (int(b[1]) + 1) * 8
	}
}

// skipLink returns what is inside the Ethernet header and its tags, and the
// EtherType that announces it.
func skipLink(frame []byte) ([]byte, uint16, error) {
	if len(frame) < 14 {
		return nil, 0, fmt.Errorf("ethernet: frame of %d bytes", len(frame))
	}
	number, at := binary.BigEndian.Uint16(frame[12:]), 14
	for isTag(number) {
		if len(frame) < at+4 {
			return nil, 0, fmt.Errorf("ethernet: tag cut off after %d bytes", len(frame))
		}
		number = binary.BigEndian.Uint16(frame[at+2:])
		at += 4
	}
	return frame[at:], number, nil
}

func isTag(etherType uint16) bool { return etherType == TypeVLAN || etherType == TypeQinQ }

// isICMPError tells the messages that quote the packet that caused them.
func isICMPError(version int, kind uint8) bool {
	if version == 6 {
		return kind < 128
	}
	switch kind {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}
