package packet

import (
	"net"
	"net/netip"
)

// Layer is one header, or the payload, of a frame to be built. The layers are the
// types of this package; each one contains those that follow it.
type Layer interface {
	// encode returns the layer's bytes with those of the layers inside it. The
	// pseudo header is that of the nearest IP header around it.
	encode(inside []Layer, around pseudo) ([]byte, error)
}

// Ethernet is the link header. Nil addresses are 00:00:00:00:00:00.
type Ethernet struct {
	Dst, Src net.HardwareAddr
	// VLANs are the tags between addresses and type, outermost first.
	VLANs []VLAN
	// Type overrides the EtherType that follows from the next layer.
	Type *uint16
	// MinLength pads the frame with zeros up to so many bytes; 60 is what a real
	// wire does to short frames.
	MinLength int
}

// VLAN is one 802.1Q tag.
type VLAN struct {
	// ID is 0..4095, Priority 0..7.
	ID       uint16
	Priority uint8
	// DropEligible is the DEI bit.
	DropEligible bool
	// TPID is the tag's own EtherType; 0 means 0x8100.
	TPID uint16
}

// IPv4 is an IPv4 header. Pointers override what would be derived.
type IPv4 struct {
	Src, Dst netip.Addr
	TTL, TOS uint8
	ID       uint16
	DF, MF   bool
	// Reserved is the first flag bit, which must be zero on a real network.
	Reserved bool
	// FragmentOffset counts bytes and is a multiple of 8, up to 65528.
	FragmentOffset int
	// Options are padded with zeros (end of options) to a multiple of 4; at most 40.
	Options []byte
	// Protocol must be said when no transport layer follows, as in later fragments.
	Protocol *uint8
	// Version and IHL (32-bit words) are 4 bits wide.
	Version, IHL *uint8
	TotalLength  *uint16
	Sum          Sum
}

// IPv6 is an IPv6 header with its extension headers.
type IPv6 struct {
	Src, Dst     netip.Addr
	HopLimit     uint8
	TrafficClass uint8
	// FlowLabel is 20 bits wide.
	FlowLabel  uint32
	Extensions []Extension
	// NextHeader overrides what the last header (this one or the last extension)
	// says about what follows; it must be said when no transport layer follows.
	NextHeader    *uint8
	PayloadLength *uint16
}

// Extension is one IPv6 extension header.
type Extension struct {
	// Header is the protocol number that announces it.
	Header uint8
	// Body is all of it behind the two bytes of next header and length, padded with
	// zeros to the header's unit.
	Body []byte
	// Length overrides the length byte.
	Length *uint8
}

// TCP is a TCP header.
type TCP struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            Flags
	Window, Urgent   uint16
	// Options stand in the order given and are padded with zeros to a multiple of
	// 4; at most 40 bytes.
	Options []TCPOption
	// DataOffset (32-bit words, 4 bits wide) overrides what follows from Options.
	DataOffset *uint8
	Sum        Sum
}

// UDP is a UDP header.
type UDP struct {
	SrcPort, DstPort uint16
	Length           *uint16
	Sum              Sum
}

// ICMPv4 is an ICMP header; see EchoRequest, Unreachable and their kin.
type ICMPv4 struct {
	Type, Code uint8
	// Rest is the second word of the header.
	Rest uint32
	Sum  Sum
}

// ICMPv6 is an ICMPv6 header.
type ICMPv6 struct {
	Type, Code uint8
	// Rest is the second word of the header.
	Rest uint32
	Sum  Sum
}

// Quote is what an ICMP error carries: the offending packet, from its IP header on.
type Quote struct {
	Packet []Layer
	// Keep is how many bytes behind the IP header (and its extensions) are quoted;
	// 0 means all of them. The quoted packet's lengths and checksums stay those of the whole.
	Keep int
}

// Payload is bytes without further structure.
type Payload []byte

// Flags are the TCP flags, as they stand in the header.
type Flags uint16

// The TCP flags. AE is the accurate-ECN bit, formerly NS.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
	AE
)

// Protocol numbers, EtherTypes and ICMP types that tests name.
const (
	ProtoHopByHop  = 0
	ProtoICMPv4    = 1
	ProtoIPv4      = 4
	ProtoTCP       = 6
	ProtoUDP       = 17
	ProtoIPv6      = 41
	ProtoRouting   = 43
	ProtoFragment  = 44
	ProtoESP       = 50
	ProtoAH        = 51
	ProtoICMPv6    = 58
	ProtoNone      = 59
	ProtoDstOption = 60

	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100
	TypeIPv6 = 0x86dd
	TypeQinQ = 0x88a8
)

// EchoRequest is a ping.
func EchoRequest(id, seq uint16) ICMPv4 {
	return ICMPv4{Type: 8, Rest: uint32(id)<<16 | uint32(seq)}
}

// EchoReply is a ping's answer.
func EchoReply(id, seq uint16) ICMPv4 {
	return ICMPv4{Type: 0, Rest: uint32(id)<<16 | uint32(seq)}
}

// Unreachable is a "destination unreachable" of the given code; a Quote follows it.
func Unreachable(code uint8) ICMPv4 { return ICMPv4{Type: 3, Code: code} }

// FragNeeded is a "fragmentation needed" that announces the next hop's MTU.
func FragNeeded(mtu uint16) ICMPv4 { return ICMPv4{Type: 3, Code: 4, Rest: uint32(mtu)} }

// TimeExceeded is a "TTL expired in transit"; a Quote follows it.
func TimeExceeded() ICMPv4 { return ICMPv4{Type: 11} }

// EchoRequest6 is an ICMPv6 ping.
func EchoRequest6(id, seq uint16) ICMPv6 {
	return ICMPv6{Type: 128, Rest: uint32(id)<<16 | uint32(seq)}
}

// Unreachable6 is an ICMPv6 "destination unreachable" of the given code.
func Unreachable6(code uint8) ICMPv6 { return ICMPv6{Type: 1, Code: code} }

// PacketTooBig is an ICMPv6 "packet too big" that announces the next hop's MTU.
func PacketTooBig(mtu uint32) ICMPv6 { return ICMPv6{Type: 2, Rest: mtu} }

// TimeExceeded6 is an ICMPv6 "hop limit exceeded in transit".
func TimeExceeded6() ICMPv6 { return ICMPv6{Type: 3} }
