package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// All clients reach a member from one address, so it compares their clocks; each
// connection's is shifted onto the balancer's own, and the echo back.

func TestTimestamps(t *testing.T) {
	rows.Proves(t, 48)
	onHooks(t, options{}, func(w *world) {
		w.run("at every offset", func(w *world) {
			for n := range 31 {
				w.shifts(n, fmt.Sprintf("behind %d NOPs", n), packet.NOPs(n))
			}
		})
		w.run("among other options", func(w *world) {
			for n, before := range [][]packet.TCPOption{
				{packet.MSS(1460), packet.SACKPermitted()}, // as Linux sends it
				{packet.MSS(1460), packet.NOP(), packet.WindowScale(7), packet.NOP(), packet.NOP()},
				{packet.WindowScale(14)},
				{packet.SACK([2]uint32{1, 2})},
				{packet.SACK([2]uint32{1, 2}, [2]uint32{3, 4}, [2]uint32{5, 6})},
				{{77, 5, 1, 2, 3}},
				{{77, 2}, {78, 2}, packet.NOP()},
				{{34, 10, 8, 10, 8, 10, 8, 10, 8, 10}}, // looks like timestamps inside
			} {
				w.shifts(n, fmt.Sprint(before), before...)
			}
		})
		w.run("clocks that have nothing to do with each other", unrelatedClocks)
		w.run("none in the SYN", func(w *world) {
			c := w.open(client(1), 0, 1024)
			c.sends("timestamps after all", seg(packet.ACK, c.cseq, c.mseq).options(packet.Timestamps(7, 8)))
			c.gets("timestamps after all", seg(packet.ACK, c.mseq, c.cseq).options(packet.Timestamps(7, 8)))
		})
		w.run("nothing echoed", nothingEchoed)
		w.run("malformed options", malformedOptions)
	})
}

// stamped opens a connection whose SYN has timestamps behind the given options, and
// returns what is added to the client's clock.
func (w *world) stamped(n int, tsval uint32, before ...packet.TCPOption) (c conn, shift uint32) {
	w.Helper()
	options := func(value, echo uint32) []packet.TCPOption {
		return append(append([]packet.TCPOption(nil), before...), packet.Timestamps(value, echo))
	}
	s := seg(packet.SYN, clientISN, 0).options(options(tsval, 0)...)
	c = conn{w: w, client: w.host(client(n)), slot: n % 3, port: 1024 + uint16(n/3), cseq: s.end(), mseq: memberISN}
	in, _ := c.up(s)

	state, early := w.snapshot(), w.milliseconds()
	got := w.send(in)
	late := w.milliseconds()
	for _, h := range w.snapshot().handshakes {
		if h.Key.Source == c.client {
			shift = h.Shift
		}
	}
	_, out := c.up(s.options(options(tsval+shift, 0)...))
	w.judge("SYN", in, forwards(out, opened(c.slot), toMember(c.slot, in)), got, state)
	if now := tsval + shift; now-early > late-early {
		w.Errorf("member sees %d, the balancer's clock was %d to %d", now, early, late)
	}
	return c, shift
}

// shifts shows the way of the timestamps through a whole handshake.
func (w *world) shifts(n int, what string, before ...packet.TCPOption) {
	w.Helper()
	tsval, theirs := uint32(0xfffffff0), uint32(0x01020304) // the first one wraps soon
	c, shift := w.stamped(n, tsval, before...)
	options := func(value, echo uint32) []packet.TCPOption {
		return append(append([]packet.TCPOption(nil), before...), packet.Timestamps(value, echo))
	}
	step := func(name string, way func(conn, segment) ([]byte, []byte), s segment, sent, seen []packet.TCPOption, d delta) {
		w.Helper()
		in, _ := way(c, s.options(sent...))
		_, out := way(c, s.options(seen...))
		w.expect(what+": "+name, in, forwards(out, d))
	}
	s := seg(packet.SYN|packet.ACK, c.mseq, c.cseq)
	in, _ := c.down(s.options(options(theirs, tsval+shift)...))
	step("SYN-ACK", conn.down, s, options(theirs, tsval+shift), options(theirs, tsval), toClient(c.slot, in))
	c.mseq++
	s = seg(packet.ACK, c.cseq, c.mseq)
	in, _ = c.up(s.options(options(0, 0)...))
	step("ACK", conn.up, s, options(tsval+20, theirs), options(tsval+20+shift, theirs),
		sum(established(c.slot), toMember(c.slot, in)))
	for _, size := range []int{1, 999} {
		// Hosts put the option wherever they like, from segment to segment.
		s = seg(packet.ACK, c.cseq, c.mseq).with(size)
		plain := func(value, echo uint32) []packet.TCPOption {
			return []packet.TCPOption{packet.NOP(), packet.NOP(), packet.Timestamps(value, echo)}
		}
		in, _ = c.up(s.options(plain(0, 0)...))
		step("data", conn.up, s, plain(tsval+21, theirs), plain(tsval+21+shift, theirs), toMember(c.slot, in))
		s = seg(packet.ACK, c.mseq, c.cseq).with(size)
		in, _ = c.down(s.options(plain(0, 0)...))
		step("data back", conn.down, s, plain(theirs+9, tsval+21+shift), plain(theirs+9, tsval+21), toClient(c.slot, in))
	}
}

