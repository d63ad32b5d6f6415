// Package announce builds the frames that tell a network who has an address now.
package announce

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// broadcastMAC addresses every host of a network.
var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// gratuitousARP is the frame that tells a network who has an address now: an ARP
// request for it by its owner (RFC 5227, "ARP Announcement"). Hosts that know the
// address take the MAC from it, bridges the port.
func gratuitousARP(mac net.HardwareAddr, addr netip.Addr) []byte {
	ip := addr.As4()
	f := make([]byte, 0, 42)
	f = append(f, broadcastMAC...)
	f = append(f, mac...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_ARP)
	f = binary.BigEndian.AppendUint16(f, unix.ARPHRD_ETHER)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	f = append(f, 6, 4)                     // bytes of a MAC and of an address
	f = binary.BigEndian.AppendUint16(f, 1) // request
	f = append(f, mac...)
	f = append(f, ip[:]...)
	f = append(f, 0, 0, 0, 0, 0, 0) // the MAC asked for
	return append(f, ip[:]...)
}

// unsolicitedNA is the same for IPv6: a neighbour advertisement to all nodes that
// nobody has asked for (RFC 4861, section 7.2.6), with the flag that overrides what
// they know.
func unsolicitedNA(mac net.HardwareAddr, addr netip.Addr) []byte {
	const (
		advertisement, override = 136, 0x20
		targetMAC, eights       = 2, 1 // option, its length in units of 8 bytes
	)
	ip := addr.As16()
	allNodes := netip.IPv6LinkLocalAllNodes().As16()
	message := make([]byte, 0, 32)
	message = append(message, advertisement, 0, 0, 0, override, 0, 0, 0)
	message = append(message, ip[:]...)
	message = append(message, targetMAC, eights)
	message = append(message, mac...)
	binary.BigEndian.PutUint16(message[2:], checksum6(ip, allNodes, unix.IPPROTO_ICMPV6, message))

	f := make([]byte, 0, 14+40+len(message))
	f = append(f, 0x33, 0x33, 0, 0, 0, 1) // the all-nodes group's MAC
	f = append(f, mac...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IPV6)
	f = append(f, 6<<4, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(message)))
	f = append(f, unix.IPPROTO_ICMPV6, 255) // a router on the way would have taken one off
	f = append(f, ip[:]...)
	f = append(f, allNodes[:]...)
	return append(f, message...)
}

// checksum6 is the Internet checksum of a message over IPv6, pseudo header included;
// its length must be even and its checksum field 0.
func checksum6(from, to [16]byte, protocol byte, message []byte) uint16 {
	sum := uint32(len(message)) + uint32(protocol)
	for _, part := range [][]byte{from[:], to[:], message} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Frame is the frame for the address's family.
func Frame(mac net.HardwareAddr, addr netip.Addr) []byte {
	if addr.Is6() {
		return unsolicitedNA(mac, addr)
	}
	return gratuitousARP(mac, addr)
}
