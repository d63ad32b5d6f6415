package packet_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"qlbaas/tests/packet"
)

var (
	client  = netip.MustParseAddr("10.10.10.4")
	vip     = netip.MustParseAddr("172.16.100.11")
	client6 = netip.MustParseAddr("2001:db8:a::4")
	vip6    = netip.MustParseAddr("2001:db8:b::11")
	eth     = packet.Ethernet{
		Dst: net.HardwareAddr{0xfa, 0x16, 0x3e, 1, 2, 3},
		Src: net.HardwareAddr{0xfa, 0x16, 0x3e, 4, 5, 6},
	}
)

// wellFormed is one frame of every kind that the builder knows.
func wellFormed() map[string][]byte {
	ip4 := packet.IPv4{Src: client, Dst: vip, TTL: 64, TOS: 0x10, ID: 77, DF: true}
	ip6 := packet.IPv6{Src: client6, Dst: vip6, HopLimit: 63, TrafficClass: 0x28, FlowLabel: 0xabcde}
	options4, tagged := ip4, eth
	options4.Options = []byte{7, 7, 4, 0, 0, 0, 0} // record route, empty
	tagged.VLANs = []packet.VLAN{{ID: 100, Priority: 5, TPID: packet.TypeQinQ}, {ID: 7, DropEligible: true}}
	extended := ip6
	extended.Extensions = []packet.Extension{
		packet.HopByHop(nil),
		packet.DestinationOptions([]byte{1, 8, 0, 0, 0, 0, 0, 0, 0, 0}),
		packet.Routing(0, 0, make([]byte, 4)),
	}
	syn := packet.TCP{
		SrcPort: 40000, DstPort: 80, Seq: 0xfffffff0, Flags: packet.SYN, Window: 64240,
		Options: []packet.TCPOption{
			packet.MSS(1460), packet.SACKPermitted(), packet.Timestamps(123456, 0),
			packet.NOP(), packet.WindowScale(7),
		},
	}
	data := packet.TCP{
		SrcPort: 80, DstPort: 40000, Seq: 5, Ack: 9, Flags: packet.ACK | packet.PSH | packet.URG, Urgent: 3,
		Options: []packet.TCPOption{packet.SACK([2]uint32{1, 2}, [2]uint32{3, 4}), packet.NOPs(2)},
	}
	udp := packet.UDP{SrcPort: 50000, DstPort: 50001}
	rst := packet.TCP{SrcPort: 1, DstPort: 2, Flags: packet.RST | packet.ACK | packet.ECE | packet.CWR}
	quoted := packet.Quote{Packet: []packet.Layer{ip4, syn, packet.Repeat(100)}, Keep: 8}
	return map[string][]byte{
		"syn":               packet.Frame(eth, ip4, syn),
		"data, odd length":  packet.Frame(eth, ip4, data, packet.Repeat(1001)),
		"reset":             packet.Frame(eth, ip4, rst, packet.Repeat(6)), // gopacket pads short frames
		"two tags":          packet.Frame(tagged, ip4, syn),
		"ip options":        packet.Frame(eth, options4, syn, packet.Repeat(3)),
		"udp":               packet.Frame(eth, ip4, udp, packet.Repeat(19)),
		"ping":              packet.Frame(eth, ip4, packet.EchoRequest(3, 4), packet.Repeat(56)),
		"unreachable":       packet.Frame(eth, ip4, packet.Unreachable(3), quoted),
		"frag needed":       packet.Frame(eth, ip4, packet.FragNeeded(1400), quoted),
		"ttl exceeded":      packet.Frame(eth, ip4, packet.TimeExceeded(), quoted),
		"syn over v6":       packet.Frame(eth, ip6, syn),
		"udp over v6":       packet.Frame(eth, ip6, udp, packet.Repeat(9)),
		"extension headers": packet.Frame(eth, extended, data, packet.Repeat(33)),
		"ping over v6":      packet.Frame(eth, ip6, packet.EchoRequest6(3, 4), packet.Repeat(8)),
		"too big over v6": packet.Frame(eth, ip6, packet.PacketTooBig(1280),
			packet.Quote{Packet: []packet.Layer{ip6, syn}, Keep: 20}),
	}
}

// TestSecondOpinion has every frame taken apart and written again by gopacket,
// which computes lengths and checksums its own way.
func TestSecondOpinion(t *testing.T) {
	for name, frame := range wellFormed() {
		t.Run(name, func(t *testing.T) {
			again, err := rewrite(frame)
			if err != nil {
				t.Fatal(err)
			}
			if d := packet.Diff(frame, again); d != "" {
				t.Errorf("built, and as gopacket writes it:\n%s", d)
			}
			if err := packet.Verify(frame); err != nil {
				t.Error(err)
			}
		})
	}
}

