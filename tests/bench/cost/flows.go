package cost

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// Numbers that all clients and members begin with, so that one frame fits every flow.
const (
	clientISN = 1_000_000
	memberISN = 2_000_000
)

// Sizes of frames, without their frame check sequence.
const (
	smallFrame = 64
	largeFrame = 1400
)

// Where things are in a frame.
const (
	offSource      = 26
	offDestination = 30
	offPorts       = 34
	headers        = 54 // what again.h restores
)

// firstClient is where again.h begins to count clients, and portsOfOne how many it makes of
// one address.
var firstClient = netip.AddrPortFrom(netip.MustParseAddr("11.0.0.0"), 16384)

const portsOfOne = 1 << 14

// nthClient is what again.h makes of a number.
func nthClient(n uint32) netip.AddrPort {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(firstClient.Addr().AsSlice())+n/portsOfOne)
	return netip.AddrPortFrom(netip.AddrFrom4(a), firstClient.Port()+uint16(n%portsOfOne))
}

// segment is a TCP segment that comes to the pool, at least so many bytes with its Ethernet
// header.
func segment(size int, from, to netip.AddrPort, tcp packet.TCP) []byte {
	tcp.SrcPort, tcp.DstPort, tcp.Window = from.Port(), to.Port(), 64240
	layers := []packet.Layer{
		packet.Ethernet{Dst: ownMAC, Src: gatewayMAC}, packet.IPv4{Src: from.Addr(), Dst: to.Addr(), TTL: 64, DF: true}, tcp,
	}
	if bare := len(packet.Frame(layers...)); bare < size {
		layers = append(layers, packet.Payload(make([]byte, size-bare)))
	}
	return packet.Frame(layers...)
}

// Segments of a connection, as a kind of packets wants them made.

func syn(size int) []byte {
	return segment(size, firstClient, vip, packet.TCP{Flags: packet.SYN, Seq: clientISN})
}

var up = packet.TCP{Flags: packet.ACK | packet.PSH, Seq: clientISN + 1, Ack: memberISN + 1}

func fromClient(size int) []byte { return segment(size, firstClient, vip, up) }

func notOurs(size int) []byte { return segment(size, firstClient, other, up) }

// stamped is the client whose connection has timestamps.
var stamped = nthClient(1 << 24)

func fromStamped(size int) []byte {
	tcp := up
	tcp.Options = stamps
	return segment(size, stamped, vip, tcp)
}

var stamps = []packet.TCPOption{packet.NOP(), packet.NOP(), packet.Timestamps(1, 1)}

// fromMember is a segment of the first connection that grow has made, from its other end.
func (p *pool) fromMember(size int) []byte {
	return segment(size, p.first.member, p.first.nat, packet.TCP{Flags: packet.ACK | packet.PSH, Seq: memberISN + 1, Ack: clientISN + 1})
}

// handshake is three packets, to be used again by other clients.
type handshake struct{ ask, answer, ack []byte }

func newHandshake(options ...packet.TCPOption) *handshake {
	frame := func(from netip.AddrPort, flags packet.Flags, seq, ack uint32) []byte {
		return segment(0, from, vip, packet.TCP{Flags: flags, Seq: seq, Ack: ack, Options: options})
	}
	return &handshake{
		ask:    frame(firstClient, packet.SYN, clientISN, 0),
		answer: frame(memberAddress(0), packet.SYN|packet.ACK, memberISN, clientISN+1),
		ack:    frame(firstClient, packet.ACK, clientISN+1, memberISN+1),
	}
}

// ends are a connection's as its member sees it.
type ends struct{ member, nat netip.AddrPort }

// connect opens a connection as clients and members do it. It runs in the pool's namespace.
func (p *pool) connect(h *handshake, client netip.AddrPort) (ends, error) {
	for _, frame := range [][]byte{h.ask, h.ack} {
		copy(frame[offSource:], client.Addr().AsSlice())
		binary.BigEndian.PutUint16(frame[offPorts:], client.Port())
	}
	sent := make([]byte, len(h.ask))
	if err := p.forward(h.ask, sent); err != nil {
		return ends{}, fmt.Errorf("SYN of %s: %w", client, err)
	}
	// Member and port, as they have to come back: the other way round.
	copy(h.answer[offSource:], sent[offDestination:offPorts])
	copy(h.answer[offDestination:], sent[offSource:offDestination])
	copy(h.answer[offPorts:], sent[offPorts+2:offPorts+4])
	copy(h.answer[offPorts+2:], sent[offPorts:offPorts+2])
	for _, frame := range [][]byte{h.answer, h.ack} {
		if err := p.forward(frame, nil); err != nil {
			return ends{}, fmt.Errorf("handshake of %s: %w", client, err)
		}
	}
	return ends{
		member: addrPort(sent[offDestination:], sent[offPorts+2:]), nat: addrPort(sent[offSource:], sent[offPorts:]),
	}, nil
}

func addrPort(address, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(address)), binary.BigEndian.Uint16(port))
}

// forward sends one packet through the fast lane.
func (p *pool) forward(frame, out []byte) error {
	o := ebpf.RunOptions{Data: frame, DataOut: out, Context: &xdpContext{DataEnd: uint32(len(frame)), IngressIfindex: uint32(p.inside)}}
	code, err := p.programs[subjectXDP].Run(&o)
	if err == nil && code != xdpTX {
		err = fmt.Errorf("the program returned %d", code)
	}
	return err
}

// grow opens connections until there are so many, from the first client on, and one more
// with timestamps.
func (p *pool) grow(to uint32) error {
	return p.within(func() error {
		before, err := unreclaimable()
		if err != nil {
			return err
		}
		for h := newHandshake(); p.flows < to; p.flows++ {
			made, err := p.connect(h, nthClient(p.flows))
			if err != nil {
				return err
			}
			if p.flows == 0 {
				p.first = made
			}
		}
		after, err := unreclaimable()
		p.slabs += after - before
		return err
	})
}

// forget ends all handshakes and flows of the pool.
func (p *pool) forget() error {
	for slot := range p.wanted.Members {
		if _, err := (maps.Sweep{Slot: uint16(slot), Words: maps.NATWords, End: true}).Run(p.sweep); err != nil {
			return fmt.Errorf("end the flows of slot %d: %w", slot, err)
		}
	}
	p.flows = 0
	return nil
}
