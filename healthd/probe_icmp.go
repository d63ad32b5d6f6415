package healthd

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// nonceLen is the length in bytes of the payload by which an answer is known.
const nonceLen = 16

// icmpFilter is ICMP_FILTER of linux/icmp.h, on SOL_RAW and SOL_ICMPV6 alike.
const icmpFilter = 1

// family is what differs between the ICMP of IPv4 and of IPv6.
type family struct {
	proto       int
	ask, answer icmp.Type
	filter      func(fd int) error
}

var (
	icmp4 = family{unix.IPPROTO_ICMP, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, onlyReplies4}
	icmp6 = family{unix.IPPROTO_ICMPV6, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, onlyReplies6}
)

// ping sends one echo request and passes when the member answers it.
func (p *prober) ping(ctx context.Context, at endpoint) error {
	f := icmp6
	if at.addr.Addr().Unmap().Is4() {
		f = icmp4
	}
	// A connected raw socket gets only what comes from its peer: else every socket
	// would get a copy of the answers to all others.
	c, err := p.dial(ctx, at, unix.SOCK_RAW, f.proto, f.filter)
	if err != nil {
		return err
	}
	defer c.Close()
	echo := &icmp.Echo{ID: int(rand.Uint32N(1 << 16)), Seq: int(rand.Uint32N(1 << 16)), Data: make([]byte, nonceLen)}
	crand.Read(echo.Data)
	// The kernel fills the checksum of ICMPv6, Marshal that of ICMP.
	packet, err := (&icmp.Message{Type: f.ask, Body: echo}).Marshal(nil)
	if err != nil {
		return &probeError{step: "build the echo request", err: err, local: true}
	}
	if _, err := c.Write(packet); err != nil {
		return &probeError{step: "send the echo request", err: err, local: exhausted(err)}
	}
	for buf := make([]byte, 1500); ; {
		n, err := c.Read(buf)
		if err != nil {
			return &probeError{step: "wait for the echo reply", err: err}
		}
		if f.answers(buf[:n], echo) {
			return nil
		}
	}
}

// answers reports whether packet, as read from the raw socket, is the reply to
// echo. IPv4 sockets deliver the IP header too.
func (f family) answers(packet []byte, echo *icmp.Echo) bool {
	if f.proto == unix.IPPROTO_ICMP {
		if len(packet) == 0 {
			return false
		}
		header := int(packet[0]&0x0f) * 4
		if header < ipv4.HeaderLen || header > len(packet) {
			return false
		}
		packet = packet[header:]
	}
	msg, err := icmp.ParseMessage(f.proto, packet)
	if err != nil || msg.Type != f.answer || msg.Code != 0 {
		return false
	}
	got, ok := msg.Body.(*icmp.Echo)
	return ok && got.ID == echo.ID && got.Seq == echo.Seq && bytes.Equal(got.Data, echo.Data)
}

// onlyReplies4 has the kernel drop all ICMP but echo replies; it takes a mask of
// the types to block.
func onlyReplies4(fd int) error {
	block := ^(1 << int(ipv4.ICMPTypeEchoReply))
	if err := unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, block); err != nil {
		return fmt.Errorf("set ICMP filter: %w", err)
	}
	return nil
}

func onlyReplies6(fd int) error {
	var block unix.ICMPv6Filter
	for i := range block.Data {
		block.Data[i] = ^uint32(0)
	}
	reply := int(ipv6.ICMPTypeEchoReply)
	block.Data[reply/32] &^= 1 << (reply % 32)
	if err := unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, icmpFilter, &block); err != nil {
		return fmt.Errorf("set ICMPv6 filter: %w", err)
	}
	return nil
}
