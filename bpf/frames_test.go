package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// segment is a packet apart from where it comes from and goes to.
type segment struct {
	ip   packet.IPv4 // what IPv6 has of it too is used for IPv6
	ext  []packet.Extension
	tcp  packet.TCP
	udp  *packet.UDP // instead of tcp
	data packet.Payload
	// label is IPv6's flow label.
	label uint32
}

// seg is a plain segment as any host sends it.
func seg(flags packet.Flags, seq, ack uint32) segment {
	return segment{
		ip:  packet.IPv4{TTL: 64, DF: true, ID: 0x1234},
		tcp: packet.TCP{Flags: flags, Seq: seq, Ack: ack, Window: 64240},
	}
}

// with returns the segment with payload.
func (s segment) with(n int) segment {
	s.data = packet.Repeat(n)
	return s
}

// options returns the segment with TCP options.
func (s segment) options(o ...packet.TCPOption) segment {
	s.tcp.Options = o
	return s
}

// end is the sequence number behind the segment.
func (s segment) end() uint32 {
	n := s.tcp.Seq + uint32(len(s.data))
	if s.tcp.Flags&(packet.SYN|packet.FIN) != 0 {
		n++
	}
	return n
}

// frame puts the segment on the way from one host to another.
func (s segment) frame(toMAC, fromMAC net.HardwareAddr, from, to netip.AddrPort) []byte {
	layers := append([]packet.Layer{packet.Ethernet{Dst: toMAC, Src: fromMAC}}, s.layers(from, to)...)
	return packet.Frame(layers...)
}

// layers are the segment's, from IP on.
func (s segment) layers(from, to netip.AddrPort) []packet.Layer {
	var l4 packet.Layer
	if s.udp != nil {
		u := *s.udp
		u.SrcPort, u.DstPort = from.Port(), to.Port()
		l4 = u
	} else {
		s.tcp.SrcPort, s.tcp.DstPort = from.Port(), to.Port()
		l4 = s.tcp
	}
	if from.Addr().Is6() {
		ip := packet.IPv6{
			Src: from.Addr(), Dst: to.Addr(), HopLimit: s.ip.TTL, TrafficClass: s.ip.TOS, FlowLabel: s.label,
			Extensions: s.ext,
		}
		return []packet.Layer{ip, l4, s.data}
	}
	s.ip.Src, s.ip.Dst = from.Addr(), to.Addr()
	return []packet.Layer{s.ip, l4, s.data}
}

// datagram is a UDP packet with so many bytes of payload.
func datagram(n int) segment {
	return segment{ip: packet.IPv4{TTL: 64, DF: true, ID: 0x1234}, udp: &packet.UDP{}, data: packet.Repeat(n)}
}

// arrives is the segment as it comes in by the device.
func (s segment) arrives(from, to netip.AddrPort) []byte {
	return s.frame(ownMAC, macOf(from.Addr()), from, to)
}

// leaves is the segment as it goes out by the device: a hop further.
func (s segment) leaves(from, to netip.AddrPort) []byte {
	s.ip.TTL--
	return s.frame(macOf(to.Addr()), ownMAC, from, to)
}

// conn is a connection as both its ends see it.
type conn struct {
	w      *world
	client netip.AddrPort
	slot   int
	source int    // place of the address toward the member
	port   uint16 // toward the member
	// Next sequence numbers of both ends.
	cseq, mseq uint32
}

// client is the n-th client's first connection: an address behind the gateway.
func client(n int) netip.AddrPort {
	a := netip.AddrFrom4([4]byte{10, 10, byte(10 + n>>8), byte(n)})
	return netip.AddrPortFrom(a, uint16(40000+n%20000))
}

func (c conn) member() netip.AddrPort {
	m, _ := c.w.gen.Member(uint16(c.slot))
	return m.Address
}

func (c conn) nat() netip.AddrPort {
	return netip.AddrPortFrom(c.w.gen.VIP.SNAT[c.source].Address, c.port)
}

func (c conn) vip() netip.AddrPort { return c.w.gen.VIP.Address }

// up is a segment from the client, as it comes and as the member gets it.
func (c conn) up(s segment) (in, out []byte) {
	return s.arrives(c.client, c.vip()), s.leaves(c.nat(), c.member())
}

// down is a segment from the member, as it comes and as the client gets it.
func (c conn) down(s segment) (in, out []byte) {
	return s.arrives(c.member(), c.nat()), s.leaves(c.vip(), c.client)
}

// Initial sequence numbers: one wraps during the first kilobyte.
const (
	clientISN = 0xfffffe00
	memberISN = 0x10000000
)

// syn opens a handshake with the member in the slot; the test says which port it
// has to get.
func (w *world) syn(from netip.AddrPort, slot int, natPort uint16) conn {
	w.Helper()
	return w.synWith(from, slot, natPort, seg(packet.SYN, clientISN, 0))
}

func (w *world) synWith(from netip.AddrPort, slot int, natPort uint16, s segment) conn {
	w.Helper()
	from = w.host(from)
	c := conn{w: w, client: from, slot: slot, port: natPort, cseq: s.end(), mseq: memberISN}
	in, out := c.up(s)
	w.expect("SYN", in, forwards(out, opened(slot), toMember(slot, in), w.pressure(slot)))
	return c
}

// pressure is counted for a port of a range that is half empty no more.
func (w *world) pressure(slot int) delta {
	w.Helper()
	if w.memberState(slot).PortsUsed < maps.NATPorts/2 {
		return delta{}
	}
	return delta{"events.nat_pressure": 1}
}

