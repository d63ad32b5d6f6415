package afpacket

import (
	"encoding/binary"
	"fmt"
)

// GSO says how a super-packet is to be cut into segments.
type GSO uint8

// The kinds of segmentation (linux/virtio_net.h).
const (
	GSONone  GSO = 0
	GSOTCPv4 GSO = 1
	GSOTCPv6 GSO = 4
	GSOUDP   GSO = 5
)

// Header is what travels beside a frame (struct virtio_net_hdr). The zero Header
// is a plain frame whose checksums are in place.
type Header struct {
	// NeedsChecksum: the sum of everything from ChecksumStart on still has to be
	// stored at ChecksumStart+ChecksumOffset, where the pseudo header's sum is now
	// (CHECKSUM_PARTIAL). Both count bytes, the first from the start of the frame.
	NeedsChecksum                 bool
	ChecksumStart, ChecksumOffset uint16
	// GSO other than GSONone makes the frame a super-packet: HeaderLength bytes of
	// headers, then a payload to be cut into pieces of SegmentSize bytes.
	GSO                       GSO
	HeaderLength, SegmentSize uint16
	// Valid: the receiving side vouches for the checksum without having looked.
	Valid bool
}

// headerSize is that of struct virtio_net_hdr.
const headerSize = 10

const (
	flagNeedsChecksum = 1
	flagValid         = 2
)

// encode appends the header as the kernel reads it, in native byte order.
func (h Header) encode() []byte {
	var flags byte
	if h.NeedsChecksum {
		flags |= flagNeedsChecksum
	}
	if h.Valid {
		flags |= flagValid
	}
	b := []byte{flags, byte(h.GSO)}
	for _, v := range []uint16{h.HeaderLength, h.SegmentSize, h.ChecksumStart, h.ChecksumOffset} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return b
}

func decodeHeader(b []byte) (Header, error) {
	if len(b) < headerSize {
		return Header{}, fmt.Errorf("virtio header of %d bytes", len(b))
	}
	return Header{
		NeedsChecksum:  b[0]&flagNeedsChecksum != 0,
		Valid:          b[0]&flagValid != 0,
		GSO:            GSO(b[1] &^ 0x80), // the high bit is a remark about ECN
		HeaderLength:   binary.NativeEndian.Uint16(b[2:]),
		SegmentSize:    binary.NativeEndian.Uint16(b[4:]),
		ChecksumStart:  binary.NativeEndian.Uint16(b[6:]),
		ChecksumOffset: binary.NativeEndian.Uint16(b[8:]),
	}, nil
}
