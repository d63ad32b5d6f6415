package bpf_test

import (
	"fmt"
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

func TestHandshake(t *testing.T) {
	rows.Proves(t, 49)
	onHooks(t, options{}, func(w *world) {
		w.run("three steps make a flow", func(w *world) {
			c := w.open(client(1), 0, 1024)
			c.works()
		})
		w.run("each client gets its own", func(w *world) {
			for n := range 30 {
				c := w.open(client(n), n%3, 1024+uint16(n/3))
				c.works()
			}
		})
		w.run("SYN again", synAgain)
		w.run("SYN again, by fewest connections", func(w *world) {
			w.configure(func(g *maps.Generation) { leastConnections(g, 3) })
			synAgain(w)
		})
		w.run("SYN with data", synWithData)
		w.run("blind ACK", blindACK)
		w.run("lost ACK", lostACK)
		w.run("the ACK that ends it too", finOfTheFirstACK)
		w.run("SYN-ACK again", synAckAgain)
		w.run("answers from elsewhere", answersFromElsewhere)
		w.run("member refuses", memberRefuses)
		w.run("client resets", clientResets)
		w.run("member still in TIME-WAIT", staleMember)
		w.run("both sides open", simultaneousOpen)
	})
}

// synAgain: a SYN that is sent again finds its handshake, whatever its number.
func synAgain(w *world) {
	rows.Proves(w, 50, 51)
	c := w.syn(client(1), 0, 1024)
	for range 3 {
		c.sends("SYN again", seg(packet.SYN, clientISN, 0))
	}
	c.sends("SYN with another number", seg(packet.SYN, 77, 0))
	c = c.synAck()
	c.sends("SYN after the SYN-ACK", seg(packet.SYN, clientISN, 0))
	c = c.ack()
	c.works()

	// The number of the SYN that the member has taken counts in the end.
	c = w.syn(client(2), 1, 1024)
	c.sends("SYN with another number", seg(packet.SYN, 0x7fff0000, 0))
	c.cseq = 0x7fff0001
	c = c.synAck().ack()
	c.works()
	if up, _ := c.both(); up.Next != c.cseq {
		w.Errorf("next is %#x, want %#x", up.Next, c.cseq)
	}
	c.sends("RST with the next number", seg(packet.RST, c.cseq, 0), closed(1))
}

// synWithData (TCP fast open) makes no flow.
func synWithData(w *world) {
	rows.Proves(w, 52)
	s := seg(packet.SYN, clientISN, 0).with(500)
	c := w.synWith(client(1), 0, 1024, s)
	c.cseq = clientISN + 1 // the member has not taken the data
	c = c.synAck().ack()
	c.works()

	c = w.synWith(client(2), 1, 1024, s)
	c = c.synAck().ack() // this one has
	c.works()
}

// blindACK: nobody who does not see the member's answer can make a flow.
func blindACK(w *world) {
	c := w.syn(client(1), 0, 1024)
	refused := func(when string) {
		for _, ack := range []uint32{0, 1, memberISN - 1, memberISN, memberISN + 2, 0xffffffff} {
			for _, flags := range []packet.Flags{packet.ACK, packet.ACK | packet.PSH, packet.ACK | packet.FIN} {
				in, _ := c.up(seg(flags, c.cseq, ack).with(10))
				w.expect(fmt.Sprintf("%s %d %s", flags, ack, when), in, drops("bad_ack"))
			}
		}
	}
	refused("before the SYN-ACK")
	in, _ := c.up(seg(packet.ACK, c.cseq, memberISN+1))
	w.expect("the right number, before it is known", in, drops("bad_ack"))
	c = c.synAck()
	refused("after the SYN-ACK")
	c = c.ack()
	c.works()
}

// lostACK: data completes the handshake when the ACK itself was lost, and counts as
// data.
func lostACK(w *world) {
	c := w.syn(client(1), 0, 1024).synAck()
	s := seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(700)
	c.sends("data", s, established(0))
	c.cseq = s.end()
	c.gets("ACK", seg(packet.ACK, c.mseq, c.cseq-300)) // of a part
	c.sends("RST behind the data", seg(packet.RST, c.cseq, 0), closed(0))
}

// finOfTheFirstACK: a client that closes at once may send its FIN, data and ACK in
// one segment, or lose all but that one.
func finOfTheFirstACK(w *world) {
	for n, size := range []int{0, 20} {
		c := w.syn(client(n), n, 1024).synAck()
		s := seg(packet.FIN|packet.ACK, c.cseq, c.mseq).with(size)
		c.sends("FIN that completes the handshake", s, established(n))
		c.cseq = s.end()
		c.gets("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq), closed(n))
		c.sends("last ACK", seg(packet.ACK, c.cseq, c.mseq+1))
	}
}

func synAckAgain(w *world) {
	c := w.syn(client(1), 0, 1024).synAck()
	c.gets("SYN-ACK again", seg(packet.SYN|packet.ACK, memberISN, c.cseq))
	c = c.ack()
	c.gets("SYN-ACK after the ACK", seg(packet.SYN|packet.ACK, memberISN, c.cseq))
	c.works()

	// A member that has forgotten the first one may choose another number.
	c = w.syn(client(2), 1, 1024).synAck()
	c.gets("SYN-ACK with another number", seg(packet.SYN|packet.ACK, 0x66660000, c.cseq))
	in, _ := c.up(seg(packet.ACK, c.cseq, c.mseq))
	w.expect("ACK of the first one", in, drops("bad_ack"))
	c.mseq = 0x66660001
	c = c.ack()
	c.works()
}

// answersFromElsewhere: only the member, from the port that was asked, answers.
func answersFromElsewhere(w *world) {
	rows.Proves(w, 99)
	c := w.syn(client(1), 0, 1024)
	s := seg(packet.SYN|packet.ACK, memberISN, c.cseq)
	w.elsewhere(c, s)
	w.expect("SYN-ACK to another port", s.arrives(c.member(), netip.AddrPortFrom(w.vip().Addr(), 1025)), drops("nat_nomap"))
	c = c.synAck().ack()
	c.works()
	for _, flags := range []packet.Flags{packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, packet.RST} {
		w.elsewhere(c, seg(flags, c.mseq, c.cseq).with(9))
	}
	c.works()
	c.gets("RST", seg(packet.RST, c.mseq, 0), closed(0))
	w.elsewhere(c, seg(packet.ACK, c.mseq, c.cseq))
}

// elsewhere sends what could be the member's to a connection's port, from all who are
// not the member.
func (w *world) elsewhere(c conn, s segment) {
	w.Helper()
	own := w.memberAt(0)
	for name, from := range map[string]netip.AddrPort{
		"another member":        w.memberAt(1),
		"another of its ports":  netip.AddrPortFrom(own.Addr(), 81),
		"the client":            c.client,
		"a stranger":            w.client(9),
		"its ephemeral port":    netip.AddrPortFrom(own.Addr(), 40001),
		"the gateway, its port": w.host(netip.AddrPortFrom(gateway, 80)),
	} {
		w.expect(s.tcp.Flags.String()+" from "+name, s.arrives(from, c.nat()), drops("nat_nomap"))
	}
}

// memberRefuses: a RST that answers the SYN ends the handshake and reaches the client.
func memberRefuses(w *world) {
	rows.Proves(w, 61)
	c := w.syn(client(1), 0, 1024)
	c.gets("RST of another number", seg(packet.RST|packet.ACK, 0, c.cseq+1))
	c.gets("RST without a number", seg(packet.RST, 0, 0))
	c.gets("RST", seg(packet.RST|packet.ACK, 0, c.cseq), forgotten(0))
	in, _ := c.down(seg(packet.RST|packet.ACK, 0, c.cseq))
	w.expect("RST again", in, drops("nat_nomap"))
	// The client tries again, at once, and its turn goes on.
	c = w.open(client(1), 1, 1024)
	c.works()
}

// clientResets: a client may give up between the member's answer and its own.
func clientResets(w *world) {
	c := w.syn(client(1), 0, 1024).synAck()
	for _, off := range []uint32{1, 2, 1000, 0x80000000, 0xffffffff} {
		c.sends("RST of another number", seg(packet.RST, c.cseq+off, 0))
	}
	c.sends("RST", seg(packet.RST, c.cseq, 0), forgotten(0))
	c.strays("ACK after all", seg(packet.ACK, c.cseq, c.mseq))
	in, _ := c.down(seg(packet.SYN|packet.ACK, memberISN, c.cseq))
	w.expect("SYN-ACK after all", in, drops("nat_nomap"))
}

// staleMember: the member still holds the port's last connection and answers with
// its ACK. The client's RST clears that up, and its next SYN must find the mapping.
func staleMember(w *world) {
	rows.Proves(w, 67)
	c := w.syn(client(1), 0, 1024)
	c.gets("ACK of the last connection", seg(packet.ACK, 0x99990000, 0x12345678))
	c.sends("RST", seg(packet.RST, 0x12345678, 0))
	c.sends("RST of the very number", seg(packet.RST, c.cseq, 0))
	c.sends("SYN again", seg(packet.SYN, clientISN, 0))
	c = c.synAck().ack()
	c.works()
}

// simultaneousOpen: a SYN from the member in a handshake is no answer, and harms
// nothing.
func simultaneousOpen(w *world) {
	rows.Proves(w, 68)
	c := w.syn(client(1), 0, 1024)
	c.gets("SYN", seg(packet.SYN, 0x42, 0))
	c.sends("SYN-ACK", seg(packet.SYN|packet.ACK, clientISN, 0x43))
	in, _ := c.up(seg(packet.ACK, c.cseq, 0x43))
	w.expect("ACK of the member's SYN", in, drops("bad_ack"))
	c = c.synAck().ack()
	c.works()
	c.gets("SYN in the flow", seg(packet.SYN, 0x42, 0))
	c.works()
}

// entry is one direction's entry in the flow table.
func (w *world) entry(from, to netip.AddrPort) maps.Flow {
	w.Helper()
	f, found := w.snapshot().flows[maps.FlowKey{Source: from, Destination: to, Protocol: w.gen.VIP.Protocol}]
	if !found {
		w.Fatalf("there is no flow from %s to %s", from, to)
	}
	return f
}

// both are the entries of a connection.
func (c conn) both() (clientSide, memberSide maps.Flow) {
	c.w.Helper()
	return c.w.entry(c.client, c.vip()), c.w.entry(c.member(), c.nat())
}
