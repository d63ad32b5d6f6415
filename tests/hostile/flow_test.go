package hostile

import (
	"encoding/binary"
	"net"
	"net/netip"

	"qlbaas/tests/packet"
)

// segment is a packet apart from where it comes from and goes to.
type segment struct {
	ip   packet.IPv4
	tcp  packet.TCP
	udp  *packet.UDP // instead of tcp
	tags []packet.VLAN
	data packet.Payload
}

func seg(flags packet.Flags, seq, ack uint32) segment {
	return segment{ip: packet.IPv4{TTL: 64, DF: true, ID: 0x1234}, tcp: packet.TCP{Flags: flags, Seq: seq, Ack: ack, Window: 64240}}
}

func datagram(n int) segment {
	return segment{ip: packet.IPv4{TTL: 64, ID: 0x1234}, udp: &packet.UDP{}, data: packet.Repeat(n)}
}

func (s segment) with(n int) segment {
	s.data = packet.Repeat(n)
	return s
}

// partial leaves the transport sum to the device.
func (s segment) partial() segment {
	s.tcp.Sum = packet.SumPartial
	if s.udp != nil {
		u := *s.udp
		u.Sum = packet.SumPartial
		s.udp = &u
	}
	return s
}

func (s segment) frame(toMAC, fromMAC net.HardwareAddr, from, to netip.AddrPort) []byte {
	s.ip.Src, s.ip.Dst = from.Addr(), to.Addr()
	e := packet.Ethernet{Dst: toMAC, Src: fromMAC, VLANs: s.tags}
	if s.udp != nil {
		u := *s.udp
		u.SrcPort, u.DstPort = from.Port(), to.Port()
		return packet.Frame(e, s.ip, u, s.data)
	}
	s.tcp.SrcPort, s.tcp.DstPort = from.Port(), to.Port()
	return packet.Frame(e, s.ip, s.tcp, s.data)
}

// conn is a flow between the stations, as both know it.
type conn struct {
	b    *balancer
	port uint16 // the client's
	nat  uint16 // toward the member
	// Next sequence numbers of both ends.
	cseq, mseq uint32
}

const (
	clientISN = 0xfffffe00
	memberISN = 0x10000000
)

func (c conn) clientAddress() netip.AddrPort { return netip.AddrPortFrom(rawClient, c.port) }
func (c conn) memberAddress() netip.AddrPort { return netip.AddrPortFrom(rawMember, c.b.service) }
func (c conn) snat() netip.AddrPort          { return netip.AddrPortFrom(c.b.at.Addr(), c.nat) }

// up is a segment from the client, as it is sent and as the member gets it.
func (c conn) up(s segment) (in, out []byte) {
	in = s.frame(c.b.mac, c.b.client.mac, c.clientAddress(), c.b.at)
	s.ip.TTL--
	return in, s.frame(c.b.member.mac, c.b.mac, c.snat(), c.memberAddress())
}

// down is a segment from the member, as it is sent and as the client gets it.
func (c conn) down(s segment) (in, out []byte) {
	in = s.frame(c.b.mac, c.b.member.mac, c.memberAddress(), c.snat())
	s.ip.TTL--
	return in, s.frame(c.b.client.mac, c.b.mac, c.b.at, c.clientAddress())
}

// fresh is a client port that has not been used.
func (b *balancer) fresh() conn {
	b.nextPort++
	return conn{b: b, port: b.nextPort, cseq: clientISN + 1, mseq: memberISN + 1}
}

// open is a whole handshake between the stations.
func (b *balancer) open() conn {
	b.t.Helper()
	c := b.fresh()
	in, _ := c.up(seg(packet.SYN, clientISN, 0))
	got := b.carry(b.client, in, b.member, func(f []byte) bool {
		return len(f) >= 54 && f[47] == byte(packet.SYN) && binary.BigEndian.Uint32(f[38:]) == clientISN
	})
	c.nat = binary.BigEndian.Uint16(got[34:])
	in, out := c.down(seg(packet.SYN|packet.ACK, memberISN, c.cseq))
	b.carry(b.member, in, b.client, exactly(out).matches)
	in, out = c.up(seg(packet.ACK, c.cseq, c.mseq))
	b.carry(b.client, in, b.member, exactly(out).matches)
	return c
}

// carry sends a frame and waits for what comes of it at the other station.
func (b *balancer) carry(from *station, frame []byte, to *station, match func([]byte) bool) []byte {
	b.t.Helper()
	to.take()
	if err := from.socket.Send(frame); err != nil {
		b.t.Fatal(err)
	}
	got, err := to.await(b.t.Context(), match)
	if err != nil {
		b.t.Fatalf("%s has led to nothing: %v", packet.Summary(frame), err)
	}
	return got.Bytes
}

// pulse sends one more packet of the beat to a station and waits for it.
func (s *stage) pulse(to *station) {
	s.t.Helper()
	from, way, seq, ack := s.client, s.beat.up, &s.beat.cseq, s.beat.mseq
	if to == s.client {
		from, way, seq, ack = s.member, s.beat.down, &s.beat.mseq, s.beat.cseq
	}
	in, out := way(seg(packet.ACK, *seq, ack).with(4))
	*seq += 4
	if err := from.socket.Send(in); err != nil {
		s.t.Fatal(err)
	}
	if _, err := to.await(s.t.Context(), exactly(out).matches); err != nil {
		s.t.Fatalf("the flow beside has ended: %v", err)
	}
}

// isBeat tells whether a frame belongs to the beat.
func (s *stage) isBeat(frame []byte) bool {
	if len(frame) < 54 || frame[23] != packet.ProtoTCP {
		return false
	}
	from, to := binary.BigEndian.Uint16(frame[34:]), binary.BigEndian.Uint16(frame[36:])
	return from == s.beat.nat && to == s.tcp.service || to == s.beat.port
}