// milliseconds is the clock that members see.
func (w *world) milliseconds() uint32 {
	w.Helper()
	var now unix.Timespec
	w.must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return uint32(now.Nano() / 1e6)
}

// unrelatedClocks: whatever the clients' clocks say, the member sees one that never
// goes back.
func unrelatedClocks(w *world) {
	w.configure(func(g *maps.Generation) { g.Schedule = []uint16{0} })
	random := w.random()
	last := w.milliseconds()
	for n := range 300 {
		tsval := random.Uint32()
		switch n % 10 {
		case 0:
			tsval = 0
		case 1:
			tsval = 0xffffffff
		}
		got := w.send(seg(packet.SYN, clientISN, 0).options(packet.Timestamps(tsval, 0)).arrives(client(n), vip))
		seen := binary.BigEndian.Uint32(got.frame[56:])
		if seen-last > 60_000 { // backwards, in this arithmetic
			w.Fatalf("client %d with clock %d: member sees %d after %d", n, tsval, seen, last)
		}
		last = seen
	}
}

// nothingEchoed: 0, or a packet without ACK, echoes nothing, and stays so.
func nothingEchoed(w *world) {
	c, _ := w.stamped(0, 1000)
	c.gets("SYN without ACK", seg(packet.SYN, 5, 0).options(packet.Timestamps(1, 0x99)))
	c.gets("SYN-ACK without an echo", seg(packet.SYN|packet.ACK, c.mseq, c.cseq).options(packet.Timestamps(1, 0)))
	c.gets("SYN-ACK without timestamps", seg(packet.SYN|packet.ACK, c.mseq, c.cseq))
	c.mseq++
	s := seg(packet.ACK, c.cseq, c.mseq)
	c.sends("ACK without timestamps", s, established(0))
	c.gets("RST without ACK", seg(packet.RST, 99, 0).options(packet.Timestamps(1, 0x99)))
}

// malformedOptions travel on unread: the endpoints may make of them what they like.
func malformedOptions(w *world) {
	good, _ := w.stamped(0, 1000)
	good = good.synAck().ack()
	n := 3
	for name, options := range map[string]packet.TCPOption{
		"length 0":                     {77, 0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0},
		"length 1":                     {77, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0},
		"length beyond the end":        {77, 200, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},
		"length one beyond the end":    {77, 13, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},
		"kind without length":          {1, 1, 1, 8},
		"timestamps of length 9":       {8, 9, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0},
		"timestamps of length 11":      {8, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0},
		"timestamps of length 0":       {8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0},
		"timestamps cut off":           {1, 1, 1, 8, 10, 1, 2, 3},
		"timestamps cut off by a byte": {1, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7},
		"timestamps behind the end":    {0, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},
		"40 NOPs":                      packet.NOPs(40),
		"40 ends":                      bytes.Repeat([]byte{0}, 40),
		"40 times 0xff":                bytes.Repeat([]byte{0xff}, 40),
		"the longest option":           append(packet.TCPOption{77, 40}, bytes.Repeat([]byte{8, 10}, 19)...),
	} {
		good.sends(name, seg(packet.ACK, good.cseq, good.mseq).options(options))
		good.gets(name, seg(packet.ACK, good.mseq, good.cseq).options(options))
		// In a SYN they are as good as none.
		c := w.synWith(client(n), (n-2)%3, 1024+uint16((n-2)/3), seg(packet.SYN, clientISN, 0).options(options))
		c = c.synAck().ack()
		if state := w.entry(c.client, c.vip()).State; state != 0 {
			w.Errorf("%s: flow is %s", name, state)
		}
		n++
	}
}
