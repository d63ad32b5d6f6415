package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// hostile is a packet with one thing wrong about it, and what is to become of it.
type hostile struct {
	name  string
	frame []byte
	want  want
}

func (w *world) table(cases []hostile) {
	w.Helper()
	for _, c := range cases {
		w.expect(c.name, c.frame, c.want)
	}
}

// syn80 is a client's plain SYN to the VIP, and change is what is not so plain.
func syn80(change func(e *packet.Ethernet, ip *packet.IPv4, tcp *packet.TCP)) []byte {
	from := client(1)
	e := packet.Ethernet{Dst: ownMAC, Src: gatewayMAC}
	ip := packet.IPv4{Src: from.Addr(), Dst: vip.Addr(), TTL: 64}
	tcp := packet.TCP{SrcPort: from.Port(), DstPort: vip.Port(), Flags: packet.SYN, Seq: clientISN, Window: 64240}
	change(&e, &ip, &tcp)
	return packet.Frame(e, ip, tcp)
}

func withIP(change func(ip *packet.IPv4)) []byte {
	return syn80(func(_ *packet.Ethernet, ip *packet.IPv4, _ *packet.TCP) { change(ip) })
}

func withTCP(change func(tcp *packet.TCP)) []byte {
	return syn80(func(_ *packet.Ethernet, _ *packet.IPv4, tcp *packet.TCP) { change(tcp) })
}

func withEthernet(change func(e *packet.Ethernet)) []byte {
	return syn80(func(e *packet.Ethernet, _ *packet.IPv4, _ *packet.TCP) { change(e) })
}

// ended is a frame whose bytes end after n, padded with nothing.
func ended(frame []byte, n int) []byte { return frame[:n] }

const (
	ethernetLength = 14
	ipv4Length     = 20
	ipv6Length     = 40
)

func TestParse(t *testing.T) {
	rows.Proves(t, 1, 2, 12, 13, 15, 16, 17, 19, 27, 28, 29, 30, 31, 34, 35, 36, 37, 38, 40, 41, 43, 44, 45, 46, 47)
	onHooks(t, options{}, func(w *world) {
		// Once with nothing in the tables, and once in the face of the very flow
		// that the packets claim to belong to, which must not feel any of it.
		for name, prepare := range map[string]func(w *world){
			"empty tables": func(*world) {},
			"in a flow":    func(w *world) { w.open(client(1), 0, 1024) },
			"in a handshake": func(w *world) {
				w.syn(client(1), 0, 1024).synAck()
			},
		} {
			w.run(name, func(w *world) {
				prepare(w)
				w.table(headerCases())
				w.table(tcpCases())
				w.table(linkCases())
				w.table(foreignCases())
				w.table(groupCases())
				if w.hook == xdpHook {
					w.table(shortCases())
				}
			})
		}
		w.run("nothing known", func(w *world) {
			w.table(sourceCases())
			w.table(portCases())
			w.table(strayCases())
		})
	})
}

// shortCases end in the middle of the IP header. BPF_PROG_TEST_RUN refuses them on
// tc, where a wire would not.
func shortCases() (cases []hostile) {
	whole := withIP(func(*packet.IPv4) {})
	for n := range ipv4Length {
		cases = append(cases, hostile{fmt.Sprintf("%d bytes of IPv4", n), ended(whole, ethernetLength+n), drops("trunc_l3")})
	}
	return cases
}

func headerCases() (cases []hostile) {
	add := func(reason, name string, change func(ip *packet.IPv4)) {
		cases = append(cases, hostile{name, withIP(change), drops(reason)})
	}
	for _, v := range []uint8{0, 1, 3, 5, 6, 15} {
		add("ip_ver", fmt.Sprintf("version %d", v), func(ip *packet.IPv4) { ip.Version = &v })
	}
	for n := range uint8(5) {
		add("ip_ihl", fmt.Sprintf("IHL %d", n), func(ip *packet.IPv4) { ip.IHL = &n })
	}
	add("ip_len", "IHL 15 in 40 bytes", func(ip *packet.IPv4) { ip.IHL = new(uint8(15)) })
	for _, n := range []uint16{0, 1, 19, 41, 1500, 65535} {
		add("ip_len", fmt.Sprintf("total length %d of 40", n), func(ip *packet.IPv4) { ip.TotalLength = &n })
	}
	for n := uint16(20); n < 40; n++ {
		add("trunc_l4", fmt.Sprintf("total length %d of 40", n), func(ip *packet.IPv4) { ip.TotalLength = &n })
	}
	add("ip_opts", "IHL 6 without room", func(ip *packet.IPv4) { ip.IHL = new(uint8(6)) })
	add("frag", "first fragment", func(ip *packet.IPv4) { ip.MF = true })
	add("frag", "last fragment, bytes like ports", func(ip *packet.IPv4) { ip.FragmentOffset = 1480 })
	add("frag", "middle fragment", func(ip *packet.IPv4) { ip.FragmentOffset, ip.MF = 8, true })
	add("frag", "fragment that ends beyond 65,535", func(ip *packet.IPv4) { ip.FragmentOffset = 65528 })

	tiny := withIP(func(ip *packet.IPv4) { ip.MF, ip.TotalLength = true, new(uint16(28)) })
	cases = append(cases, hostile{"tiny first fragment", ended(tiny, ethernetLength+28), drops("frag")})
	for n := range 20 {
		length := uint16(ipv4Length + n)
		cut := withIP(func(ip *packet.IPv4) { ip.TotalLength = &length })
		cases = append(cases, hostile{
			fmt.Sprintf("%d bytes of TCP", n), ended(cut, ethernetLength+int(length)), drops("trunc_l4"),
		})
	}
	return cases
}

