package bpf_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
	"qlbaas/tests/rows"
)

// What a local sender leaves to the device, sums and segmentation, BPF_PROG_TEST_RUN
// cannot show. Here it comes over a wire, and what leaves is finished by devices without
// any offload.
//
//	client near ─── left far right ─── in member
//	             tc_lb          tc_lb

// wire is that network, with the program of a world on both devices in the middle.
type wire struct {
	*world
	client, member                          *afpacket.Socket
	clientMAC, memberMAC, leftMAC, rightMAC net.HardwareAddr
	far                                     *lab.Host
	natPort                                 uint16
	from                                    netip.AddrPort
	cseq, mseq                              uint32
}

// exit is where packets come out: the socket that gets them, and the device that sends them.
type exit struct {
	at   *afpacket.Socket
	from net.HardwareAddr
}

func (w *wire) toMember() exit { return exit{w.member, w.rightMAC} }
func (w *wire) toClient() exit { return exit{w.client, w.leftMAC} }

func TestPartialSums(t *testing.T) {
	rows.Proves(t, 4, 6, 23, 25)
	for _, o := range []options{{}, {ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			w := newWire(t, newWorld(t, tcHook, o))
			w.handshake()
			for _, size := range []int{0, 1, 999} {
				w.carriesUp(fmt.Sprintf("%d bytes", size), size, 0)
				w.carriesDown(fmt.Sprintf("%d bytes", size), size, 0)
			}
			w.carriesUp("super-packet", 20_000, 1400)
			w.carriesDown("super-packet", 20_000, 1400)
			stray := seg(packet.ACK, 5, 6).with(100)
			w.answered("RST", stray, 9, 0, stray.resetBy(w.gen.VIP.Address, netip.AddrPortFrom(w.from.Addr(), 9))[ethernetLength:])
			w.answered("RST for a super-packet", stray.with(2800), 9, 1400, nil)
			spent := seg(packet.SYN, 5, 0).with(100)
			spent.ip.TTL = 1
			w.answered("time exceeded", spent, 9, 0, nil)
			w.narrowWay()
			long := seg(packet.ACK, w.cseq, w.mseq).with(2800)
			w.answered("too big", long, w.from.Port(), 1400, nil)
		})
	}
}

// header says that sum and segmentation are the device's to do.
func (w *wire) header(size uint16) afpacket.Header {
	start := uint16(ethernetLength + ipv4Length)
	if w.ipv6 {
		start = ethernetLength + ipv6Length
	}
	h := afpacket.Header{NeedsChecksum: true, ChecksumStart: start, ChecksumOffset: 16}
	if size > 0 {
		h.GSO, h.HeaderLength, h.SegmentSize = afpacket.GSOTCPv4, start+20, size
		if w.ipv6 {
			h.GSO = afpacket.GSOTCPv6
		}
	}
	return h
}

func (s segment) partial() segment {
	s.tcp.Sum = packet.SumPartial
	return s
}

func (w *wire) memberAddress() netip.AddrPort { return w.gen.Members[0].Address }
func (w *wire) nat() netip.AddrPort {
	return netip.AddrPortFrom(w.gen.VIP.Address.Addr(), w.natPort)
}

func (w *wire) handshake() {
	w.Helper()
	in := seg(packet.SYN, clientISN, 0).frame(w.leftMAC, w.clientMAC, w.from, w.gen.VIP.Address)
	out := w.exchange("SYN", w.client, afpacket.Header{}, in, w.toMember())
	w.natPort = binary.BigEndian.Uint16(out[transportOf(out):])
	w.cseq, w.mseq = clientISN+1, memberISN+1
	in = seg(packet.SYN|packet.ACK, memberISN, w.cseq).frame(w.rightMAC, w.memberMAC, w.memberAddress(), w.nat())
	w.exchange("SYN-ACK", w.member, afpacket.Header{}, in, w.toClient())
	in = seg(packet.ACK, w.cseq, w.mseq).frame(w.leftMAC, w.clientMAC, w.from, w.gen.VIP.Address)
	w.exchange("ACK", w.client, afpacket.Header{}, in, w.toMember())
}

// carriesUp and carriesDown send payload in one packet, to be cut into segments of a size
// if there is one, and want every byte at the other end.
func (w *wire) carriesUp(what string, payload, size int) {
	w.Helper()
	s := seg(packet.ACK, w.cseq, w.mseq).with(payload)
	in := s.partial().frame(w.leftMAC, w.clientMAC, w.from, w.gen.VIP.Address)
	got := w.exchange("client's "+what, w.client, w.header(uint16(size)), in, w.toMember())
	s.ip.TTL--
	w.arrives("client's "+what, w.toMember(), got, s, size, func(s segment) []byte {
		return s.frame(w.memberMAC, w.rightMAC, w.nat(), w.memberAddress())
	})
	w.cseq += uint32(payload)
}

func (w *wire) carriesDown(what string, payload, size int) {
	w.Helper()
	s := seg(packet.ACK, w.mseq, w.cseq).with(payload)
	in := s.partial().frame(w.rightMAC, w.memberMAC, w.memberAddress(), w.nat())
	got := w.exchange("member's "+what, w.member, w.header(uint16(size)), in, w.toClient())
	s.ip.TTL--
	w.arrives("member's "+what, w.toClient(), got, s, size, func(s segment) []byte {
		return s.frame(w.clientMAC, w.leftMAC, w.gen.VIP.Address, w.from)
	})
	w.mseq += uint32(payload)
}

