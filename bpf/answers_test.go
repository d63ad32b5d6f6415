package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
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
	for _, o := range []options{{}, {ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) { onHooks(t, o, answersOf) })
	}
}

func answersOf(w *world) {
	w.run("RST to a stranger", resetToStranger)
	w.run("none to a RST", func(w *world) {
		for _, flags := range []packet.Flags{packet.RST, packet.RST | packet.ACK} {
			w.expect(flags.String(), w.arrives(seg(flags, 7, 7)), drops("no_entry"))
		}
	})
	w.run("none to options", noneToOptions)
	w.run("none to a broadcast", noneToBroadcast)
	w.run("so many a second", answersAreLimited)
	w.run("refusals are not limited", func(w *world) {
		w.configure(func(g *maps.Generation) { g.VIP.Refuse = true })
		for range 2 * answersPerSecond {
			if got := w.send(w.arrives(seg(packet.SYN, 9, 0))); got.action != answered {
				w.Fatalf("SYN was %s", got.action)
			}
		}
	})
	w.run("no longer than the question", shortAnswers)
	w.run("back where it came from", backToSender)
	w.run("a quote as it came", quoteAsItCame)
	w.run("too big, both ways", tooBigBothWays)
	w.run("RST to the peer of a keepalive", resetToPeer)
}

// arrives is a client's segment to the VIP.
func (w *world) arrives(s segment) []byte { return s.arrives(w.host(client(1)), w.gen.VIP.Address) }

// timeExceeded and fragNeeded are the family's errors.
func (w *world) timeExceeded() packet.Layer {
	if w.ipv6 {
		return packet.TimeExceeded6()
	}
	return packet.TimeExceeded()
}

func (w *world) fragNeeded(mtu uint16) packet.Layer {
	if w.ipv6 {
		return packet.PacketTooBig(uint32(mtu))
	}
	return packet.FragNeeded(mtu)
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
		{"no_entry", 64, conn{w: w, client: w.host(client(2))}},
	} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(100)
		s.ip.TTL, s.ip.Options = test.ttl, []byte{1, 1, 1, 0}
		s.ext = []packet.Extension{{Header: packet.ProtoDstOption, Body: make([]byte, 6)}}
		none := drops(test.reason).late()
		if !w.ipv6 {
			none = drops("ip_opts") // whose answer would be no other
		}
		w.expect(test.reason, s.arrives(test.c.client, w.gen.VIP.Address), none)
	}
}

// noneToBroadcast: what was not sent to us alone is answered by nobody (RFC 1122, 3.2.2).
func noneToBroadcast(w *world) {
	rows.Proves(w, 94)
	for _, to := range []net.HardwareAddr{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}, {0x33, 0x33, 0, 0, 0, 1}} {
		for _, s := range []segment{seg(packet.ACK, 5, 6), seg(packet.SYN, 5, 0), datagram(9)} {
			s.ip.TTL = 1
			in := s.frame(to, gatewayMAC, w.host(client(1)), w.gen.VIP.Address)
			w.expect("to "+to.String(), in, drops("l2_bcast"))
		}
	}
}

// answersAreLimited: what anybody can ask for is given a hundred times a second, and
// the next second again.
func answersAreLimited(w *world) {
	stray := seg(packet.ACK, 5, 6)
	refusedOnes := func(n int) (given int) {
		for range n {
			got := w.send(w.arrives(stray))
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
	if got := w.send(w.arrives(ping)); got.action != dropped {
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
		in := append(w.arrives(seg(packet.ACK, 5, 6)), make([]byte, 0, size)...)
		in = append(in, packet.Repeat(size)...) // as padding
		got := w.send(in)
		if got.action != answered || len(got.frame) > len(in) {
			w.Errorf("%d bytes were %s with %d", len(in), got.action, len(got.frame))
		}
		w.sums("RST", got.frame)
		s := seg(packet.SYN, 5, 0).with(size)
		s.ip.TTL = 1
		in = w.arrives(s)
		got = w.send(in)
		if got.action != answered || len(got.frame) > len(in)+transportOf(in)-ethernetLength+8 {
			w.Errorf("%d bytes without hops were %s with %d", len(in), got.action, len(got.frame))
		}
		w.sums("time exceeded", got.frame)
	}
}

func backToSender(w *world) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 77}
	s := seg(packet.SYN, 5, 0)
	s.ip.TTL = 1
	in := s.frame(ownMAC, other, w.host(client(1)), w.gen.VIP.Address)
	w.expect("time exceeded", in, answers("ttl", icmpAnswer(in, w.timeExceeded())))
}

