package packet

import "encoding/binary"

// TCPOption is one TCP option as it stands on the wire: kind, length and data, or
// a single byte. Options made by hand may break every rule; that is their use.
type TCPOption []byte

// MSS announces the largest segment that the sender accepts, in bytes.
func MSS(size uint16) TCPOption {
	return binary.BigEndian.AppendUint16(TCPOption{2, 4}, size)
}

// WindowScale announces the shift of later windows, 0..14.
func WindowScale(shift uint8) TCPOption { return TCPOption{3, 3, shift} }

// SACKPermitted announces that the sender understands selective acknowledgements.
func SACKPermitted() TCPOption { return TCPOption{4, 2} }

// SACK acknowledges up to four blocks, each a pair of sequence numbers: the first
// one received and the first one not.
func SACK(blocks ...[2]uint32) TCPOption {
	o := TCPOption{5, byte(2 + 8*len(blocks))}
	for _, b := range blocks {
		o = binary.BigEndian.AppendUint32(o, b[0])
		o = binary.BigEndian.AppendUint32(o, b[1])
	}
	return o
}

// Timestamps carries the sender's clock and the one it answers.
func Timestamps(value, echo uint32) TCPOption {
	o := binary.BigEndian.AppendUint32(TCPOption{8, 10}, value)
	return binary.BigEndian.AppendUint32(o, echo)
}

// NOP is one byte of padding; NOPs in front put an option at any offset.
func NOP() TCPOption { return TCPOption{1} }

// NOPs is n bytes of padding.
func NOPs(n int) TCPOption {
	o := make(TCPOption, n)
	for i := range o {
		o[i] = 1
	}
	return o
}

// EndOfOptions ends the list; what follows is padding.
func EndOfOptions() TCPOption { return TCPOption{0} }

// HopByHop is an extension header of hop-by-hop options; nil is padding only.
func HopByHop(options []byte) Extension {
	return Extension{Header: ProtoHopByHop, Body: orPadding(options)}
}

// DestinationOptions is an extension header for the destination; nil is padding only.
func DestinationOptions(options []byte) Extension {
	return Extension{Header: ProtoDstOption, Body: orPadding(options)}
}

// orPadding is options, or a PadN that fills one unit.
func orPadding(options []byte) []byte {
	if options == nil {
		return []byte{1, 4, 0, 0, 0, 0}
	}
	return options
}

// Routing is a routing header of the given type. With segmentsLeft above 0 the
// final destination is in data, and transport checksums are not those that the
// header's own destination gives.
func Routing(kind, segmentsLeft uint8, data []byte) Extension {
	return Extension{Header: ProtoRouting, Body: append([]byte{kind, segmentsLeft}, data...)}
}

// Fragment is a fragment header; offset counts bytes and is a multiple of 8.
func Fragment(offset uint16, more bool, id uint32) Extension {
	word := offset &^ 7
	if more {
		word |= 1
	}
	body := binary.BigEndian.AppendUint16(nil, word)
	return Extension{Header: ProtoFragment, Body: binary.BigEndian.AppendUint32(body, id)}
}