func tcpCases() (cases []hostile) {
	add := func(reason, name string, change func(tcp *packet.TCP)) {
		cases = append(cases, hostile{name, withTCP(change), drops(reason)})
	}
	for n := range uint8(5) {
		add("tcp_doff", fmt.Sprintf("data offset %d", n), func(tcp *packet.TCP) { tcp.DataOffset = &n })
	}
	add("tcp_doff", "data offset 15 beyond the packet", func(tcp *packet.TCP) { tcp.DataOffset = new(uint8(15)) })
	for _, flags := range absurdFlags() {
		add("tcp_flags", "flags "+flags.String(), func(tcp *packet.TCP) { tcp.Flags = flags })
	}
	add("port0", "source port 0", func(tcp *packet.TCP) { tcp.SrcPort = 0 })
	add("port0", "destination port 0", func(tcp *packet.TCP) { tcp.DstPort = 0 })
	return cases
}

// absurdFlags are what no TCP sends.
func absurdFlags() []packet.Flags {
	return []packet.Flags{
		0, packet.FIN, packet.PSH, packet.URG, packet.FIN | packet.PSH | packet.URG, 0xff,
		packet.SYN | packet.FIN, packet.SYN | packet.RST, packet.SYN | packet.FIN | packet.ACK,
		packet.SYN | packet.RST | packet.ACK, packet.ECE | packet.CWR,
	}
}

func linkCases() (cases []hostile) {
	add := func(o want, name string, change func(e *packet.Ethernet)) {
		cases = append(cases, hostile{name, withEthernet(change), o})
	}
	add(drops("l2_bcast"), "to all hosts", func(e *packet.Ethernet) {
		e.Dst = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	})
	add(drops("l2_bcast"), "to a group", func(e *packet.Ethernet) {
		e.Dst = net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}
	})
	add(passes(), "to another host", func(e *packet.Ethernet) { e.Dst = otherMAC })
	add(passes(), "to an address that differs in the last byte", func(e *packet.Ethernet) {
		e.Dst = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 3}
	})
	add(passes(), "VLAN 5", func(e *packet.Ethernet) { e.VLANs = []packet.VLAN{{ID: 5}} })
	add(passes(), "three tags", func(e *packet.Ethernet) {
		e.VLANs = []packet.VLAN{{ID: 5, TPID: packet.TypeQinQ}, {ID: 6}, {ID: 7}}
	})
	for _, kind := range []uint16{packet.TypeARP, packet.TypeIPv6, 0x88cc, 0x002e, 0xffff} {
		add(passes(), fmt.Sprintf("ethertype %#04x", kind), func(e *packet.Ethernet) { e.Type = &kind })
	}
	return cases
}

