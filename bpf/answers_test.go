package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// Packets of the balancer's own: what they hold, byte by byte, is compared by expect
// with what icmpAnswer and resetBy build from the rules alone.

const answersPerSecond = 100

// icmpAnswer is the error from whom a packet was for to its sender, quoting IP and
// transport header as they came. It goes back the way that the packet came by.
func icmpAnswer(in []byte, error packet.Layer) []byte {
	e := packet.Ethernet{Dst: in[6:12], Src: in[0:6]}
	version := in[ethernetLength] >> 4
	from, to := addressesOf(in)
	quote := packet.Payload(in[ethernetLength : ethernetLength+headersOf(in)])
	if version == 6 {
		return packet.Frame(e, packet.IPv6{Src: from, Dst: to, HopLimit: 64}, error, quote)
	}
	return packet.Frame(e, packet.IPv4{Src: from, Dst: to, TTL: 64, DF: true}, error, quote)
}

// strays is a client's segment that belongs to no flow: its sender hears so.
func (c conn) strays(what string, s segment) {
	c.w.Helper()
	in, _ := c.up(s)
	c.w.expect(what, in, answers("no_entry", s.resetBy(c.vip(), c.client)))
}

func TestAnswers(t *testing.T) {
	rows.Proves(t, 21, 22, 23, 24)
	onBothHooks(t, options{}, func(w *world) {
		w.run("RST to a stranger", resetToStranger)
		w.run("none to a RST", func(w *world) {
			for _, flags := range []packet.Flags{packet.RST, packet.RST | packet.ACK} {
				w.expect(flags.String(), seg(flags, 7, 7).arrives(client(1), vip), drops("no_entry"))
			}
		})
		w.run("none to IP options", noneToOptions)
		w.run("so many a second", answersAreLimited)
		w.run("refusals are not limited", func(w *world) {
			w.configure(func(g *maps.Generation) { g.VIP.Refuse = true })
			for range 2 * answersPerSecond {
				if got := w.send(seg(packet.SYN, 9, 0).arrives(client(1), vip)); got.action != answered {
					w.Fatalf("SYN was %s", got.action)
				}
			}
		})
		w.run("no longer than the question", shortAnswers)
		w.run("back where it came from", backToSender)
		w.run("a quote as it came", quoteAsItCame)
		w.run("too big, both ways", tooBigBothWays)
	})
}

// resetToStranger: whatever it acknowledges is where the RST stands.
func resetToStranger(w *world) {
	for _, ack := range []uint32{0, 1, 0x7fffffff, 0xffffffff} {
		for _, size := range []int{0, 1, 500, 1460} {
			s := seg(packet.ACK|packet.PSH, 5, ack).with(size)
			w.refused(fmt.Sprintf("ACK %#x with %d bytes", ack, size), s, "no_entry")
		}
	}
	s := seg(packet.ACK, 5, 6).options(packet.NOPs(2), packet.Timestamps(7, 8))
	w.refused("ACK with timestamps", s, "no_entry")
}

// noneToOptions: the quote, or the answer, would be longer than what is known of the
// packet.
func noneToOptions(w *world) {
	c := w.open(client(1), 0, firstPort)
	for _, test := range []struct {
		reason string
		ttl    uint8
		c      conn
	}{
		{"ttl", 1, c},
		{"no_entry", 64, conn{w: w, client: client(2)}},
	} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(100)
		s.ip.TTL, s.ip.Options = test.ttl, []byte{1, 1, 1, 0}
		w.expect(test.reason, s.arrives(test.c.client, vip), drops(test.reason).late())
	}
}

// answersAreLimited: what anybody can ask for is given a hundred times a second, and
// the next second again.
func answersAreLimited(w *world) {
	stray := seg(packet.ACK, 5, 6)
	refusedOnes := func(n int) (given int) {
		for range n {
			got := w.send(stray.arrives(client(1), vip))
			if got.action == answered {
				given++
			} else if got.action != dropped || got.by != tcHook {
				w.Fatalf("ACK was %s by %s", got.action, got.by)
			}
		}
		return given
	}
	w.pinSecond()
	if given := refusedOnes(3 * answersPerSecond); given != answersPerSecond {
		w.Errorf("%d answers, want %d", given, answersPerSecond)
	}
	// Other limited kinds share it; an unlimited one does not.
	ping := seg(packet.SYN, 5, 0)
	ping.ip.TTL = 1
	if got := w.send(ping.arrives(client(1), vip)); got.action != dropped {
		w.Errorf("SYN without hops was %s", got.action)
	}
	w.configure(func(g *maps.Generation) { g.VIP.Refuse = true })
	w.refused("SYN", seg(packet.SYN, 5, 0), "no_member")
	state := w.poolState()
	state.AnswerSecond--
	own := w.pool.Maps()
	w.must(own.PoolState.Put(uint32(0), state))
	if given := refusedOnes(1); given != 1 {
		w.Errorf("no answer in a new second")
	}
}

