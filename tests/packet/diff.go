package packet

import (
	"bytes"
	"fmt"
	"strings"
)

// Diff compares two frames field by field and returns one line for each field that
// differs, is missing or is too much; empty means that the bytes are equal.
//
//	tcp.dport      got 8080        want 80
func Diff(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	g, w := Dissect(got), Dissect(want)
	var out strings.Builder
	for _, f := range w {
		other, ok := find(g, f.Name)
		switch {
		case !ok:
			line(&out, f.Name, "nothing", f.Value)
		case !bytes.Equal(other.in(got), f.in(want)):
			a, b := distinct(other, f, got, want)
			line(&out, f.Name, a, b)
		}
	}
	for _, f := range g {
		if _, ok := find(w, f.Name); !ok {
			line(&out, f.Name, f.Value, "nothing")
		}
	}
	if out.Len() == 0 {
		line(&out, "order of fields", fmt.Sprintf("%x", got), fmt.Sprintf("%x", want))
	}
	return out.String()
}

func line(out *strings.Builder, name, got, want string) {
	fmt.Fprintf(out, "%-18s got %-24s want %s\n", name, got, want)
}

func find(fields []Field, name string) (Field, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// in is the field's bytes in its frame.
func (f Field) in(frame []byte) []byte { return frame[f.Offset : f.Offset+f.Size] }

// distinct is both fields' values; where the words do not show the difference
// (long payloads), it quotes the bytes around the first one that differs.
func distinct(g, w Field, got, want []byte) (string, string) {
	if g.Value != w.Value {
		return g.Value, w.Value
	}
	a, b := g.in(got), w.in(want)
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	quote := func(s []byte) string {
		return fmt.Sprintf("at %d of %d: %x", at, len(s), s[min(at, len(s)):min(at+16, len(s))])
	}
	return quote(a), quote(b)
}

// Summary is a frame in one line, for logs and captures:
//
//	10.10.10.4:40000 > 172.16.100.11:80 tcp SYN seq 1 ack 0 len 0
func Summary(frame []byte) string {
	b, etherType, err := skipLink(frame)
	if err != nil {
		return err.Error()
	}
	fields := Dissect(frame)
	value := func(name string) string {
		f, _ := find(fields, name)
		return f.Value
	}
	if etherType == TypeARP {
		return fmt.Sprintf("arp operation %s: %s is at %s, target %s",
			value("arp.operation"), value("arp.sender_ip"), value("arp.sender_mac"), value("arp.target_ip"))
	}
	if etherType != TypeIPv4 && etherType != TypeIPv6 {
		return fmt.Sprintf("ethertype %#04x, %d bytes", etherType, len(frame))
	}
	h, err := parseIP(b)
	if err != nil {
		return err.Error()
	}
	src, dst := h.addresses.src.String(), h.addresses.dst.String()
	payload, _ := find(fields, "payload")
	switch {
	case h.fragment:
		return fmt.Sprintf("%s > %s fragment of protocol %d, %s, %d bytes", src, dst, h.proto, value("ip4.fragment"), len(frame))
	case h.proto == ProtoTCP:
		return fmt.Sprintf("%s:%s > %s:%s tcp %s seq %s ack %s len %d", src, value("tcp.sport"), dst, value("tcp.dport"),
			value("tcp.flags"), value("tcp.seq"), value("tcp.ack"), payload.Size)
	case h.proto == ProtoUDP:
		return fmt.Sprintf("%s:%s > %s:%s udp len %d", src, value("udp.sport"), dst, value("udp.dport"), payload.Size)
	case h.proto == ProtoICMPv4:
		return fmt.Sprintf("%s > %s icmp type %s code %s", src, dst, value("icmp.type"), value("icmp.code"))
	case h.proto == ProtoICMPv6:
		return fmt.Sprintf("%s > %s icmp6 type %s code %s", src, dst, value("icmp6.type"), value("icmp6.code"))
	}
	return fmt.Sprintf("%s > %s protocol %d, %d bytes", src, dst, h.proto, len(frame))
}
