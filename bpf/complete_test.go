package bpf_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"qlbaas/maps"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
	"qlbaas/tests/rows"
)

// Many devices sum a packet up as it comes in and leave the comparison to the kernel
// (CHECKSUM_COMPLETE). What a program changes has to be changed in that sum as well, or
// the receiver's kernel takes a good packet for a damaged one. A tunnel whose outer sum
// was checked delivers its inner packets like that.
//
//	near vx ═══ tunnel ═══ vx far out ─── in member
//	                      tc_lb          watched

// tunnel is that network, with the program of a world on it.
type tunnel struct {
	near, member *afpacket.Socket
	nearMAC      net.HardwareAddr
	farMAC       net.HardwareAddr
	watch        *ebpf.Map
}

func TestSummedByDevice(t *testing.T) {
	rows.Proves(t, 7)
	for _, o := range []options{{}, {ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			w := newWorld(t, tcHook, o)
			n := w.newTunnel(t)
			from := w.host(client(1))
			at := w.gen.VIP.Address
			syn := seg(packet.SYN, clientISN, 0).options(packet.MSS(1400), packet.Timestamps(77, 0))
			n.carries(w, "SYN", syn.frame(n.farMAC, n.nearMAC, from, at))
			for _, size := range []int{1, 3, 400, 1200} { // SYNs may have data, and need no flow
				s := seg(packet.SYN, clientISN, 0).with(size)
				n.carries(w, "SYN with data", s.frame(n.farMAC, n.nearMAC, netip.AddrPortFrom(from.Addr(), uint16(5000+size)), at))
			}
			stranger := netip.AddrPortFrom(from.Addr(), 7000)
			n.answers(w, seg(packet.ACK, 5, 6).with(300).frame(n.farMAC, n.nearMAC, stranger, at))
			spent := seg(packet.SYN, 5, 0).with(300)
			spent.ip.TTL = 1
			n.answers(w, spent.frame(n.farMAC, n.nearMAC, stranger, at))
			n.carries(w, "ICMP error", n.errorAbout(w, netip.AddrPortFrom(from.Addr(), 5400)))
			w.configure(func(g *maps.Generation) { g.VIP.Protocol = maps.UDP })
			for _, size := range []int{0, 1, 1200} {
				n.carries(w, "datagram", datagram(size).frame(n.farMAC, n.nearMAC, netip.AddrPortFrom(from.Addr(), uint16(6000+size)), at))
			}
		})
	}
}

// carries sends a frame through the tunnel and the program, and wants the kernel's sum
// of what comes out to be that of its bytes.
func (n *tunnel) carries(w *world, what string, in []byte) {
	w.Helper()
	const nothing = int64(1) << 40
	w.must(n.watch.Put(uint32(0), nothing))
	out := n.exchange(w, in, n.member, func(f []byte) bool { return f[ethernetLength]>>4 == in[ethernetLength]>>4 })
	w.sums(what, out)
	want := wordSum(out[ethernetLength:])
	// The socket has the packet before the program that looks at its sum.
	var kernel int64
	for end := time.Now().Add(time.Second); time.Now().Before(end); runtime.Gosched() {
		w.must(n.watch.Lookup(uint32(0), &kernel))
		if kernel != nothing {
			break
		}
	}
	if kernel < 0 || kernel == nothing {
		w.Fatalf("%s: the kernel has no sum of it (%d): this shows nothing", what, kernel)
	}
	if is := folded(uint64(kernel)); is%0xffff != want%0xffff {
		w.Errorf("%s: the kernel's sum is %#04x, that of the bytes %#04x", what, is, want)
	}
}

// answers sends a frame that the program answers, and wants the answer whole.
func (n *tunnel) answers(w *world, in []byte) {
	w.Helper()
	out := n.exchange(w, in, n.near, func(f []byte) bool { return net.HardwareAddr(f[6:12]).String() == n.farMAC.String() })
	w.sums("answer", out)
}

// errorAbout is an ICMP error from the client's side about the member's answer to a SYN.
func (n *tunnel) errorAbout(w *world, from netip.AddrPort) []byte {
	quote := packet.Quote{Packet: seg(packet.SYN|packet.ACK, memberISN, 1).layers(w.gen.VIP.Address, from), Keep: 8}
	e := w.errors()[0].layer
	return icmp(n.farMAC, n.nearMAC, from.Addr(), w.gen.VIP.Address.Addr(), 64, e, quote)
}

