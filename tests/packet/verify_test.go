package packet_test

import (
	"strings"
	"testing"

	"qlbaas/tests/packet"
)

func TestChecksumOfTheStandards(t *testing.T) {
	// RFC 1071, section 3.
	if got := packet.Checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != 0x220d {
		t.Errorf("got %#04x, want 0x220d", got)
	}
	// A header that has been printed in many textbooks, and the same with an odd tail.
	header := []byte{0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7}
	if got := packet.Checksum(header); got != 0xb861 {
		t.Errorf("got %#04x, want 0xb861", got)
	}
	if got, want := packet.Checksum(append(header, 0x01)), uint16(0xb761); got != want {
		t.Errorf("odd tail: got %#04x, want %#04x", got, want)
	}
}

// TestEveryByteCounts flips each byte that a checksum covers and expects Verify to
// see it.
func TestEveryByteCounts(t *testing.T) {
	for name, frame := range wellFormed() {
		t.Run(name, func(t *testing.T) {
			first, err := packet.Find(frame, "ip4.version_ihl")
			if err != nil {
				return // IPv6 has no header checksum; see TestWrongSums
			}
			for i := first.Offset; i < len(frame); i++ {
				frame[i] ^= 0x10
				if packet.Verify(frame) == nil {
					t.Errorf("byte %d changed and nobody noticed", i)
				}
				frame[i] ^= 0x10
			}
		})
	}
}

func TestWrongSums(t *testing.T) {
	ip4 := packet.IPv4{Src: client, Dst: vip, TTL: 9}
	badIP := ip4
	badIP.Sum = packet.SumBad
	ip6 := packet.IPv6{Src: client6, Dst: vip6}
	fragmented := ip6
	fragmented.Extensions = []packet.Extension{packet.Fragment(8, true, 1)}
	bad := packet.SumBad
	for _, c := range []struct {
		name, want string // empty: right as it is
		layers     []packet.Layer
	}{
		{"ip header", "ipv4 header checksum", []packet.Layer{badIP, packet.TCP{}}},
		{"tcp", "tcp checksum", []packet.Layer{ip4, packet.TCP{Sum: bad}}},
		{"tcp partial", "tcp checksum", []packet.Layer{ip4, packet.TCP{Sum: packet.SumPartial}}},
		{"tcp v6", "tcp checksum", []packet.Layer{ip6, packet.TCP{Sum: bad}}},
		{"udp", "udp checksum", []packet.Layer{ip4, packet.UDP{Sum: bad}}},
		{"udp none", "", []packet.Layer{ip4, packet.UDP{Sum: packet.SumZero}}},
		{"udp none v6", "no checksum over IPv6", []packet.Layer{ip6, packet.UDP{Sum: packet.SumZero}}},
		{"udp length", "udp: length 99 in 8 bytes", []packet.Layer{ip4, packet.UDP{Length: new(uint16(99))}}},
		{"icmp", "icmp checksum", []packet.Layer{ip4, packet.ICMPv4{Type: 8, Sum: bad}}},
		{"icmp6", "icmpv6 checksum", []packet.Layer{ip6, packet.ICMPv6{Type: 128, Sum: bad}}},
		{"quoted ip", "quoted packet: ipv4 header", []packet.Layer{
			ip4, packet.TimeExceeded(),
			packet.Quote{Packet: []packet.Layer{badIP, packet.TCP{}}, Keep: 8},
		}},
		{"quoted tcp", "quoted packet: tcp", []packet.Layer{
			ip4, packet.TimeExceeded(),
			packet.Quote{Packet: []packet.Layer{ip4, packet.TCP{Sum: bad}}},
		}},
		{"quoted part of tcp", "", []packet.Layer{
			ip4, packet.TimeExceeded(),
			packet.Quote{Packet: []packet.Layer{ip4, packet.TCP{Sum: bad}}, Keep: 8},
		}},
		{"quoted v6", "quoted packet: udp", []packet.Layer{
			ip6, packet.TimeExceeded6(),
			packet.Quote{Packet: []packet.Layer{ip6, packet.UDP{Sum: bad}}},
		}},
		{"tunnel", "ipv4 header checksum", []packet.Layer{ip4, badIP, packet.TCP{}}},
		{"longer than it is", "total length 2000", []packet.Layer{
			packet.IPv4{Src: client, Dst: vip, TotalLength: new(uint16(2000))}, packet.TCP{},
		}},
		{"shorter than its header", "less than the header's", []packet.Layer{
			packet.IPv4{Src: client, Dst: vip, TotalLength: new(uint16(19))}, packet.TCP{},
		}},
		{"fragment", "", []packet.Layer{
			packet.IPv4{Src: client, Dst: vip, MF: true}, packet.TCP{Sum: bad},
		}},
		{"fragment v6", "", []packet.Layer{fragmented, packet.TCP{Sum: bad}}},
		{"short tcp", "header cut off after 3 bytes", []packet.Layer{
			packet.IPv4{Src: client, Dst: vip, Protocol: new(uint8(6))}, packet.Repeat(3),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := packet.VerifyIP(packet.Frame(c.layers...))
			if c.want == "" && err != nil {
				t.Errorf("got %v, want no error", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestPaddingIsNotSummed(t *testing.T) {
	short := packet.Ethernet{MinLength: 60}
	frame := packet.Frame(short, packet.IPv4{Src: client, Dst: vip}, packet.TCP{})
	frame[59] = 0xff
	if err := packet.Verify(frame); err != nil {
		t.Error(err)
	}
}

// TestComplete finishes a partial checksum as a device does.
func TestComplete(t *testing.T) {
	for name, layer := range map[string][2]packet.Layer{
		"tcp": {packet.TCP{Seq: 1, Sum: packet.SumPartial}, packet.TCP{Seq: 1}},
		"udp": {packet.UDP{DstPort: 53, Sum: packet.SumPartial}, packet.UDP{DstPort: 53}},
	} {
		t.Run(name, func(t *testing.T) {
			ip := packet.IPv4{Src: client, Dst: vip}
			field := map[string]int{"tcp": 16, "udp": 6}[name]
			got, err := packet.Complete(packet.Frame(eth, ip, layer[0], packet.Repeat(99)), 34, field)
			if err != nil {
				t.Fatal(err)
			}
			if d := packet.Diff(got, packet.Frame(eth, ip, layer[1], packet.Repeat(99))); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := packet.Complete(make([]byte, 60), 50, 9); err == nil {
		t.Error("a field beyond the frame was completed")
	}
}
