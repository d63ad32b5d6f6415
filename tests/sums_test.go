package tests

import (
	"bytes"
	endian "encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
	"qlbaas/tests/rows"
)

// tcpCount is one of a host's counters of its TCP.
func (w *world) tcpCount(h *lab.Host, name string) int {
	w.t.Helper()
	var text []byte
	err := h.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Tcp:" {
			continue
		}
		for i, field := range fields {
			if i < len(names) && names[i] == name {
				n, err := strconv.Atoi(field)
				if err != nil {
					w.t.Fatal(err)
				}
				return n
			}
		}
		names = fields
	}
	w.t.Fatalf("%s counts no %s", h.Name(), name)
	return 0
}

// tap receives and sends frames at a host's device.
func (w *world) tap(h *lab.Host) *afpacket.Socket {
	w.t.Helper()
	return labtest.Socket(w.t, h, lab.Uplink, afpacket.Options{})
}

// damaged: a SYN and data with a wrong sum reach the member as wrong as they were: its
// kernel counts them, and no connection comes of one or feels the other.
func damaged(w *world) {
	rows.Proves(w.t, 72)
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)[:1]})
	f := b.open()
	member := w.Members[0].Host
	forge := w.forger(b)
	send := func(from netip.AddrPort, flags packet.Flags, data int) {
		w.t.Helper()
		before := w.tcpCount(member, "InCsumErrors")
		forge(from, packet.TCP{Seq: 1, Ack: 1, Flags: flags, Sum: packet.SumBad}, packet.Repeat(data))
		until(w.t, patience, func() error {
			if n := w.tcpCount(member, "InCsumErrors") - before; n != 1 {
				return fmt.Errorf("the member counts %d wrong sums after a %s", n, flags)
			}
			return nil
		})
	}
	send(netip.AddrPortFrom(w.ClientAddress, 5999), packet.SYN, 0)
	send(f.conn.LocalAddr().(*net.TCPAddr).AddrPort(), packet.ACK|packet.PSH, 100)
	w.mustEcho(f)
	if stats := b.stats(); stats.number("total_connections") != 1 || stats.number("active_connections") != 1 {
		w.t.Errorf("after a SYN with a wrong sum: %v", stats)
	}
}

// forger sends segments to the VIP as if one of the client's sockets did.
func (w *world) forger(b *balancer) func(from netip.AddrPort, tcp packet.TCP, data packet.Payload) {
	w.t.Helper()
	mac, err := w.Router.MAC("outside")
	if err != nil {
		w.t.Fatal(err)
	}
	own, err := w.Client.MAC(lab.Uplink)
	if err != nil {
		w.t.Fatal(err)
	}
	s := w.tap(w.Client)
	return func(from netip.AddrPort, tcp packet.TCP, data packet.Payload) {
		w.t.Helper()
		tcp.SrcPort, tcp.DstPort, tcp.Window = from.Port(), b.at.Port(), 1000
		err := s.Send(packet.Frame(packet.Ethernet{Dst: mac, Src: own},
			packet.IPv4{Src: from.Addr(), Dst: b.at.Addr(), TTL: 64}, tcp, data))
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// forged: whoever knows a connection's addresses, but not its numbers, takes nothing from
// it: the balancer and the member's kernel together leave it as it is.
func forged(w *world) {
	rows.Proves(w.t, 53, 60)
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)[:1]})
	f := b.open()
	from := f.conn.LocalAddr().(*net.TCPAddr).AddrPort()
	forge := w.forger(b)
	random := rand.New(rand.NewPCG(seed(w.t), 0))
	for range 1000 {
		forge(from, packet.TCP{Flags: packet.RST, Seq: random.Uint32()}, nil)
	}
	for range 20 {
		forge(from, packet.TCP{Flags: packet.SYN, Seq: random.Uint32()}, nil)
		forge(from, packet.TCP{Flags: packet.FIN | packet.ACK, Seq: random.Uint32(), Ack: random.Uint32()}, nil)
		forge(from, packet.TCP{Flags: packet.ACK, Seq: random.Uint32(), Ack: random.Uint32()}, packet.Repeat(50))
	}
	w.mustEcho(f)
	b.awaitActive(1)
	for range 10 {
		w.mustEcho(f)
	}
	if n := b.stats().number("total_connections"); n != 1 {
		w.t.Errorf("%v connections were counted, want the one", n)
	}
}

// udpSums: no sum stays none, and one that comes out as 0 is sent as all ones. The
// sender computes sums itself, so that the balancer has to change them.
func udpSums(w *world, b *balancer) {
	rows.Proves(w.t, 74, 75)
	if err := w.Client.SetOffload(lab.Uplink, lab.Offload{TX: lab.Off}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := w.Client.SetOffload(lab.Uplink, lab.Offload{TX: lab.On}); err != nil {
			w.t.Error(err)
		}
	})
	d := b.openUDP()
	index := map[string]int{"WEB1": 0, "WEB2": 1}[d.mustAsk("who?")]
	s := w.tap(w.Members[index].Host)
	arrives := func(payload string) []byte {
		w.t.Helper()
		d.mustAsk(payload)
		f, err := s.Await(bounded(w.t, patience), func(frame []byte) bool {
			return bytes.HasSuffix(frame, []byte(payload)) && !bytes.Contains(frame, []byte("WEB"))
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if f.Partial {
			w.t.Fatal("the sum is left to the device")
		}
		if err := packet.Verify(f.Bytes); err != nil {
			w.t.Errorf("%q: %v", payload, err)
		}
		return f.Bytes
	}
	plain := arrives("sum me")
	if sum := arrives(w.allOnes(plain)); udpSum(sum) != 0xffff {
		w.t.Errorf("a sum of 0 was sent as %#04x", udpSum(sum))
	}
	if version(w.VIP) == 6 {
		return // where there must be one
	}
	d.withoutSums()
	if sum := udpSum(arrives("no sum")); sum != 0 {
		w.t.Errorf("no sum has become %#04x", sum)
	}
}

func udpSum(frame []byte) uint16 { return endian.BigEndian.Uint16(frame[udpAt(frame)+6:]) }

func udpAt(frame []byte) int {
	const ethernet = 14
	if frame[ethernet]>>4 == 6 {
		return ethernet + 40
	}
	return ethernet + 20
}

// allOnes is a payload by which a datagram like the one that a member got has the sum 0.
func (w *world) allOnes(like []byte) string {
	w.t.Helper()
	frame := bytes.Clone(like)
	payload := frame[udpAt(frame)+8:]
	// Two bytes more or less change the sum by as much: one's complement's difference.
	word, sum := endian.BigEndian.Uint16(payload), udpSum(frame)
	n := (uint32(word) + uint32(sum)) % 0xffff
	endian.BigEndian.PutUint16(payload, uint16(n))
	endian.BigEndian.PutUint16(frame[udpAt(frame)+6:], 0xffff)
	if err := packet.Verify(frame); err != nil {
		w.t.Fatalf("the sum of %q is not 0: %v", payload, err)
	}
	return string(payload)
}

// withoutSums makes the socket send no checksums.
func (d *datagrams) withoutSums() {
	d.w.t.Helper()
	raw, err := d.Conn.(syscall.Conn).SyscallConn()
	if err == nil {
		controlErr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
		})
		if controlErr != nil {
			err = controlErr
		}
	}
	if err != nil {
		d.w.t.Fatal(err)
	}
}
