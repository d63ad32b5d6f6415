package tests

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
	"qlbaas/tests/rows"
)

type socket = *afpacket.Socket

func addressOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// number32 is a field of a frame.
func number32(x *ways, frame []byte, name string) uint32 {
	x.t.Helper()
	f, err := packet.Find(frame, name)
	x.must(err)
	n, err := strconv.ParseUint(f.Value, 10, 32)
	x.must(err)
	return uint32(n)
}

// endOfDrain: after the deadline whichever end speaks first makes the balancer reset both,
// with the numbers that each of them waits for.
func endOfDrain(x *ways) {
	rows.Proves(x.t, 107)
	const seconds = 1
	member := x.endpoints(5030)[0]
	l := x.server(x.Members[0].Host, member)
	b := x.balancer("TCP", member)
	b.setPool(object{"drain_timeout": seconds})
	clients, members := x.sniff(x.Client, true), x.sniff(x.Members[0].Host, true)
	var speaks []pair // the client's, the member's, and the kernel's of an idle client
	for range 3 {
		p := x.pair(b, x.Client, l)
		x.must(move(p.client, p.member, 10001, 1))
		x.must(move(p.member, p.client, 20002, 2))
		speaks = append(speaks, p)
	}
	idle := speaks[2]
	x.must(idle.client.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 9}))
	start := time.Now()
	b.dropMember(0)
	x.speakUntilReset(speaks[0].client, speaks[0].member)
	x.speakUntilReset(speaks[1].member, speaks[1].client)
	x.awaitReset("idle client", idle.client)
	x.awaitReset("idle member", idle.member)
	if took := time.Since(start); took < seconds*time.Second {
		x.t.Errorf("reset after %s, want no less than %d s", took, seconds)
	}
	ofClient := func(p pair) ends { return ends{addressOf(p.client.LocalAddr()), b.at} }
	ofMember := func(p pair) ends { return ends{member, addressOf(p.member.RemoteAddr())} }
	x.resets("client", clients, ofClient(speaks[0]), ofClient(speaks[1]), ofClient(idle))
	x.resets("member", members, ofMember(speaks[0]), ofMember(speaks[1]), ofMember(idle))
}

// speakUntilReset sends a byte now and again from one end, until both ends are reset.
func (x *ways) speakUntilReset(speaker, listener *net.TCPConn) {
	x.t.Helper()
	until(x.t, patience, func() error {
		x.must(errors.Join(speaker.SetDeadline(time.Now().Add(patience)), listener.SetDeadline(time.Now().Add(patience))))
		if _, err := speaker.Write([]byte{1}); err != nil {
			return wantReset("speaker", err)
		}
		_, err := listener.Read(make([]byte, 1))
		if err == nil {
			return errors.New("the connection goes on")
		}
		if err := wantReset("listener", err); err != nil {
			x.t.Fatal(err)
		}
		_, err = speaker.Read(make([]byte, 1))
		if err := wantReset("speaker", err); err != nil {
			x.t.Fatal(err)
		}
		return nil
	})
}

// awaitReset waits until a connection's end is reset, without a word of its own.
func (x *ways) awaitReset(who string, c *net.TCPConn) {
	x.t.Helper()
	x.must(c.SetReadDeadline(time.Now().Add(requestTimeout)))
	_, err := c.Read(make([]byte, 1))
	if err := wantReset(who, err); err != nil {
		x.t.Error(err)
	}
}

func wantReset(who string, err error) error {
	if errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return fmt.Errorf("the %s saw %w, want a reset", who, err)
}

// ends are a connection's addresses as one of its hosts knows them.
type ends struct{ own, peer netip.AddrPort }

// resets reads a host's frames until it has got a RST on each connection. That has to
// stand exactly where the host waits for what comes next, or the host would not believe it.
func (x *ways) resets(who string, seen socket, connections ...ends) {
	x.t.Helper()
	waits := make([]uint32, len(connections))
	for range connections {
		var i int
		frame := x.await(seen, func(frame []byte) bool {
			for i = range connections {
				c := connections[i]
				if between(frame, c.own, c.peer) {
					waits[i] = number32(x, frame, "tcp.ack")
				}
				if between(frame, c.peer, c.own) && isSegment(frame, c.peer.Port(), "RST") {
					return true
				}
			}
			return false
		})
		if seq := number32(x, frame, "tcp.seq"); seq != waits[i] {
			x.t.Errorf("the %s waits for %d and gets a RST at %d", who, waits[i], seq)
		}
	}
}

// between says whether a frame is a segment from one address and port to another.
func between(frame []byte, from, to netip.AddrPort) bool {
	ip := map[bool]string{false: "ip4", true: "ip6"}[from.Addr().Is6()]
	for name, value := range map[string]string{
		ip + ".src": from.Addr().String(), ip + ".dst": to.Addr().String(),
		"tcp.sport": fmt.Sprint(from.Port()), "tcp.dport": fmt.Sprint(to.Port()),
	} {
		if f, err := packet.Find(frame, name); err != nil || f.Value != value {
			return false
		}
	}
	return true
}
