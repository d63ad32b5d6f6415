package healthd

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

func TestPingProbe(t *testing.T) {
	ns := newNetns(t)
	ping := func(addr string) string {
		t.Helper()
		return outcome(t, ns, addr, Check{Type: PING, Timeout: soon})
	}
	for _, addr := range []string{"127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"} {
		if got := ping(addr); got != "passed" {
			t.Errorf("%s: %q", addr, got)
		}
	}
	if got, want := ping("192.0.2.1:80"), "failed: connect: network is unreachable"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	ns.sysctl(t, "net.ipv4.icmp_echo_ignore_all", "1")
	ns.sysctl(t, "net.ipv6.icmp.echo_ignore_all", "1")
	for _, addr := range []string{"127.0.0.1:80", "[::1]:80"} {
		if got, want := ping(addr), "failed: wait for the echo reply: timed out"; got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
}

// Many probes to the same and to other members at once each find their own answer.
func TestPingProbesAtOnce(t *testing.T) {
	ns := newNetns(t)
	var work sync.WaitGroup
	for i := range 100 {
		work.Go(func() {
			addr := fmt.Sprintf("127.0.0.%d:80", 1+i%10)
			if got := outcome(t, ns, addr, Check{Type: PING}); got != "passed" {
				t.Errorf("%s: %q", addr, got)
			}
		})
	}
	work.Wait()
}

func TestOnlyTheAnswerAnswers(t *testing.T) {
	asked := &icmp.Echo{ID: 7, Seq: 9, Data: bytes.Repeat([]byte{0xab}, nonceLen)}
	header := []byte{0x45, 19: 0}
	withOptions := []byte{0x46, 23: 0}
	v4 := func(change func(*icmp.Message, *icmp.Echo)) []byte {
		return marshal(t, ipv4.ICMPTypeEchoReply, asked, change)
	}
	v6 := func(change func(*icmp.Message, *icmp.Echo)) []byte {
		return marshal(t, ipv6.ICMPTypeEchoReply, asked, change)
	}
	same := func(*icmp.Message, *icmp.Echo) {}
	otherID := func(_ *icmp.Message, e *icmp.Echo) { e.ID++ }
	for _, c := range []struct {
		name   string
		f      family
		packet []byte
		want   bool
	}{
		{"the answer", icmp4, join(header, v4(same)), true},
		{"behind IP options", icmp4, join(withOptions, v4(same)), true},
		{"the answer, IPv6", icmp6, v6(same), true},
		{"another id", icmp4, join(header, v4(otherID)), false},
		{"another id, IPv6", icmp6, v6(otherID), false},
		{"another sequence number", icmp4, join(header, v4(func(_ *icmp.Message, e *icmp.Echo) { e.Seq++ })), false},
		{"another payload", icmp4, join(header, v4(func(_ *icmp.Message, e *icmp.Echo) { e.Data[3]++ })), false},
		{"a shorter payload", icmp4, join(header, v4(func(_ *icmp.Message, e *icmp.Echo) { e.Data = e.Data[:8] })), false},
		{"a longer payload", icmp4, join(header, v4(func(_ *icmp.Message, e *icmp.Echo) { e.Data = append(e.Data, 0) })), false},
		{"the request itself", icmp4, join(header, v4(func(m *icmp.Message, _ *icmp.Echo) { m.Type = ipv4.ICMPTypeEcho })), false},
		{"the request itself, IPv6", icmp6, v6(func(m *icmp.Message, _ *icmp.Echo) { m.Type = ipv6.ICMPTypeEchoRequest }), false},
		{"a code", icmp4, join(header, v4(func(m *icmp.Message, _ *icmp.Echo) { m.Code = 1 })), false},
		{"cut short", icmp4, join(header, v4(same)[:10]), false},
		{"only an IP header", icmp4, header, false},
		{"a header longer than the packet", icmp4, []byte{0x4f, 0, 0, 0}, false},
		{"a header shorter than allowed", icmp4, join([]byte{0x40}, v4(same)), false},
		{"nothing", icmp4, nil, false},
		{"nothing, IPv6", icmp6, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.f.answers(c.packet, asked); got != c.want {
				t.Errorf("answers = %v", got)
			}
		})
	}
}

func marshal(t *testing.T, typ icmp.Type, asked *icmp.Echo, change func(*icmp.Message, *icmp.Echo)) []byte {
	t.Helper()
	echo := *asked
	echo.Data = bytes.Clone(asked.Data)
	msg := &icmp.Message{Type: typ, Body: &echo}
	change(msg, &echo)
	packet, err := msg.Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// The kernel hands a probe's socket echo replies of its own member and nothing
// else, or a thousand probes would read each other's packets.
func TestPingSocketHearsOnlyItsMember(t *testing.T) {
	ns := newNetns(t)
	p := &prober{sockets: ns}
	c, err := p.dial(t.Context(), endpoint{"p", netip.MustParseAddrPort("127.0.0.1:0")}, unix.SOCK_RAW, unix.IPPROTO_ICMP, onlyReplies4)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 10 {
		if got := outcome(t, ns, "127.0.0.2:80", Check{Type: PING}); got != "passed" {
			t.Fatal(got)
		}
	}
	// The first packet that it does get is the answer to this one.
	echo := &icmp.Echo{ID: 1, Seq: 2, Data: bytes.Repeat([]byte{1}, nonceLen)}
	packet := marshal(t, ipv4.ICMPTypeEcho, echo, func(*icmp.Message, *icmp.Echo) {})
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil || !icmp4.answers(buf[:n], echo) {
		t.Errorf("read % x (%v)", buf[:n], err)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0x45, 27: 0})
	f.Add([]byte{0x4f})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, packet []byte) {
		asked := &icmp.Echo{ID: 7, Seq: 9, Data: bytes.Repeat([]byte{0xab}, nonceLen)}
		for _, f := range []family{icmp4, icmp6} {
			if f.answers(packet, asked) && !bytes.Contains(packet, asked.Data) {
				t.Errorf("% x", packet)
			}
		}
	})
}
