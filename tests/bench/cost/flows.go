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

// Sizes of frames without their frame check sequence.
const (
	smallFrame = 64
	largeFrame = 1400
	bareFrame  = 54
)

// firstClient is where again.h begins to count clients.
var firstClient = netip.AddrPortFrom(netip.MustParseAddr("11.0.0.0"), 16384)

// Offsets in a frame.
const (
	offSource      = 26
	offDestination = 30
	offPorts       = 34
)

// nthClient is what again.h makes of a number.
func nthClient(n uint32) netip.AddrPort {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(firstClient.Addr().AsSlice())+n>>14)
	return netip.AddrPortFrom(netip.AddrFrom4(a), firstClient.Port()+uint16(n&(1<<14-1)))
}

// segment is a TCP segment without options of so many bytes, Ethernet included.
func segment(size int, from, to netip.AddrPort, flags packet.Flags, seq, ack uint32) []byte {
	return packet.Frame(
		packet.Ethernet{Dst: ownMAC, Src: gatewayMAC},
		packet.IPv4{Src: from.Addr(), Dst: to.Addr(), TTL: 64, DF: true},
		packet.TCP{SrcPort: from.Port(), DstPort: to.Port(), Seq: seq, Ack: ack, Flags: flags, Window: 64240},
		packet.Payload(make([]byte, size-bareFrame)),
	)
}

func syn(size int) []byte {
	return segment(size, firstClient, vip, packet.SYN, clientISN, 0)
}

// established is a segment that every flow of grow takes.
func established(size int) []byte {
	return segment(size, firstClient, vip, packet.ACK|packet.PSH, clientISN+1, memberISN+1)
}

// grow opens connections until there are so many, from the client of that number on, as
// clients and members do it: by the three packets of each handshake. It runs in the pool's
// namespace.
func (p *pool) grow(to uint32) error {
	before, err := unreclaimable()
	if err != nil {
		return err
	}
	if err := p.connect(to); err != nil {
		return err
	}
	after, err := unreclaimable()
	p.slabs += after - before
	return err
}

// connect makes the connections.
func (p *pool) connect(to uint32) error {
	ask := syn(bareFrame)
	synAck := segment(bareFrame, memberAddress(0), vip, packet.SYN|packet.ACK, memberISN, clientISN+1)
	ack := segment(bareFrame, firstClient, vip, packet.ACK, clientISN+1, memberISN+1)
	sent := make([]byte, bareFrame)
	for ; p.flows < to; p.flows++ {
		client := nthClient(p.flows)
		for _, frame := range [][]byte{ask, ack} {
			copy(frame[offSource:], client.Addr().AsSlice())
			binary.BigEndian.PutUint16(frame[offPorts:], client.Port())
		}
		if err := p.forward(ask, sent); err != nil {
			return fmt.Errorf("SYN of client %d: %w", p.flows, err)
		}
		// Member and port, as they have to come back: the other way round.
		copy(synAck[offSource:offDestination], sent[offDestination:offPorts])
		copy(synAck[offDestination:offPorts], sent[offSource:offDestination])
		copy(synAck[offPorts:], sent[offPorts+2:offPorts+4])
		copy(synAck[offPorts+2:], sent[offPorts:offPorts+2])
		for _, frame := range [][]byte{synAck, ack} {
			if err := p.forward(frame, nil); err != nil {
				return fmt.Errorf("handshake of client %d: %w", p.flows, err)
			}
		}
	}
	return nil
}

// forward sends one packet through the fast lane.
func (p *pool) forward(frame, out []byte) error {
	o := ebpf.RunOptions{Data: frame, DataOut: out, Context: &xdpContext{DataEnd: uint32(len(frame)), IngressIfindex: uint32(p.ifindex)}}
	code, err := p.xdp.Run(&o)
	if err == nil && code != xdpTX {
		err = fmt.Errorf("the program returned %d", code)
	}
	return err
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
