package tests

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

// smallMTU is that of the link between router and hop, in bytes.
const smallMTU = 1400

// ways is the story's network with two hosts more behind a narrow link, and one on the
// bridge that sends frames as it likes:
//
//	far ── hop ── 1,400 bytes ── router ── br-lb ── members
//	                                        └ raw
//
// far is client or member: both have the link between them and the VIP then, and no
// other sign of it than the ICMP errors of router and hop.
type ways struct {
	*world
	far, hop, raw *lab.Host
	farAddress    netip.Addr
	// wire is raw's device.
	wire *afpacket.Socket
	vips byte // given out so far
}

func newWays(t *testing.T, hook string, ipv6 bool) *ways {
	t.Helper()
	x := &ways{world: newWorld(t, hook, lab.TutorialOptions{IPv6: ipv6})}
	for name, host := range map[string]**lab.Host{"far": &x.far, "hop": &x.hop, "raw": &x.raw} {
		h, err := x.Lab.Host(name)
		if err == nil && ipv6 && name != "raw" { // link-local addresses, to ask for neighbours
			err = h.Sysctl("net.ipv6.conf.default.addr_gen_mode", "0")
		}
		x.must(err)
		*host = h
	}
	narrow, behind := "10.20.0.%d/24", "10.30.0.%d/24"
	forwarding := "net.ipv4.ip_forward"
	if ipv6 {
		narrow, behind, forwarding = "2001:db8:20::%d/64", "2001:db8:30::%d/64", "net.ipv6.conf.all.forwarding"
	}
	at := func(network string, n int) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf(network, n))}
	}
	router, hop := at(narrow, 1), at(narrow, 2)
	gateway, far := at(behind, 1), at(behind, 4)
	x.farAddress = far[0].Addr()
	x.must(x.Lab.Link(
		lab.End{Host: x.Router, Device: "narrow", Addresses: router},
		lab.End{Host: x.hop, Device: "narrow", Addresses: hop}, smallMTU))
	x.must(x.Lab.Link(
		lab.End{Host: x.hop, Device: "behind", Addresses: gateway},
		lab.End{Host: x.far, Device: lab.Uplink, Addresses: far}, 0))
	x.must(x.Lab.Link(
		lab.End{Host: x.raw, Device: lab.Uplink},
		lab.End{Host: x.Node, Device: "port-raw", Bridge: lab.BridgeName}, 0))
	x.must(x.hop.Sysctl(forwarding, "1"))
	x.must(x.Router.AddRoute(far[0].Masked(), hop[0].Addr()))
	x.must(x.hop.AddRoute(netip.Prefix{}, router[0].Addr()))
	x.must(x.far.AddRoute(netip.Prefix{}, gateway[0].Addr()))
	x.tellAll()
	x.wire = x.sniff(x.raw, false)
	return x
}

func (x *ways) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// tellAll switches off the kernel's limits for ICMP errors of one kind to one host:
// a test asks for several at once.
func (x *ways) tellAll() {
	x.t.Helper()
	for _, h := range []*lab.Host{x.Router, x.hop, x.Members[0].Host, x.Members[1].Host} {
		x.must(h.Sysctl("net.ipv4.icmp_ratelimit", "0"))
		x.must(h.Sysctl("net.ipv6.icmp.ratelimit", "0"))
	}
}

// test runs a subtest in the same world.
func (x *ways) test(name string, test func(x *ways)) {
	x.world.test(name, func(w *world) {
		inner := *x
		inner.world = w
		test(&inner)
		x.vips = inner.vips
	})
}

// offloads of every device that a test's packets cross.
func (x *ways) offloads(o lab.Offload) {
	x.t.Helper()
	set := func(h *lab.Host, devices ...string) {
		for _, d := range devices {
			x.must(h.SetOffload(d, o))
		}
	}
	set(x.Client, lab.Uplink)
	set(x.far, lab.Uplink)
	set(x.hop, "narrow", "behind")
	set(x.Router, "narrow", "inside", "outside")
	set(x.Node, "port-router", "port-web1", "port-web2")
	for _, m := range x.Members {
		set(m.Host, lab.Uplink)
	}
}

// balancer is a pool at a VIP of its own, of which no host has heard anything yet. Nobody
// waits for the flows of datagrams to expire when the test ends.
func (x *ways) balancer(protocol string, endpoints ...netip.AddrPort) *balancer {
	x.t.Helper()
	x.vips++
	at := x.VIP.AsSlice()
	at[len(at)-1] = 100 + x.vips
	vip, _ := netip.AddrFromSlice(at)
	b := x.balance(balancerOptions{
		at: netip.AddrPortFrom(vip, endpoints[0].Port()), endpoints: endpoints, pool: object{"protocol": protocol},
	})
	if protocol == "UDP" {
		x.t.Cleanup(func() {
			x.remove(vips, b.vip)
			b.vip = ""
		})
	}
	return b
}