// synAck is the member's answer to a SYN.
func (c conn) synAck() conn {
	c.w.Helper()
	in, out := c.down(seg(packet.SYN|packet.ACK, c.mseq, c.cseq))
	c.w.expect("SYN-ACK", in, forwards(out, toClient(c.slot, in)))
	c.mseq++
	return c
}

// ack completes the handshake.
func (c conn) ack() conn {
	c.w.Helper()
	in, out := c.up(seg(packet.ACK, c.cseq, c.mseq))
	c.w.expect("ACK", in, forwards(out, established(c.slot), toMember(c.slot, in)))
	return c
}

// open is a whole handshake.
func (w *world) open(from netip.AddrPort, slot int, natPort uint16) conn {
	w.Helper()
	return w.syn(from, slot, natPort).synAck().ack()
}

// Steps of an established connection: each is forwarded, and counted on the member's
// account and nowhere else but for the changes named.

func (c conn) sends(what string, s segment, changes ...delta) {
	c.w.Helper()
	in, out := c.up(s)
	c.w.expect("client: "+what, in, forwards(out, append(changes, toMember(c.slot, in))...))
}

func (c conn) gets(what string, s segment, changes ...delta) {
	c.w.Helper()
	in, out := c.down(s)
	c.w.expect("member: "+what, in, forwards(out, append(changes, toClient(c.slot, in))...))
}

// works shows that data passes both ways.
func (c *conn) works() {
	c.w.Helper()
	s := seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(100)
	c.sends("data", s)
	c.cseq = s.end()
	s = seg(packet.ACK|packet.PSH, c.mseq, c.cseq).with(33)
	c.gets("data", s)
	c.mseq = s.end()
}

// Without the checks of expect, for tests of many connections.

// quickSYN sends a SYN and returns the connection that came of it.
func (w *world) quickSYN(from netip.AddrPort) conn {
	w.Helper()
	from = w.host(from)
	got := w.send(seg(packet.SYN, clientISN, 0).arrives(from, w.gen.VIP.Address))
	if got.action != forwarded {
		w.Fatalf("SYN of %s was %s", from, got.action)
	}
	slot, natPort := w.chosen(got.frame)
	return conn{w: w, client: from, slot: slot, port: natPort, cseq: clientISN + 1, mseq: memberISN}
}

// quick is a whole handshake.
func (w *world) quick(from netip.AddrPort) conn {
	w.Helper()
	return w.quickSYN(from).finish()
}

// finish completes a handshake.
func (c conn) finish() conn {
	c.w.Helper()
	in, _ := c.down(seg(packet.SYN|packet.ACK, c.mseq, c.cseq))
	c.w.mustForward("SYN-ACK", in)
	c.mseq++
	in, _ = c.up(seg(packet.ACK, c.cseq, c.mseq))
	c.w.mustForward("ACK", in)
	return c
}

// close ends the connection by the member's RST.
func (c conn) close() {
	c.w.Helper()
	in, _ := c.down(seg(packet.RST, c.mseq, 0))
	c.w.mustForward("RST", in)
}

func (w *world) mustForward(what string, in []byte) {
	w.Helper()
	if got := w.send(in); got.action != forwarded {
		w.Fatalf("%s was %s: %s", what, got.action, packet.Summary(in))
	}
}

func (c conn) String() string {
	return fmt.Sprintf("%s to slot %d by port %d", c.client, c.slot, c.port)
}

// addressesOf are an IP packet's destination and source: those of its answer.
func addressesOf(frame []byte) (from, to netip.Addr) {
	ip := frame[ethernetLength:]
	if ip[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(ip[24:40])), netip.AddrFrom16([16]byte(ip[8:24]))
	}
	return netip.AddrFrom4([4]byte(ip[16:20])), netip.AddrFrom4([4]byte(ip[12:16]))
}

// transportOf is the offset of the transport header in a frame without IP options or
// extension headers.
func transportOf(frame []byte) int {
	if frame[ethernetLength]>>4 == 6 {
		return ethernetLength + ipv6Length
	}
	return ethernetLength + ipv4Length
}

// headersOf is the length of a packet's IP header, without options, and its transport
// header, likewise.
func headersOf(frame []byte) int {
	ip, length, proto := frame[ethernetLength:], ipv4Length, 0
	if ip[0]>>4 == 6 {
		length, proto = ipv6Length, int(ip[6])
	} else {
		proto = int(ip[9])
	}
	if proto == packet.ProtoUDP {
		return length + 8
	}
	return length + 20
}

// narrowClient is behind the narrow link.
func narrowClient() netip.AddrPort { return netip.AddrPortFrom(narrow, 40000) }

// headerLength is that of a bare packet's IP header.
func headerLength(b []byte) int {
	if b[0]>>4 == 6 {
		return ipv6Length
	}
	return int(b[0]&15) * 4
}

func icmpOffset(frame []byte) int { return transportOf(frame) }

// setLength makes the IP header say what the frame holds.
func setLength(frame []byte) {
	ip := frame[ethernetLength:]
	if ip[0]>>4 == 6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Length))
		return
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[10:], 0)
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:ipv4Length]))
}

// badSum is the same error with a wrong sum.
func badSum(error packet.Layer) packet.Layer {
	switch e := error.(type) {
	case packet.ICMPv4:
		e.Sum = packet.SumBad
		return e
	case packet.ICMPv6:
		e.Sum = packet.SumBad
		return e
	}
	return error
}