// pinSecond waits for the beginning of one of the programs' seconds, so that a test
// that takes a part of it sees one only.
func (w *world) pinSecond() {
	w.Helper()
	const perSecond = 954
	for {
		var now unix.Timespec
		w.must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
		left := perSecond - uint64(now.Nano())>>20%perSecond
		if left > perSecond*3/4 && left < perSecond-5 {
			return
		}
		<-time.After(time.Duration(left%perSecond+8) << 20)
	}
}

// shortAnswers: an answer never holds more bytes than came in, but for an ICMP
// error's own header; padding and payload are not given back.
func shortAnswers(w *world) {
	for _, size := range []int{0, 1, 6, 1460} {
		in := append(seg(packet.ACK, 5, 6).arrives(client(1), vip), make([]byte, 0, size)...)
		in = append(in, packet.Repeat(size)...) // as padding
		got := w.send(in)
		if got.action != answered || len(got.frame) > len(in) {
			w.Errorf("%d bytes were %s with %d", len(in), got.action, len(got.frame))
		}
		w.sums("RST", got.frame)
		s := seg(packet.SYN, 5, 0).with(size)
		s.ip.TTL = 1
		in = s.arrives(client(1), vip)
		got = w.send(in)
		if got.action != answered || len(got.frame) > len(in)+28 {
			w.Errorf("%d bytes without hops were %s with %d", len(in), got.action, len(got.frame))
		}
		w.sums("time exceeded", got.frame)
	}
}

func backToSender(w *world) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 77}
	s := seg(packet.SYN, 5, 0)
	s.ip.TTL = 1
	in := s.frame(ownMAC, other, client(1), vip)
	w.expect("time exceeded", in, answers("ttl", icmpAnswer(in, packet.TimeExceeded())))
}

// quoteAsItCame: bits that a rewrite would have changed are quoted as the sender sent
// them.
func quoteAsItCame(w *world) {
	c := w.open(client(1), 0, firstPort)
	for _, size := range []int{0, 1, 2, 3, 700} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(size).options(packet.NOPs(2), packet.Timestamps(7, 8))
		s.ip.TTL, s.ip.TOS, s.ip.ID, s.ip.DF = 1, 0xb8, 0xffff, false
		in, _ := c.up(s)
		w.expect(fmt.Sprintf("client's with %d bytes", size), in, answers("ttl", icmpAnswer(in, packet.TimeExceeded())))
		in, _ = c.down(s)
		w.expect(fmt.Sprintf("member's with %d bytes", size), in, answers("ttl", icmpAnswer(in, packet.TimeExceeded())))
	}
	bad := seg(packet.ACK, c.cseq, c.mseq)
	bad.ip.TTL, bad.tcp.Sum = 1, packet.SumBad
	in, _ := c.up(bad)
	w.expect("with a bad sum", in, answers("ttl", icmpAnswer(in, packet.TimeExceeded())))
}

// tooBigBothWays: the client or the member behind the narrow link; the error names
// the link's MTU and comes from whom the packet was for.
func tooBigBothWays(w *world) {
	from := client(1)
	c := w.open(narrowClient(), 0, firstPort)
	s := seg(packet.ACK, c.mseq, c.cseq).with(narrowMTU - 40 + 1)
	in, _ := c.down(s)
	w.expect("to the client", in, answers("too_big", icmpAnswer(in, packet.FragNeeded(narrowMTU))).refreshing())
	s.ip.DF = false
	in, _ = c.down(s)
	w.expect("to the client, without DF", in, drops("too_big").refreshing())
	w.moveMember(narrow)
	c = w.open(from, 0, firstPort+1)
	s = seg(packet.ACK, c.cseq, c.mseq).with(narrowMTU - 40 + 1)
	in, _ = c.up(s)
	got := w.expect("to the member", in, answers("too_big", icmpAnswer(in, packet.FragNeeded(narrowMTU))).refreshing())
	w.sums("fragmentation needed", got.frame)
	if mtu := binary.BigEndian.Uint16(got.frame[ethernetLength+26:]); mtu != narrowMTU {
		w.Errorf("announces %d", mtu)
	}
	if !bytes.Equal(got.frame[ethernetLength+28:ethernetLength+68], in[ethernetLength:ethernetLength+40]) {
		w.Error("does not quote the packet as the client sent it")
	}
	c.works()
}