// server listens at an address of a host, where the test itself accepts.
func (x *ways) server(host *lab.Host, at netip.AddrPort) *net.TCPListener {
	x.t.Helper()
	l, err := host.Listen("tcp", at.String())
	x.must(err)
	x.t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// pair is both ends of a connection through a balancer.
type pair struct{ client, member *net.TCPConn }

// pair connects to the balancer and accepts where that leads to.
func (x *ways) pair(b *balancer, from *lab.Host, at *net.TCPListener) pair {
	x.t.Helper()
	client, err := from.Dial(bounded(x.t, requestTimeout), "tcp", b.at.String())
	x.must(err)
	x.t.Cleanup(func() { client.Close() })
	x.must(at.SetDeadline(time.Now().Add(requestTimeout)))
	member, err := at.AcceptTCP()
	x.must(err)
	x.t.Cleanup(func() { member.Close() })
	return pair{client.(*net.TCPConn), member}
}

// move sends size bytes from one end to the other and compares them there.
func move(from, to *net.TCPConn, size int64, seed uint64) error {
	deadline := time.Now().Add(requestTimeout)
	if err := errors.Join(from.SetWriteDeadline(deadline), to.SetReadDeadline(deadline)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(from, lab.Pattern(seed), size)
		sent <- err
	}()
	return errors.Join(lab.Compare(io.LimitReader(to, size), seed, size), <-sent)
}

// bulk moves a megabyte each way.
func (x *ways) bulk(p pair) {
	x.t.Helper()
	start := time.Now()
	if err := move(p.member, p.client, 1<<20, 1); err != nil {
		x.t.Errorf("down: %v", err)
	}
	down := time.Since(start)
	if err := move(p.client, p.member, 1<<20, 2); err != nil {
		x.t.Errorf("up: %v", err)
	}
	x.t.Logf("a megabyte down in %s, up in %s", down, time.Since(start)-down)
}

// pathMTU is what a host's kernel has learned of the way to an address; 0 is nothing.
func pathMTU(routes *netlink.Handle, to netip.Addr) (int, error) {
	found, err := routes.RouteGet(to.AsSlice())
	if err != nil {
		return 0, fmt.Errorf("route to %s: %w", to, err)
	}
	return found[0].MTU, nil
}

// learned wants a host to know a path's MTU.
func (x *ways) learned(who string, host *lab.Host, to netip.Addr, want int) {
	x.t.Helper()
	mtu, err := pathMTU(host.Netlink(), to)
	x.must(err)
	if mtu != want {
		x.t.Errorf("%s knows an MTU of %d on the way to %s, want %d", who, mtu, to, want)
	}
}

// segments wants a connection's segments to be no longer than a path's MTU.
func (x *ways) segments(who string, c *net.TCPConn, want uint32) {
	x.t.Helper()
	raw, err := c.SyscallConn()
	x.must(err)
	var info *unix.TCPInfo
	var got error
	x.must(raw.Control(func(fd uintptr) { info, got = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	x.must(got)
	if info.Pmtu != want || info.Snd_mss >= want {
		x.t.Errorf("%s's connection has a path MTU of %d and segments of %d, want %d", who, info.Pmtu, info.Snd_mss, want)
	}
}

// sniff opens a host's device; outgoing frames are received too if they are wanted.
func (x *ways) sniff(host *lab.Host, outgoing bool) *afpacket.Socket {
	x.t.Helper()
	return labtest.Socket(x.t, host, lab.Uplink, afpacket.Options{Outgoing: outgoing, VirtioHeader: true})
}

// await waits for a frame and returns it as a device would have sent it. Its sums have
// to be right.
func (x *ways) await(s *afpacket.Socket, match func([]byte) bool) []byte {
	x.t.Helper()
	f, err := s.Await(bounded(x.t, requestTimeout), match)
	x.must(err)
	frame := f.Bytes
	if f.Header.NeedsChecksum {
		frame, err = packet.Complete(frame, int(f.Header.ChecksumStart), int(f.Header.ChecksumOffset))
		x.must(err)
	}
	if err := packet.Verify(frame); err != nil {
		x.t.Errorf("%s: %v", packet.Summary(frame), err)
	}
	return frame
}

// mac is the hardware address of a balancer.
func (x *ways) mac(b *balancer) net.HardwareAddr {
	x.t.Helper()
	var mac net.HardwareAddr
	x.must(lab.Within(b.netns(), func() error {
		device, err := net.InterfaceByName(b.inside())
		if err == nil {
			mac = device.HardwareAddr
		}
		return err
	}))
	return mac
}
