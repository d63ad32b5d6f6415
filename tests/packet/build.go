package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Build returns the bytes of the layers, each inside the one before it. The first
// one may be any layer: without Ethernet the result is a bare IP packet. It fails
// where a layer cannot be written down at all: options that do not fit the header,
// addresses of the wrong family, nothing that says what follows.
func Build(layers ...Layer) ([]byte, error) {
	b, err := encode(layers, pseudo{})
	if err != nil {
		return nil, fmt.Errorf("build packet: %w", err)
	}
	return b, nil
}

// Frame is Build for tables: layers that cannot be written down are a mistake of
// the table's author, and it panics.
func Frame(layers ...Layer) []byte {
	b, err := Build(layers...)
	if err != nil {
		panic(err)
	}
	return b
}

func encode(layers []Layer, around pseudo) ([]byte, error) {
	if len(layers) == 0 {
		return nil, nil
	}
	return layers[0].encode(layers[1:], around)
}

// numberUnknown is said by Payload, and by nothing at all.
var errNumberUnknown = errors.New("nothing says what follows: set its number")

// etherType is the number that announces the first of the layers.
func etherType(inside []Layer, said *uint16) (uint16, error) {
	if said != nil {
		return *said, nil
	}
	if len(inside) > 0 {
		switch inside[0].(type) {
		case IPv4:
			return TypeIPv4, nil
		case IPv6:
			return TypeIPv6, nil
		}
	}
	return 0, errNumberUnknown
}

// protocol is the number that announces the first of the layers inside IP.
func protocol(inside []Layer, said *uint8) (uint8, error) {
	if said != nil {
		return *said, nil
	}
	if len(inside) > 0 {
		switch inside[0].(type) {
		case TCP:
			return ProtoTCP, nil
		case UDP:
			return ProtoUDP, nil
		case ICMPv4:
			return ProtoICMPv4, nil
		case ICMPv6:
			return ProtoICMPv6, nil
		case IPv4:
			return ProtoIPv4, nil
		case IPv6:
			return ProtoIPv6, nil
		}
	}
	return 0, errNumberUnknown
}

// or is *said, or what is derived where nothing is said.
func or[T any](said *T, derived T) T {
	if said != nil {
		return *said
	}
	return derived
}

// padded is b with zeros behind it up to a multiple of unit.
func padded(b []byte, unit int) []byte {
	n := (unit - len(b)%unit) % unit
	return append(append([]byte(nil), b...), make([]byte, n)...)
}

func (e Ethernet) encode(inside []Layer, _ pseudo) ([]byte, error) {
	number, err := etherType(inside, e.Type)
	if err != nil {
		return nil, fmt.Errorf("ethernet: %w", err)
	}
	b := make([]byte, 12, 14)
	for i, a := range [][]byte{e.Dst, e.Src} {
		if len(a) != 0 && len(a) != 6 {
			return nil, fmt.Errorf("ethernet: address of %d bytes", len(a))
		}
		copy(b[6*i:], a)
	}
	for _, v := range e.VLANs {
		tpid := v.TPID
		if tpid == 0 {
			tpid = TypeVLAN
		}
		b = binary.BigEndian.AppendUint16(b, tpid)
		tci := v.ID&0xfff | uint16(v.Priority)<<13
		if v.DropEligible {
			tci |= 1 << 12
		}
		b = binary.BigEndian.AppendUint16(b, tci)
	}
	b = binary.BigEndian.AppendUint16(b, number)
	in, err := encode(inside, pseudo{})
	if err != nil {
		return nil, err
	}
	b = append(b, in...)
	if short := e.MinLength - len(b); short > 0 {
		b = append(b, make([]byte, short)...)
	}
	return b, nil
}

