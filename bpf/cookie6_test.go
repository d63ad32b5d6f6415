package bpf_test

import (
	"testing"

	"qlbaas/tests/packet"
)

// TestCookiesWithExtensions: a client, or a member, that sends extension headers gets what
// everybody gets. Only a SYN with some is not answered: nor is anything else of their kind.
func TestCookiesWithExtensions(t *testing.T) {
	onHooks(t, options{calm: calm, ipv6: true}, func(w *world) {
		w.flooded()
		lists := [][]packet.Extension{
			{packet.DestinationOptions(nil)},
			{packet.HopByHop(nil), packet.DestinationOptions(make([]byte, 126))},
		}
		for n, list := range lists {
			with := func(s segment) segment {
				s.ext = list
				return s
			}
			in, _ := conn{w: w, client: w.client(50 + n)}.up(with(cookieSYN()))
			w.expect("SYN with headers", in, drops("syn_cookie").late())
			c := w.cookie(client(n), cookieSYN(), 1460)
			c = c.back(with(seg(packet.ACK, c.cseq, c.mseq)), n, firstPort+1, 1460, accepted, opened(n))
			answer := with(seg(packet.SYN|packet.ACK, memberISN, c.cseq))
			in, _ = c.down(answer)
			o := forwards(c.own(seg(packet.ACK, c.mseq, c.cseq), true), toClient(n, in), established(n))
			o.byTC = true
			got := w.expect("the member's SYN+ACK", in, o)
			w.sums("ACK to the client", got.frame)
			c.sendsShifted("data", with(seg(packet.ACK, c.cseq, c.mseq).with(10)))
			c.getsShifted("data", with(seg(packet.ACK, c.mseq, c.cseq+10).with(333)))
		}
	})
}
