package packet

import (
	"encoding/binary"
	"fmt"
)

func (t TCP) encode(inside []Layer, around pseudo) ([]byte, error) {
	in, err := encode(inside, around)
	if err != nil {
		return nil, err
	}
	var options []byte
	for _, o := range t.Options {
		options = append(options, o...)
	}
	options = padded(options, 4)
	if len(options) > 40 {
		return nil, fmt.Errorf("tcp: %d bytes of options", len(options))
	}
	b := make([]byte, 20, 60+len(in))
	b = append(b, options...)
	binary.BigEndian.PutUint16(b[0:], t.SrcPort)
	binary.BigEndian.PutUint16(b[2:], t.DstPort)
	binary.BigEndian.PutUint32(b[4:], t.Seq)
	binary.BigEndian.PutUint32(b[8:], t.Ack)
	offset := or(t.DataOffset, uint8(len(b)/4))
	binary.BigEndian.PutUint16(b[12:], uint16(offset)<<12|uint16(t.Flags)&0xfff)
	binary.BigEndian.PutUint16(b[14:], t.Window)
	binary.BigEndian.PutUint16(b[18:], t.Urgent)
	b = append(b, in...)
	return b, around.fill(b, 16, ProtoTCP, t.Sum)
}

func (u UDP) encode(inside []Layer, around pseudo) ([]byte, error) {
	in, err := encode(inside, around)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 8, 8+len(in))
	binary.BigEndian.PutUint16(b[0:], u.SrcPort)
	binary.BigEndian.PutUint16(b[2:], u.DstPort)
	binary.BigEndian.PutUint16(b[4:], or(u.Length, uint16(len(b)+len(in))))
	b = append(b, in...)
	return b, around.fill(b, 6, ProtoUDP, u.Sum)
}

func (i ICMPv4) encode(inside []Layer, _ pseudo) ([]byte, error) {
	b, err := encodeICMP(i.Type, i.Code, i.Rest, inside)
	if err != nil {
		return nil, err
	}
	if i.Sum == SumPartial {
		return nil, fmt.Errorf("icmp: there is no pseudo header for a partial checksum")
	}
	binary.BigEndian.PutUint16(b[2:], i.Sum.field(Checksum(b), 0))
	return b, nil
}

func (i ICMPv6) encode(inside []Layer, around pseudo) ([]byte, error) {
	b, err := encodeICMP(i.Type, i.Code, i.Rest, inside)
	if err != nil {
		return nil, err
	}
	return b, around.fill(b, 2, ProtoICMPv6, i.Sum)
}

// encodeICMP is what both families share: all but the checksum.
func encodeICMP(kind, code uint8, rest uint32, inside []Layer) ([]byte, error) {
	in, err := encode(inside, pseudo{})
	if err != nil {
		return nil, err
	}
	b := []byte{kind, code, 0, 0}
	b = binary.BigEndian.AppendUint32(b, rest)
	return append(b, in...), nil
}

// fill writes the checksum of segment into its field at the given offset. A
// transport without IP around it has no pseudo header, and that is an error.
func (p pseudo) fill(segment []byte, at int, proto uint8, how Sum) error {
	if !p.src.IsValid() {
		return fmt.Errorf("protocol %d: no IP header around it", proto)
	}
	good := p.checksum(proto, segment)
	if proto == ProtoUDP && good == 0 {
		good = 0xffff // zero would mean "not computed"
	}
	partial := fold(p.sum(proto, len(segment)))
	binary.BigEndian.PutUint16(segment[at:], how.field(good, partial))
	return nil
}

func (q Quote) encode(_ []Layer, _ pseudo) ([]byte, error) {
	b, err := encode(q.Packet, pseudo{})
	if err != nil {
		return nil, fmt.Errorf("quoted packet: %w", err)
	}
	if q.Keep == 0 {
		return b, nil
	}
	h, err := parseIP(b)
	if err != nil {
		return nil, fmt.Errorf("quoted packet: %w", err)
	}
	return b[:min(h.length+q.Keep, len(b))], nil
}

func (p Payload) encode(inside []Layer, around pseudo) ([]byte, error) {
	in, err := encode(inside, around)
	return append(append([]byte(nil), p...), in...), err
}

// Repeat is n bytes of payload that differ from their neighbours, so that a
// shifted or swapped part shows.
func Repeat(n int) Payload {
	p := make(Payload, n)
	for i := range p {
		p[i] = byte(i%251 + i/251)
	}
	return p
}
