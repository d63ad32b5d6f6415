package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// Every test runs in one private network namespace, where the kernel's routes and
// neighbours are real: a program asks them for each packet that it forwards.
func TestMain(m *testing.M) {
	os.Exit(lab.Enter(func() int {
		if err := buildNetwork(); err != nil {
			fmt.Fprintf(os.Stderr, "build network: %v\n", err)
			return 1
		}
		return m.Run()
	}))
}

// The balancer's device, and the other end of the pair, where a bridge would be.
const (
	inside  = "ns-test"
	outside = "tap-test"
)

// The index must not be the peer's, see tests/lab; any that is free will do.
const insideIndex = 70_001

// The story's addresses, and those of hosts that have something special.
var (
	vip      = netip.MustParseAddrPort("172.16.100.11:80")
	gateway  = netip.MustParseAddr("172.16.100.1")
	neighbor = netip.MustParseAddr("172.16.100.4")   // a client in the VIP's subnet
	silent   = netip.MustParseAddr("172.16.100.200") // has no neighbour entry
	narrow   = netip.MustParseAddr("172.16.200.9")   // behind a route with an MTU of 1400
	nowhere  = netip.MustParseAddr("192.0.2.9")      // has no route
)

const narrowMTU = 1400

var (
	ownMAC     = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 1}
	gatewayMAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 2}
	otherMAC   = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 99}
)

// memberAddress is where the member in a slot lives: the first ones in the VIP's
// subnet, the rest behind the gateway.
func memberAddress(slot int) netip.AddrPort {
	web := []string{"172.16.100.9:80", "172.16.100.10:8080", "172.16.100.12:80"}
	if slot < len(web) {
		return netip.MustParseAddrPort(web[slot])
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, byte(slot >> 8), byte(slot)}), 80)
}

// macOf is the address of the next hop on the way to a host.
func macOf(host netip.Addr) net.HardwareAddr {
	host = four(host)
	if a := host.As4(); netip.MustParsePrefix("172.16.100.0/24").Contains(host) && host != gateway {
		return net.HardwareAddr{0xfa, 0x16, 0x3e, 1, 0, a[3]}
	}
	return gatewayMAC
}

// six is a host's IPv6 address: its network's 24 bits in the prefix of 64, its number at
// the end. four is the way back; either leaves its own family alone.
func six(a netip.Addr) netip.Addr {
	if a.Is6() {
		return a
	}
	b := a.As4()
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, b[0], b[1], 0, b[2], 15: b[3]})
}

func four(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte{b[4], b[5], b[7], b[15]})
}

func six80(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(six(a.Addr()), a.Port()) }

func buildNetwork() error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return err
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		if err := os.WriteFile("/proc/sys/net/"+family+"/conf/all/forwarding", []byte("1"), 0o644); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Index = inside, ownMAC, insideIndex
	veth := netlink.NewVeth(attrs)
	veth.PeerName = outside
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add pair: %w", err)
	}
	for _, name := range []string{inside, outside} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	dev, err := netlink.LinkByName(inside)
	if err != nil {
		return err
	}
	for _, family := range []func(netip.Addr) netip.Addr{four, six} {
		if err := addressAndRoutes(dev, family); err != nil {
			return err
		}
	}
	return runXDP(dev)
}

func addressAndRoutes(dev netlink.Link, family func(netip.Addr) netip.Addr) error {
	bits := 24 // as far as the story's networks reach
	if family(gateway).Is6() {
		bits = 64
	}
	own := family(vip.Addr())
	subnet := &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(bits, own.BitLen())}
	if err := netlink.AddrAdd(dev, &netlink.Addr{IPNet: subnet, Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	hosts := []netip.Addr{gateway, neighbor}
	for slot := range 3 {
		hosts = append(hosts, memberAddress(slot).Addr())
	}
	for _, host := range hosts {
		n := &netlink.Neigh{
			LinkIndex:    dev.Attrs().Index,
			IP:           family(host).AsSlice(),
			HardwareAddr: macOf(host),
			State:        netlink.NUD_PERMANENT,
		}
		if err := netlink.NeighAdd(n); err != nil {
			return fmt.Errorf("add neighbour %s: %w", host, err)
		}
	}
	around := func(host netip.Addr) *net.IPNet {
		host = netip.PrefixFrom(family(host), bits).Masked().Addr()
		return &net.IPNet{IP: host.AsSlice(), Mask: net.CIDRMask(bits, host.BitLen())}
	}
	for _, r := range []netlink.Route{
		{Gw: family(gateway).AsSlice(), Dst: &net.IPNet{IP: make(net.IP, len(own.AsSlice())), Mask: net.CIDRMask(0, own.BitLen())}},
		{Gw: family(gateway).AsSlice(), Dst: around(narrow), MTU: narrowMTU, MTULock: true},
		{Type: unix.RTN_UNREACHABLE, Dst: around(nowhere)},
	} {
		if err := netlink.RouteAdd(&r); err != nil {
			return fmt.Errorf("add route %s: %w", r.Dst, err)
		}
	}
	return nil
}

// runXDP attaches a program that passes everything: only then does a veth device
// have a receive queue that BPF_PROG_TEST_RUN can pretend to receive from.
func runXDP(dev netlink.Link) error {
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
		License:      "Dual BSD/GPL",
	})
	if err != nil {
		return err
	}
	defer pass.Close() // the device holds it
	if err := netlink.LinkSetXdpFd(dev, pass.FD()); err != nil {
		return fmt.Errorf("attach XDP: %w", err)
	}
	return nil
}