func (n *tunnel) exchange(w *world, in []byte, at *afpacket.Socket, match func([]byte) bool) []byte {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	w.must(n.near.Send(in))
	got, err := at.Await(ctx, func(f []byte) bool {
		return len(f) > 40 && binary.BigEndian.Uint16(f[12:]) == binary.BigEndian.Uint16(in[12:]) && match(f)
	})
	if err != nil {
		w.Fatalf("%s: %v, %s", packet.Summary(in), err, w.counted())
	}
	return got.Bytes
}

// wordSum adds bytes up in words as the kernel sees them.
func wordSum(b []byte) uint16 {
	var sum uint64
	for ; len(b) > 1; b = b[2:] {
		sum += uint64(binary.NativeEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint64(binary.NativeEndian.Uint16([]byte{b[0], 0}))
	}
	return folded(sum)
}

func folded(sum uint64) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func (w *world) newTunnel(t *testing.T) *tunnel {
	t.Helper()
	l := labtest.New(t)
	hosts := map[string]*lab.Host{}
	for _, name := range []string{"near", "far", "member"} {
		h, err := l.Host(name)
		w.must(err)
		hosts[name] = h
	}
	near, far, member := hosts["near"], hosts["far"], hosts["member"]
	end := func(h *lab.Host, device, address string, o lab.Offload) lab.End {
		return lab.End{Host: h, Device: device, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}, Offload: o}
	}
	w.must(l.Link(end(near, "under", "192.168.9.1/24", lab.AllOff()), end(far, "under", "192.168.9.2/24", lab.AllOff()), 1600))
	bits := 24
	if w.ipv6 {
		bits = 64
	}
	own := w.gen.VIP.Address.Addr()
	w.must(l.Link(lab.End{Host: far, Device: "out", Addresses: []netip.Prefix{netip.PrefixFrom(own, bits)}},
		lab.End{Host: member, Device: "in"}, 1600))
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		w.must(far.Sysctl(key, "1"))
	}
	n := &tunnel{nearMAC: tunnelEnd(w, near, "192.168.9.2"), farMAC: tunnelEnd(w, far, "192.168.9.1")}
	mac, err := member.MAC("in")
	w.must(err)
	out, err := far.Netlink().LinkByName("out")
	w.must(err)
	for _, m := range w.gen.Members {
		w.must(far.Netlink().NeighAdd(&netlink.Neigh{
			LinkIndex: out.Attrs().Index, IP: m.Address.Addr().AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
		}))
	}
	attach(t, far, "vx", w.tc)
	n.watch = watchSum(t, member)
	n.near, n.member = openSocket(t, near, "vx"), openSocket(t, member, "in")
	return n
}

// tunnelEnd adds an end of the tunnel to a host and returns its MAC.
func tunnelEnd(w *world, h *lab.Host, remote string) net.HardwareAddr {
	w.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "vx", 1500
	w.must(h.Netlink().LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: 1, Port: 4789, Group: net.ParseIP(remote), UDPCSum: true,
	}))
	w.must(h.SetUp("vx"))
	mac, err := h.MAC("vx")
	w.must(err)
	return mac
}

func openSocket(t *testing.T, h *lab.Host, device string) *afpacket.Socket {
	t.Helper()
	return openWith(t, h, device, afpacket.Options{})
}

func openWith(t *testing.T, h *lab.Host, device string, o afpacket.Options) *afpacket.Socket {
	t.Helper()
	var s *afpacket.Socket
	err := h.Do(func() (err error) {
		s, err = afpacket.Open(device, o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func attach(t *testing.T, h *lab.Host, device string, program *ebpf.Program) {
	t.Helper()
	dev, err := h.Netlink().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	var l link.Link
	err = h.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: dev.Attrs().Index, Program: program, Attach: ebpf.AttachTCXIngress})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// watchSum notes the kernel's sum of the last packet that the member got; a negative
// number says that there is none.
func watchSum(t *testing.T, h *lab.Host) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 0),
		asm.FnCsumUpdate.Call(),
		asm.Mov.Reg(asm.R6, asm.R0),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.StoreMem(asm.R0, 0, asm.R6, asm.DWord),
		asm.Mov.Imm(asm.R0, tcUnspec-1<<32).WithSymbol("out"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	attach(t, h, "in", program)
	return m
}
