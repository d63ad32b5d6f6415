package bpf_test

import (
	"net/netip"
	"testing"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// A pool whose new connections are for a socket of the namespace. Sockets themselves are
// there in the loader's tests.
func TestSidecar(t *testing.T) {
	onFamilies(t, options{}, func(w *world) {
		w.run("serves", sidecarServes)
		w.run("leaves", sidecarLeaves)
	})
}

func sidecarServes(w *world) {
	open, half := w.open(client(1), 0, firstPort), w.syn(client(2), 1, firstPort)
	w.configure(func(g *maps.Generation) { g.VIP.Listens, g.VIP.Sockets = true, true })
	// Whatever it may be worth to a socket, no flow is made and no limit asked.
	for _, s := range []segment{
		seg(packet.SYN, clientISN, 0), seg(packet.ACK, 5, 5).with(10), seg(packet.FIN|packet.ACK, 5, 5),
		seg(packet.RST, 5, 0), seg(packet.SYN|packet.ACK, 5, 5),
	} {
		w.expect("to the socket", s.arrives(w.client(3), w.vip()), passes())
	}
	w.configure(func(g *maps.Generation) {
		g.VIP.ConnectionLimit, g.VIP.Refuse, g.Schedule = 0, true, nil
	})
	w.expect("what to answer is the sidecar's to know", seg(packet.SYN, clientISN, 0).arrives(w.client(3), w.vip()), passes())
	w.configure(func(g *maps.Generation) {
		*g = w.first(3, g.VIP.FlowLimit)
		g.VIP.Listens, g.VIP.Sockets = true, true
	})
	// What the kernel has begun it brings to an end.
	open.works()
	half = half.synAck().ack()
	half.works()
	// Everything else is held off as ever.
	w.expect("a port without socket", seg(packet.ACK, 1, 1).arrives(w.memberAt(0), netip.AddrPortFrom(w.vip().Addr(), firstPort+9)), drops("nat_nomap").late())
	w.expect("a datagram", datagram(8).arrives(w.client(3), w.vip()), passes())
	w.expect("from ourselves", seg(packet.SYN, 1, 0).arrives(netip.AddrPortFrom(w.vip().Addr(), 4000), w.vip()), drops("spoof_self"))
	w.expect("flags", seg(packet.SYN|packet.FIN, 1, 0).arrives(w.client(3), w.vip()), drops("tcp_flags"))
}

// sidecarLeaves: without a socket all is as in any pool.
func sidecarLeaves(w *world) {
	w.configure(func(g *maps.Generation) { g.VIP.Sockets = true })
	w.refused("a connection that nobody has", seg(packet.ACK, 5, 5), "no_entry")
	w.expect("a port without socket", seg(packet.ACK, 1, 1).arrives(w.memberAt(0), netip.AddrPortFrom(w.vip().Addr(), firstPort)), drops("nat_nomap").late())
	c := conn{w: w, client: w.host(client(4)), slot: 0, port: firstPort, cseq: clientISN + 1, mseq: memberISN}
	in, out := c.up(seg(packet.SYN, clientISN, 0))
	o := forwards(out, opened(0), toMember(0, in))
	o.byTC = true // the fast lane cannot ask for sockets
	w.expect("SYN", in, o)
	c = c.synAck().ack()
	c.works()
	w.configure(func(g *maps.Generation) { g.Schedule = nil })
	w.refused("SYN", seg(packet.SYN, clientISN, 0), "no_member")
}
