package packet_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"qlbaas/tests/packet"
)

func TestDiffNamesTheField(t *testing.T) {
	ip := packet.IPv4{Src: client, Dst: vip, TTL: 64}
	base := packet.Frame(eth, ip, packet.TCP{SrcPort: 1, DstPort: 80, Flags: packet.SYN, Options: []packet.TCPOption{packet.MSS(1460)}}, packet.Repeat(90))
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   string
	}{
		{"port", func(b []byte) []byte { b[37] = 90; return b }, "tcp.dport          got 90                       want 80\n"},
		{"ttl", func(b []byte) []byte { b[22]--; return b }, "ip4.ttl            got 63                       want 64\n"},
		{"flags", func(b []byte) []byte { b[47] |= 0x10; return b }, "got SYN|ACK                  want SYN\n"},
		{"option", func(b []byte) []byte { b[57] = 0; return b }, "got mss 1280                 want mss 1460\n"},
		{"payload behind the quoted part", func(b []byte) []byte { b[120] = 0xee; return b }, "got at 62 of 90: ee3f"},
		{"cut", func(b []byte) []byte { return b[:40] }, "tcp.seq            got nothing"},
		{"tail", func(b []byte) []byte { return append(b, 1) }, "padding            got 1 bytes 01               want nothing\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := packet.Diff(c.change(bytes.Clone(base)), base)
			if !strings.Contains(got, c.want) {
				t.Errorf("got\n%swant a line with %q", got, c.want)
			}
		})
	}
	if d := packet.Diff(base, bytes.Clone(base)); d != "" {
		t.Errorf("equal frames differ:\n%s", d)
	}
}

func TestFind(t *testing.T) {
	frame := packet.Frame(eth, packet.IPv4{Src: vip, Dst: client}, packet.TimeExceeded(),
		packet.Quote{Packet: []packet.Layer{packet.IPv4{Src: client, Dst: vip}, packet.TCP{DstPort: 8080}}, Keep: 8})
	f, err := packet.Find(frame, "quoted.tcp.dport")
	if err != nil || f.Value != "8080" || f.Offset != 14+20+8+20+2 || f.Size != 2 {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := packet.Find(frame, "quoted.tcp.window"); err == nil {
		t.Error("found a field that is cut off")
	}
}

func TestSummary(t *testing.T) {
	ip := packet.IPv4{Src: client, Dst: vip}
	arp := append(packet.Frame(packet.Ethernet{Type: new(uint16(packet.TypeARP))}),
		0, 1, 8, 0, 6, 4, 0, 2, 0xfa, 0x16, 0x3e, 0, 0, 1, 172, 16, 100, 11, 0, 0, 0, 0, 0, 0, 172, 16, 100, 1)
	for want, frame := range map[string][]byte{
		"10.10.10.4:5 > 172.16.100.11:80 tcp SYN|ACK seq 7 ack 8 len 9": packet.Frame(eth, ip,
			packet.TCP{SrcPort: 5, DstPort: 80, Flags: packet.SYN | packet.ACK, Seq: 7, Ack: 8}, packet.Repeat(9)),
		"10.10.10.4:5 > 172.16.100.11:6 udp len 0":                                    packet.Frame(eth, ip, packet.UDP{SrcPort: 5, DstPort: 6}),
		"10.10.10.4 > 172.16.100.11 icmp type 8 code 0":                               packet.Frame(eth, ip, packet.EchoRequest(1, 1)),
		"10.10.10.4 > 172.16.100.11 protocol 4, 54 bytes":                             packet.Frame(eth, packet.IPv4{Src: client, Dst: vip, Protocol: new(uint8(4))}, packet.Repeat(20)),
		"arp operation 2: 172.16.100.11 is at fa:16:3e:00:00:01, target 172.16.100.1": arp,
		"ethernet: frame of 3 bytes":                                                  make([]byte, 3),
		"ip: no header":                                                               packet.Frame(packet.Ethernet{Type: new(uint16(packet.TypeIPv4))}),
	} {
		if got := packet.Summary(frame); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzFrame feeds anything to everything that reads frames.
func FuzzFrame(f *testing.F) {
	for _, frame := range wellFormed() {
		f.Add(frame, uint16(20), byte(1))
	}
	f.Fuzz(func(t *testing.T, frame []byte, at uint16, flip byte) {
		checkDissection(t, frame)
		_ = packet.Verify(frame)
		_ = packet.VerifyIP(frame)
		_ = packet.Summary(frame)
		other := bytes.Clone(frame)
		if len(other) > 0 {
			other[int(at)%len(other)] ^= flip
		}
		if d := packet.Diff(frame, other); (d == "") != bytes.Equal(frame, other) {
			t.Errorf("diff of %x and %x: %q", frame, other, d)
		}
	})
}

// checkDissection fails unless the fields are a gapless row with unique names.
func checkDissection(t *testing.T, frame []byte) {
	t.Helper()
	at, seen := 0, map[string]bool{}
	for _, f := range packet.Dissect(frame) {
		if f.Offset != at || f.Size <= 0 || seen[f.Name] {
			t.Fatalf("field %+v at %d (name seen: %v) of %x", f, at, seen[f.Name], frame)
		}
		at += f.Size
		seen[f.Name] = true
	}
	if at != len(frame) {
		t.Fatalf("%d of %d bytes named in %x", at, len(frame), frame)
	}
}

// FuzzBuild writes arbitrary headers: the result is taken apart into what was
// asked for, and its checksums hold.
func FuzzBuild(f *testing.F) {
	f.Add(uint16(1), uint16(80), uint32(7), uint16(0x12), []byte{2, 4, 5, 0xb4}, []byte("hello"), true)
	f.Add(uint16(1), uint16(80), uint32(7), uint16(0x12), []byte{8, 99}, []byte{}, false)
	f.Fuzz(func(t *testing.T, sport, dport uint16, seq uint32, flags uint16, option, payload []byte, six bool) {
		tcp := packet.TCP{SrcPort: sport, DstPort: dport, Seq: seq, Flags: packet.Flags(flags), Options: []packet.TCPOption{option}}
		var ip packet.Layer = packet.IPv4{Src: client, Dst: vip}
		if six {
			ip = packet.IPv6{Src: client6, Dst: vip6}
		}
		frame, err := packet.Build(eth, ip, tcp, packet.Payload(payload))
		if err != nil {
			if len(option) <= 40 && len(payload) < 60000 {
				t.Fatal(err)
			}
			return
		}
		checkDissection(t, frame)
		if err := packet.Verify(frame); err != nil {
			t.Error(err)
		}
		if got, err := packet.Find(frame, "tcp.seq"); err != nil || got.Value != strconv.FormatUint(uint64(seq), 10) {
			t.Errorf("sequence number %+v, %v", got, err)
		}
	})
}