// arrives compares each segment of a packet, the first of which has come.
func (w *wire) arrives(what string, out exit, got []byte, whole segment, size int, frame func(segment) []byte) {
	w.Helper()
	payload := whole.data
	for {
		one := whole
		if size > 0 {
			one.data = payload[:min(size, len(payload))]
		}
		if d := packet.Diff(got, frame(one)); d != "" {
			w.Fatalf("%s:\n%s", what, d)
		}
		if payload = payload[len(one.data):]; len(payload) == 0 {
			return
		}
		whole.tcp.Seq += uint32(len(one.data))
		whole.ip.ID++
		got = w.await(what, out)
	}
}

// answered wants an answer to the client, whole, and from IP on as given.
func (w *wire) answered(what string, s segment, port uint16, size int, want []byte) {
	w.Helper()
	in := s.partial().frame(w.leftMAC, w.clientMAC, netip.AddrPortFrom(w.from.Addr(), port), w.gen.VIP.Address)
	out := w.exchange(what, w.client, w.header(uint16(size)), in, w.toClient())
	if want != nil && packet.Diff(out[ethernetLength:], want) != "" {
		w.Errorf("%s:\n%s", what, packet.Diff(out, append(out[:ethernetLength:ethernetLength], want...)))
	}
	if n := ethernetLength + 2*ipv6Length + 28; len(out) > n {
		w.Errorf("%s has %d bytes", what, len(out))
	}
}

// exchange sends a frame and returns what one of the devices in the middle sends next,
// whose sums have to be right.
func (w *wire) exchange(what string, by *afpacket.Socket, h afpacket.Header, in []byte, out exit) []byte {
	w.Helper()
	if err := by.SendWith(h, in); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	return w.await(what, out)
}

func (w *wire) await(what string, out exit) []byte {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	got, err := out.at.Await(ctx, func(f []byte) bool {
		kind := binary.BigEndian.Uint16(f[12:])
		listeners := kind == packet.TypeIPv6 && f[20] == 0 // their reports have a hop-by-hop header
		discovery := listeners || kind == packet.TypeIPv6 && f[20] == packet.ProtoICMPv6 && f[54] >= 130 && f[54] <= 143
		return net.HardwareAddr(f[6:12]).String() == out.from.String() && kind != packet.TypeARP && !discovery
	})
	if err != nil {
		w.Fatalf("%s: %v, %s", what, err, w.counted())
	}
	if got.Partial || got.Header.GSO != afpacket.GSONone {
		w.Fatalf("%s is not finished: %+v", what, got.Header)
	}
	w.sums(what, got.Bytes)
	return got.Bytes
}

// narrowWay makes the way to the member take less than the segments that come.
func (w *wire) narrowWay() {
	w.Helper()
	right, err := w.far.Netlink().LinkByName("right")
	w.must(err)
	member := w.memberAddress().Addr()
	w.must(w.far.Netlink().RouteAdd(&netlink.Route{
		LinkIndex: right.Attrs().Index, MTU: 1300, MTULock: true,
		Dst: &net.IPNet{IP: member.AsSlice(), Mask: net.CIDRMask(member.BitLen(), member.BitLen())},
	}))
}

func newWire(t *testing.T, world *world) *wire {
	t.Helper()
	w := &wire{world: world, from: world.host(client(1))}
	l := labtest.New(t)
	near, err := l.Host("near")
	w.must(err)
	w.far, err = l.Host("far")
	w.must(err)
	last, err := l.Host("member")
	w.must(err)
	bits, own := 24, w.gen.VIP.Address.Addr()
	if w.ipv6 {
		bits = 64
	}
	w.must(l.Link(lab.End{Host: near, Device: "near"}, lab.End{Host: w.far, Device: "left", Offload: lab.AllOff()}, 0))
	w.must(l.Link(lab.End{Host: last, Device: "in"},
		lab.End{Host: w.far, Device: "right", Offload: lab.AllOff(), Addresses: []netip.Prefix{netip.PrefixFrom(own, bits)}}, 0))
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		w.must(w.far.Sysctl(key, "1"))
	}
	for _, end := range []struct {
		host   *lab.Host
		device string
		mac    *net.HardwareAddr
	}{{near, "near", &w.clientMAC}, {w.far, "left", &w.leftMAC}, {last, "in", &w.memberMAC}, {w.far, "right", &w.rightMAC}} {
		*end.mac, err = end.host.MAC(end.device)
		w.must(err)
	}
	w.knows("left", w.from.Addr(), w.clientMAC)
	for _, m := range w.gen.Members {
		w.knows("right", m.Address.Addr(), w.memberMAC)
	}
	attach(t, w.far, "left", w.tc)
	attach(t, w.far, "right", w.tc)
	w.client, w.member = openVirtio(t, near, "near"), openVirtio(t, last, "in")
	return w
}

// knows gives the host in the middle a route and a neighbour.
func (w *wire) knows(device string, host netip.Addr, mac net.HardwareAddr) {
	w.Helper()
	dev, err := w.far.Netlink().LinkByName(device)
	w.must(err)
	index := dev.Attrs().Index
	w.must(w.far.Netlink().NeighAdd(&netlink.Neigh{
		LinkIndex: index, IP: host.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
	}))
	if device == "right" {
		return // in the VIP's subnet
	}
	w.must(w.far.Netlink().RouteAdd(&netlink.Route{
		LinkIndex: index, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: host.AsSlice(), Mask: net.CIDRMask(host.BitLen(), host.BitLen())},
	}))
}

func openVirtio(t *testing.T, h *lab.Host, device string) *afpacket.Socket {
	t.Helper()
	return openWith(t, h, device, afpacket.Options{VirtioHeader: true})
}