// foreignCases are none of the balancer's business, whatever is wrong with them.
func foreignCases() (cases []hostile) {
	for _, proto := range []uint8{0, packet.ProtoIPv4, packet.ProtoIPv6, 47, packet.ProtoESP, 132, 255} {
		cases = append(cases, hostile{
			fmt.Sprintf("protocol %d", proto), withIP(func(ip *packet.IPv4) { ip.Protocol = &proto }), passes(),
		})
	}
	e := packet.Ethernet{Dst: ownMAC, Src: gatewayMAC}
	ip := packet.IPv4{Src: client(1).Addr(), Dst: vip.Addr(), TTL: 64}
	udp := packet.UDP{SrcPort: client(1).Port(), DstPort: 80}
	for _, frag := range []struct {
		name   string
		offset int
		more   bool
		udp    want
	}{{"", 0, false, passes()}, {", first fragment", 0, true, drops("frag")}, {", last fragment", 1480, false, drops("frag")}} {
		ip.FragmentOffset, ip.MF = frag.offset, frag.more
		cases = append(cases,
			hostile{"UDP" + frag.name, packet.Frame(e, ip, udp, packet.Repeat(64)), frag.udp},
			hostile{"ping" + frag.name, packet.Frame(e, ip, packet.EchoRequest(1, 1), packet.Repeat(56)), passes()})
	}
	broken := func(name string, change func(ip *packet.IPv4, tcp *packet.TCP)) {
		frame := syn80(func(_ *packet.Ethernet, ip *packet.IPv4, tcp *packet.TCP) {
			ip.Dst = netip.MustParseAddr("172.16.100.77")
			change(ip, tcp)
		})
		cases = append(cases, hostile{"to another address, " + name, frame, passes()})
	}
	broken("nothing wrong", func(*packet.IPv4, *packet.TCP) {})
	broken("IHL 4", func(ip *packet.IPv4, _ *packet.TCP) { ip.IHL = new(uint8(4)) })
	broken("total length 0", func(ip *packet.IPv4, _ *packet.TCP) { ip.TotalLength = new(uint16(0)) })
	broken("total length 30", func(ip *packet.IPv4, _ *packet.TCP) { ip.TotalLength = new(uint16(30)) })
	broken("a fragment", func(ip *packet.IPv4, _ *packet.TCP) { ip.MF = true })
	broken("TTL 0", func(ip *packet.IPv4, _ *packet.TCP) { ip.TTL = 0 })
	broken("data offset 0", func(_ *packet.IPv4, tcp *packet.TCP) { tcp.DataOffset = new(uint8(0)) })
	broken("SYN and FIN", func(_ *packet.IPv4, tcp *packet.TCP) { tcp.Flags |= packet.FIN })
	broken("port 0", func(_ *packet.IPv4, tcp *packet.TCP) { tcp.SrcPort = 0 })
	broken("from 127.0.0.1", func(ip *packet.IPv4, _ *packet.TCP) { ip.Src = netip.MustParseAddr("127.0.0.1") })
	return cases
}

// groupCases are for everybody in the subnet, or in a group: the stack's.
func groupCases() (cases []hostile) {
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, a := range []string{"172.16.100.255", "172.16.100.0", "255.255.255.255", "224.0.0.1", "239.1.1.1"} {
		for name, mac := range map[string]net.HardwareAddr{"": ownMAC, ", to all": all} {
			cases = append(cases, hostile{"to " + a + name, syn80(func(e *packet.Ethernet, ip *packet.IPv4, _ *packet.TCP) {
				e.Dst, ip.Dst = mac, netip.MustParseAddr(a)
			}), passes()})
		}
	}
	return cases
}

func sourceCases() (cases []hostile) {
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"172.16.100.255", // all hosts of the VIP's subnet
	} {
		cases = append(cases, hostile{"from " + a, withIP(func(ip *packet.IPv4) { ip.Src = netip.MustParseAddr(a) }), drops("martian")})
	}
	self := func(sport, dport uint16, flags packet.Flags) {
		cases = append(cases, hostile{
			fmt.Sprintf("%s from the VIP's port %d to its port %d", flags, sport, dport),
			syn80(func(_ *packet.Ethernet, ip *packet.IPv4, tcp *packet.TCP) {
				ip.Src = vip.Addr()
				tcp.SrcPort, tcp.DstPort, tcp.Flags = sport, dport, flags
			}),
			drops("spoof_self"),
		})
	}
	self(80, 80, packet.SYN) // "land"
	self(40000, 80, packet.SYN)
	self(80, 80, packet.ACK)
	self(80, 40000, packet.SYN|packet.ACK)
	self(40000, 22, packet.SYN)
	return cases
}

func portCases() (cases []hostile) {
	for _, flags := range []packet.Flags{packet.SYN, packet.ACK, packet.SYN | packet.ACK, packet.RST, packet.FIN | packet.ACK} {
		add := func(o want, dport uint16) {
			cases = append(cases, hostile{
				fmt.Sprintf("%s to port %d", flags, dport),
				withTCP(func(tcp *packet.TCP) { tcp.DstPort, tcp.Flags = dport, flags }), o,
			})
		}
		for _, dport := range []uint16{1, 22, 79, 81, 443, 1023, 65024, 65535} {
			add(passes(), dport)
		}
		for _, dport := range []uint16{1024, 1025, 8080, 40000, 65022, 65023} {
			add(drops("nat_nomap"), dport)
		}
	}
	return cases
}

// strayCases belong to no connection. A client that believes in one hears at once that
// there is none; nothing answers a RST, nor what only a member sends.
func strayCases() (cases []hostile) {
	for flags, heard := range map[packet.Flags]bool{
		packet.ACK: true, packet.ACK | packet.PSH: true, packet.FIN | packet.ACK: true,
		packet.RST: false, packet.RST | packet.ACK: false, packet.SYN | packet.ACK: false,
	} {
		frame := withTCP(func(tcp *packet.TCP) { tcp.Flags, tcp.Ack = flags, 0xfffffff0 })
		o := drops("no_entry")
		if heard {
			o = answers("no_entry", seg(flags, clientISN, 0xfffffff0).reset(client(1)))
		}
		cases = append(cases, hostile{flags.String() + " of no connection", frame, o})
	}
	return cases
}
