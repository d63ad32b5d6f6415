package packet

import (
	"encoding/binary"
	"fmt"
)

// Field is a run of a frame's bytes with a name.
type Field struct {
	// Name is layer and field, as in "ip4.ttl", "tcp.options[2]" or, in the packet
	// that an ICMP error carries, "quoted.tcp.dport". Unique within a frame.
	Name string
	// Offset from the start of the frame, and Size, in bytes.
	Offset, Size int
	// Value is the content in words.
	Value string
}

// Dissect takes a frame apart. The fields stand in the frame's order, do not
// overlap and cover every byte, whatever the frame contains: what cannot be
// understood is a field too.
func Dissect(frame []byte) []Field {
	d := &dissector{frame: frame, end: len(frame)}
	d.ethernet()
	d.end = len(frame)
	d.rest("padding")
	return d.fields
}

// Find returns the named field of the frame.
func Find(frame []byte, name string) (Field, error) {
	for _, f := range Dissect(frame) {
		if f.Name == name {
			return f, nil
		}
	}
	return Field{}, fmt.Errorf("find field %s: not in %s", name, Summary(frame))
}

// dissector walks along a frame. Nothing reads beyond end, which shrinks to what
// the length fields on the way allow.
type dissector struct {
	frame   []byte
	at, end int
	prefix  string
	fields  []Field
}

// column describes one field of a fixed header.
type column struct {
	name string
	size int
	show func([]byte) string
}

// take names the next n bytes and returns them; where fewer are left, those become
// a field that says so, and take returns nil.
func (d *dissector) take(name string, n int, show func([]byte) string) []byte {
	if n > d.end-d.at {
		d.rest(name + " (cut off)")
		return nil
	}
	b := d.frame[d.at : d.at+n]
	d.fields = append(d.fields, Field{d.prefix + name, d.at, n, show(b)})
	d.at += n
	return b
}

// header takes a layer's columns and returns its bytes, nil if they are cut off.
func (d *dissector) header(layer string, columns []column) []byte {
	start := d.at
	for _, c := range columns {
		if d.take(layer+"."+c.name, c.size, c.show) == nil {
			return nil
		}
	}
	return d.frame[start:d.at]
}

// rest names everything that is left; nothing left is no field.
func (d *dissector) rest(name string) {
	if d.at < d.end {
		d.take(name, d.end-d.at, showBytes)
	}
}

// limit shortens the end to n bytes from start, and never lengthens it.
func (d *dissector) limit(start, n int) {
	d.end = max(d.at, min(d.end, start+n))
}

func (d *dissector) ethernet() {
	if d.header("eth", []column{{"dst", 6, showMAC}, {"src", 6, showMAC}}) == nil {
		return
	}
	b := d.take("eth.type", 2, showHex)
	for i := 0; b != nil && isTag(binary.BigEndian.Uint16(b)); i++ {
		layer := fmt.Sprintf("vlan[%d]", i)
		if d.take(layer+".tci", 2, showTCI) == nil {
			return
		}
		b = d.take(layer+".type", 2, showHex)
	}
	if b == nil {
		return
	}
	switch binary.BigEndian.Uint16(b) {
	case TypeIPv4:
		d.ip(4)
	case TypeIPv6:
		d.ip(6)
	case TypeARP:
		d.header("arp", arpColumns())
	default:
		d.rest("payload")
	}
}

// ip follows the version that announces it, not the one in the header.
func (d *dissector) ip(version int) {
	if version == 6 {
		d.ipv6()
		return
	}
	start := d.at
	h := d.header("ip4", ipv4Columns())
	if h == nil {
		return
	}
	if n := int(h[0]&0xf)*4 - 20; n > 0 {
		if d.take("ip4.options", n, showBytes) == nil {
			return
		}
	}
	d.limit(start, int(binary.BigEndian.Uint16(h[2:])))
	if binary.BigEndian.Uint16(h[6:])&0x1fff != 0 {
		d.rest("payload")
		return
	}
	d.transport(h[9])
}

func (d *dissector) ipv6() {
	start := d.at
	h := d.header("ip6", ipv6Columns())
	if h == nil {
		return
	}
	d.limit(start, 40+int(binary.BigEndian.Uint16(h[4:])))
	proto := h[6]
	for i := 0; isExtension(proto); i++ {
		n := extensionLength(proto, d.frame[d.at:d.end])
		layer := fmt.Sprintf("ip6.ext[%d:%d]", i, proto)
		b := d.header(layer, []column{
			{"next", 1, showNumber},
			{"length", 1, showNumber},
			{"body", n - 2, showBytes},
		})
		if b == nil {
			return
		}
		if proto == ProtoFragment && binary.BigEndian.Uint16(b[2:])>>3 != 0 {
			d.rest("payload")
			return
		}
		proto = b[0]
	}
	d.transport(proto)
}

func (d *dissector) transport(proto uint8) {
	switch proto {
	case ProtoTCP:
		d.tcp()
	case ProtoUDP:
		if d.header("udp", udpColumns()) != nil {
			d.rest("payload")
		}
	case ProtoICMPv4:
		d.icmp("icmp", 4)
	case ProtoICMPv6:
		d.icmp("icmp6", 6)
	case ProtoIPv4:
		d.inner("inner.", 4)
	case ProtoIPv6:
		d.inner("inner.", 6)
	default:
		d.rest("payload")
	}
}

// inner dissects a packet inside this one under a longer name.
func (d *dissector) inner(prefix string, version int) {
	outer := d.prefix
	d.prefix += prefix
	d.ip(version)
	d.rest("padding")
	d.prefix = outer
}

func (d *dissector) icmp(layer string, version int) {
	b := d.header(layer, icmpColumns())
	if b == nil {
		return
	}
	if isICMPError(version, b[0]) && d.at < d.end {
		d.inner("quoted.", version)
		return
	}
	d.rest("payload")
}

func (d *dissector) tcp() {
	start := d.at
	h := d.header("tcp", tcpColumns())
	if h == nil {
		return
	}
	end := d.end
	d.limit(start, int(h[12]>>4)*4)
	for i := 0; d.at < d.end; i++ {
		d.take(fmt.Sprintf("tcp.options[%d]", i), optionLength(d.frame[d.at:d.end]), showOption)
	}
	d.end = end
	d.rest("payload")
}

// optionLength is the size of the TCP option that b starts with: all that is left
// from the end of the list on, and where the length makes no sense.
func optionLength(b []byte) int {
	switch {
	case b[0] == 1:
		return 1
	case b[0] == 0 || len(b) < 2 || b[1] < 2 || int(b[1]) > len(b):
		return len(b)
	default:
		return int(b[1])
	}
}