func (p IPv4) encode(inside []Layer, _ pseudo) ([]byte, error) {
	number, err := protocol(inside, p.Protocol)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ipv4: %w", err)
	case !p.Src.Is4() || !p.Dst.Is4():
		return nil, fmt.Errorf("ipv4: source %s, destination %s: not both IPv4", p.Src, p.Dst)
	case len(p.Options) > 40:
		return nil, fmt.Errorf("ipv4: %d bytes of options", len(p.Options))
	case p.FragmentOffset < 0 || p.FragmentOffset > 65528 || p.FragmentOffset%8 != 0:
		return nil, fmt.Errorf("ipv4: fragment offset %d", p.FragmentOffset)
	case p.Sum == SumPartial:
		return nil, errors.New("ipv4: a header has no partial checksum")
	}
	in, err := encode(inside, pseudo{p.Src, p.Dst})
	if err != nil {
		return nil, err
	}
	b := make([]byte, 20, 60)
	copy(b[12:], p.Src.AsSlice())
	copy(b[16:], p.Dst.AsSlice())
	b = append(b, padded(p.Options, 4)...)
	if len(b)+len(in) > 0xffff && p.TotalLength == nil {
		return nil, fmt.Errorf("ipv4: %d bytes in one packet", len(b)+len(in))
	}
	b[0] = or(p.Version, 4)<<4 | or(p.IHL, uint8(len(b)/4))&0xf
	b[1] = p.TOS
	binary.BigEndian.PutUint16(b[2:], or(p.TotalLength, uint16(len(b)+len(in))))
	binary.BigEndian.PutUint16(b[4:], p.ID)
	binary.BigEndian.PutUint16(b[6:], p.fragmentWord())
	b[8], b[9] = p.TTL, number
	binary.BigEndian.PutUint16(b[10:], p.Sum.field(Checksum(b), 0))
	return append(b, in...), nil
}

// fragmentWord is the flags and the offset as they share 16 bits.
func (p IPv4) fragmentWord() uint16 {
	w := uint16(p.FragmentOffset / 8)
	for i, set := range []bool{p.MF, p.DF, p.Reserved} {
		if set {
			w |= 0x2000 << i
		}
	}
	return w
}

func (p IPv6) encode(inside []Layer, _ pseudo) ([]byte, error) {
	number, err := protocol(inside, p.NextHeader)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ipv6: %w", err)
	case !p.Src.Is6() || !p.Dst.Is6():
		return nil, fmt.Errorf("ipv6: source %s, destination %s: not both IPv6", p.Src, p.Dst)
	}
	in, err := encode(inside, pseudo{p.Src, p.Dst})
	if err != nil {
		return nil, err
	}
	// Each header announces the next one, so they are written from the last.
	for i := len(p.Extensions) - 1; i >= 0; i-- {
		in = append(p.Extensions[i].encode(number), in...)
		number = p.Extensions[i].Header
	}
	if len(in) > 0xffff && p.PayloadLength == nil {
		return nil, fmt.Errorf("ipv6: %d bytes in one packet", len(in))
	}
	b := make([]byte, 40, 40+len(in))
	binary.BigEndian.PutUint32(b, 6<<28|uint32(p.TrafficClass)<<20|p.FlowLabel&0xfffff)
	binary.BigEndian.PutUint16(b[4:], or(p.PayloadLength, uint16(len(in))))
	b[6], b[7] = number, p.HopLimit
	copy(b[8:], p.Src.AsSlice())
	copy(b[24:], p.Dst.AsSlice())
	return append(b, in...), nil
}

// encode returns the extension header that announces next.
func (e Extension) encode(next uint8) []byte {
	b := padded(append([]byte{next, 0}, e.Body...), 8)
	switch e.Header {
	case ProtoFragment: // always 8 bytes, and the second one is reserved
	case ProtoAH: // counts 32-bit words, less two
		b[1] = uint8(len(b)/4 - 2)
	default:
		b[1] = uint8(len(b)/8 - 1)
	}
	b[1] = or(e.Length, b[1])
	return b
}
