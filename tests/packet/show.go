package packet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

func arpColumns() []column {
	return []column{
		{"hardware", 2, showNumber},
		{"protocol", 2, showHex},
		{"sizes", 2, showBytes},
		{"operation", 2, showNumber},
		{"sender_mac", 6, showMAC},
		{"sender_ip", 4, showAddr},
		{"target_mac", 6, showMAC},
		{"target_ip", 4, showAddr},
	}
}

func ipv4Columns() []column {
	return []column{
		{"version_ihl", 1, showVersionIHL},
		{"tos", 1, showHex},
		{"length", 2, showNumber},
		{"id", 2, showNumber},
		{"fragment", 2, showFragment},
		{"ttl", 1, showNumber},
		{"protocol", 1, showNumber},
		{"checksum", 2, showHex},
		{"src", 4, showAddr},
		{"dst", 4, showAddr},
	}
}

func ipv6Columns() []column {
	return []column{
		{"class_flow", 4, showHex},
		{"length", 2, showNumber},
		{"next", 1, showNumber},
		{"hop_limit", 1, showNumber},
		{"src", 16, showAddr},
		{"dst", 16, showAddr},
	}
}

func tcpColumns() []column {
	return []column{
		{"sport", 2, showNumber},
		{"dport", 2, showNumber},
		{"seq", 4, showNumber},
		{"ack", 4, showNumber},
		{"offset", 1, showDataOffset},
		{"flags", 1, showFlags},
		{"window", 2, showNumber},
		{"checksum", 2, showHex},
		{"urgent", 2, showNumber},
	}
}

func udpColumns() []column {
	return []column{
		{"sport", 2, showNumber}, {"dport", 2, showNumber}, {"length", 2, showNumber}, {"checksum", 2, showHex},
	}
}

func icmpColumns() []column {
	return []column{
		{"type", 1, showNumber}, {"code", 1, showNumber}, {"checksum", 2, showHex}, {"rest", 4, showHex},
	}
}

// number is up to 8 bytes as one big endian number.
func number(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func showNumber(b []byte) string { return fmt.Sprint(number(b)) }
func showHex(b []byte) string    { return fmt.Sprintf("0x%0*x", 2*len(b), number(b)) }
func showMAC(b []byte) string    { return net.HardwareAddr(b).String() }

func showAddr(b []byte) string {
	a, _ := netip.AddrFromSlice(b) // columns are 4 or 16 bytes wide
	return a.String()
}

// showBytes quotes the beginning and says how much there is.
func showBytes(b []byte) string {
	const most = 32
	if len(b) <= most {
		return fmt.Sprintf("%d bytes %x", len(b), b)
	}
	return fmt.Sprintf("%d bytes %x…", len(b), b[:most])
}

func showVersionIHL(b []byte) string {
	return fmt.Sprintf("version %d, header %d bytes", b[0]>>4, int(b[0]&0xf)*4)
}

func showTCI(b []byte) string {
	n := number(b)
	return fmt.Sprintf("id %d priority %d dei %d", n&0xfff, n>>13, n>>12&1)
}

func showFragment(b []byte) string {
	n := number(b)
	s := fmt.Sprintf("offset %d", n&0x1fff*8)
	for i, name := range []string{"MF", "DF", "reserved"} {
		if n&(0x2000<<i) != 0 {
			s += " " + name
		}
	}
	return s
}

func showDataOffset(b []byte) string {
	s := fmt.Sprintf("header %d bytes", int(b[0]>>4)*4)
	if low := b[0] & 0xf; low != 0 {
		s += fmt.Sprintf(", reserved bits %#x", low)
	}
	return s
}

func showFlags(b []byte) string { return Flags(b[0]).String() }

// String names the flags, as in "SYN|ACK"; none is "none".
func (f Flags) String() string {
	var set []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"} {
		if f&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	if rest := f &^ 0x1ff; rest != 0 {
		set = append(set, fmt.Sprintf("%#x", uint16(rest)))
	}
	if set == nil {
		return "none"
	}
	return strings.Join(set, "|")
}

func showOption(b []byte) string {
	kind := b[0]
	switch {
	case kind == 0:
		return fmt.Sprintf("end, %d bytes %x", len(b), b)
	case kind == 1:
		return "nop"
	case kind == 2 && len(b) == 4:
		return fmt.Sprintf("mss %d", binary.BigEndian.Uint16(b[2:]))
	case kind == 3 && len(b) == 3:
		return fmt.Sprintf("window scale %d", b[2])
	case kind == 4 && len(b) == 2:
		return "sack permitted"
	case kind == 5 && len(b)%8 == 2:
		s := "sack"
		for b = b[2:]; len(b) > 0; b = b[8:] {
			s += fmt.Sprintf(" %d-%d", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]))
		}
		return s
	case kind == 8 && len(b) == 10:
		return fmt.Sprintf("timestamps %d %d", binary.BigEndian.Uint32(b[2:]), binary.BigEndian.Uint32(b[6:]))
	}
	return fmt.Sprintf("kind %d, %d bytes %x", kind, len(b), b)
}