func rewrite(frame []byte) ([]byte, error) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		return nil, e.Error()
	}
	for _, l := range p.Layers() {
		if s, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := s.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				return nil, err
			}
		}
	}
	out := gopacket.NewSerializeBuffer()
	err := gopacket.SerializePacket(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, p)
	return out.Bytes(), err
}

// TestOptionAtEveryOffset moves the timestamps through the whole option space.
func TestOptionAtEveryOffset(t *testing.T) {
	for n := range 31 {
		frame := packet.Frame(eth, packet.IPv4{Src: client, Dst: vip, TTL: 1},
			packet.TCP{Flags: packet.ACK, Options: []packet.TCPOption{packet.NOPs(n), packet.Timestamps(11, 22)}})
		if err := packet.Verify(frame); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range packet.Dissect(frame) {
			if f.Value == "timestamps 11 22" {
				found = f.Offset == 14+20+20+n
			}
		}
		if !found {
			t.Errorf("no timestamps at offset %d: %v", n, packet.Dissect(frame))
		}
	}
}

func TestWhatIsSaidIsWritten(t *testing.T) {
	frame := packet.Frame(
		packet.Ethernet{Type: new(uint16(0x1234)), MinLength: 60},
		packet.IPv4{
			Src: client, Dst: vip, Version: new(uint8(7)), IHL: new(uint8(15)), TotalLength: new(uint16(3)),
			Protocol: new(uint8(200)), MF: true, Reserved: true, FragmentOffset: 65528, Sum: packet.SumZero,
		},
		packet.TCP{DataOffset: new(uint8(1)), Flags: 0xfff, Sum: packet.SumZero},
	)
	want := []byte{
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34,
		0x7f, 0, 0, 3, 0, 0, 0xbf, 0xff, 0, 200, 0, 0, 10, 10, 10, 4, 172, 16, 100, 11,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	}
	want = want[:60]
	if !bytes.Equal(frame, want) {
		t.Errorf("got  %x\nwant %x", frame, want)
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	ip4 := packet.IPv4{Src: client, Dst: vip}
	for _, c := range []struct {
		want   string
		layers []packet.Layer
	}{
		{"ethernet: nothing says what follows", []packet.Layer{eth, packet.Repeat(3)}},
		{"ethernet: address of 3 bytes", []packet.Layer{packet.Ethernet{Dst: make([]byte, 3)}, ip4, packet.TCP{}}},
		{"ipv4: nothing says what follows", []packet.Layer{ip4}},
		{"not both IPv4", []packet.Layer{packet.IPv4{Src: client6, Dst: vip}, packet.TCP{}}},
		{"not both IPv6", []packet.Layer{packet.IPv6{Src: client6, Dst: vip}, packet.TCP{}}},
		{"ipv4: 41 bytes of options", []packet.Layer{packet.IPv4{Src: client, Dst: vip, Options: make([]byte, 41)}, packet.TCP{}}},
		{"ipv4: fragment offset 9", []packet.Layer{packet.IPv4{Src: client, Dst: vip, FragmentOffset: 9}, packet.TCP{}}},
		{"ipv4: 65556 bytes", []packet.Layer{ip4, packet.UDP{}, packet.Repeat(65528)}},
		{"tcp: 44 bytes of options", []packet.Layer{ip4, packet.TCP{Options: []packet.TCPOption{packet.NOPs(41)}}}},
		{"protocol 6: no IP header", []packet.Layer{packet.TCP{}}},
		{"no partial checksum", []packet.Layer{packet.IPv4{Src: client, Dst: vip, Sum: packet.SumPartial}, packet.TCP{}}},
		{"icmp: there is no pseudo", []packet.Layer{ip4, packet.ICMPv4{Sum: packet.SumPartial}}},
		{"quoted packet: ipv4: nothing", []packet.Layer{ip4, packet.TimeExceeded(), packet.Quote{Packet: []packet.Layer{ip4}}}},
	} {
		if _, err := packet.Build(c.layers...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

// TestUDPNeverSaysZero finds a payload whose right checksum is zero, which UDP
// must write as 0xffff.
func TestUDPNeverSaysZero(t *testing.T) {
	ip := packet.IPv4{Src: client, Dst: vip}
	probe := packet.Frame(ip, packet.UDP{Sum: packet.SumZero}, packet.Payload{0, 0})
	// The payload that adds the missing part to a sum of 0xffff.
	udp := packet.Frame(ip, packet.UDP{}, packet.Payload{0, 0})
	payload := packet.Payload(udp[26:28])
	frame := packet.Frame(ip, packet.UDP{}, payload)
	if len(probe) != len(frame) || frame[26] != 0xff || frame[27] != 0xff {
		t.Errorf("checksum % x, want ff ff", frame[26:28])
	}
	if err := packet.VerifyIP(frame); err != nil {
		t.Error(err)
	}
}