// quoteAsItCame: bits that a rewrite would have changed are quoted as the sender sent
// them.
func quoteAsItCame(w *world) {
	c := w.open(client(1), 0, firstPort)
	for _, size := range []int{0, 1, 2, 3, 700} {
		s := seg(packet.ACK, c.cseq, c.mseq).with(size).options(packet.NOPs(2), packet.Timestamps(7, 8))
		s.ip.TTL, s.ip.TOS, s.ip.ID, s.ip.DF = 1, 0xb8, 0xffff, false
		in, _ := c.up(s)
		w.expect(fmt.Sprintf("client's with %d bytes", size), in, answers("ttl", icmpAnswer(in, w.timeExceeded())))
		in, _ = c.down(s)
		w.expect(fmt.Sprintf("member's with %d bytes", size), in, answers("ttl", icmpAnswer(in, w.timeExceeded())))
	}
	bad := seg(packet.ACK, c.cseq, c.mseq)
	bad.ip.TTL, bad.tcp.Sum = 1, packet.SumBad
	in, _ := c.up(bad)
	w.expect("with a bad sum", in, answers("ttl", icmpAnswer(in, w.timeExceeded())))
}

// tooBigBothWays: the client or the member behind the narrow link; the error names
// the link's MTU and comes from whom the packet was for.
func tooBigBothWays(w *world) {
	from := client(1)
	headers := headersOf(w.arrives(seg(packet.ACK, 0, 0)))
	c := w.open(narrowClient(), 0, firstPort)
	s := seg(packet.ACK, c.mseq, c.cseq).with(narrowMTU - headers + 1)
	in, _ := c.down(s)
	w.expect("to the client", in, answers("too_big", icmpAnswer(in, w.fragNeeded(narrowMTU))).refreshing())
	if !w.ipv6 {
		s.ip.DF = false
		in, _ = c.down(s)
		w.expect("to the client, without DF", in, drops("too_big").refreshing())
	}
	w.moveMember(w.host(netip.AddrPortFrom(narrow, 1)).Addr())
	c = w.open(from, 0, firstPort+1)
	s = seg(packet.ACK, c.cseq, c.mseq).with(narrowMTU - headers + 1)
	in, _ = c.up(s)
	got := w.expect("to the member", in, answers("too_big", icmpAnswer(in, w.fragNeeded(narrowMTU))).refreshing())
	w.sums("fragmentation needed", got.frame)
	icmp := got.frame[icmpOffset(got.frame):]
	if mtu := binary.BigEndian.Uint16(icmp[6:]); mtu != narrowMTU {
		w.Errorf("announces %d", mtu)
	}
	if !bytes.Equal(icmp[8:], in[ethernetLength:ethernetLength+headers]) {
		w.Error("does not quote the packet as the client sent it")
	}
	c.works()
}

// resetToPeer: at the end of a drain a keepalive, of a number that the peer has seen long
// ago, resets the peer by the number that it waits for.
func resetToPeer(w *world) {
	rows.Proves(w, 107)
	wire := w.wire()
	for i, fromMember := range []bool{false, true} {
		c := w.open(client(1+i), i, firstPort)
		c.works()
		w.sweeps("mark", maps.Sweep{Slot: uint16(i), Reset: true}, maps.Swept{})
		s, rst := seg(packet.ACK, c.cseq-1, c.mseq), segment{ip: resetIP()}
		in, _ := c.up(s)
		own := s.resetBy(c.vip(), c.client)
		rst.tcp = packet.TCP{Flags: packet.RST, Seq: c.cseq}
		peers := rst.leaves(c.nat(), c.member())
		if fromMember {
			s = seg(packet.ACK, c.mseq-1, c.cseq)
			in, _ = c.down(s)
			own = s.resetBy(c.nat(), c.member())
			rst.tcp.Seq = c.mseq
			peers = rst.leaves(c.vip(), c.client)
		}
		w.expect("keepalive", in, answers("drained", own, closed(i)))
		w.sees(wire, peers)
	}
}
