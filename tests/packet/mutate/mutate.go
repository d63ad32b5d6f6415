// Package mutate changes frames into what nobody would send: bits flipped, lengths and
// numbers set to where mistakes are, ends cut off or added.
package mutate

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"qlbaas/tests/packet"
)

// headers is how much of a frame holds headers: what is behind is nobody's concern.
const headers = 80

// Frame returns a changed copy of an Ethernet frame of at least 16 bytes; it has at
// least 14. All chance is the source's. Every other ICMP message gets a right checksum
// again, or none would be looked into.
func Frame(r *rand.Rand, frame []byte) []byte {
	out := slices.Clone(frame)
	for range []int{1, 1, 1, 2, 3}[r.IntN(5)] {
		out = change(r, out)
	}
	if r.IntN(2) == 0 {
		mendICMP(out)
	}
	return out
}

func change(r *rand.Rand, b []byte) []byte {
	head := min(len(b), headers)
	switch r.IntN(14) {
	case 0, 1, 2, 3, 4, 5:
		b[r.IntN(head)] ^= 1 << r.IntN(8)
	case 6, 7, 8:
		b[r.IntN(head)] = byte(r.Uint32())
	case 9, 10: // a length, a number, or both ends of one
		edges := []uint16{0, 1, 0xffff, 0x8000, uint16(len(b)), uint16(r.Uint32())}
		binary.BigEndian.PutUint16(b[r.IntN(head-1):], edges[r.IntN(len(edges))])
	case 11:
		b = b[:max(14, r.IntN(len(b)))]
	case 12:
		b = append(b, make([]byte, r.IntN(64))...)
	case 13: // header lengths of IPv4 and TCP
		if len(b) > 46 {
			b[14] = b[14]&0xf0 | byte(r.IntN(16))
			b[46] = b[46]&0x0f | byte(r.IntN(16))<<4
		}
	}
	return b
}

// mendICMP gives an ICMP message its right checksum, if the frame is a whole one.
func mendICMP(frame []byte) {
	if len(frame) < 14+20 {
		return
	}
	ip := frame[14:]
	var pseudo, message []byte
	var proto byte
	switch version := ip[0] >> 4; {
	case version == 4:
		header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if header < 20 || total > len(ip) || header > total {
			return
		}
		proto, message = ip[9], ip[header:total]
	case version == 6 && len(ip) >= 40:
		total := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if total > len(ip) {
			return
		}
		proto, message = ip[6], ip[40:total]
		pseudo = append(pseudo, ip[8:40]...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
		pseudo = append(pseudo, 0, 0, 0, proto)
	}
	if len(message) < 8 || proto != packet.ProtoICMPv4 && proto != packet.ProtoICMPv6 {
		return
	}
	message[2], message[3] = 0, 0
	binary.BigEndian.PutUint16(message[2:], packet.Checksum(append(pseudo, message...)))
}
