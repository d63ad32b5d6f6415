package bpf_test

import (
	"qlbaas/tests/packet"
)

// corpusFlows is how many connections a corpus opens.
const corpusFlows = 60

// corpusTCP is made of connections in every state, from the first-th client on, of
// errors about one, and of hostile packets.
func (w *world) corpusTCP(first int) corpus {
	c := w.quick(client(first))
	s := seg(packet.ACK, c.cseq, c.mseq).with(60)
	back := seg(packet.ACK, c.mseq, c.cseq).with(60)
	return corpus{flows: w.connections(first), errors: w.errorsAbout(c, s, back), hostile: w.hostiles()}
}

// hostiles are the packets of other tests. No flow is needed to make them.
func (w *world) hostiles() (frames [][]byte) {
	tables := [][]hostile{
		headerCases(), tcpCases(), linkCases(), foreignCases(), sourceCases(), portCases(), strayCases(),
	}
	if w.ipv6 {
		tables = [][]hostile{headers6(), extensions6(), sources6()}
	}
	for _, cases := range tables {
		for _, c := range cases {
			frames = append(frames, c.frame)
		}
	}
	return frames
}

// connections are good packets of connections in every state.
func (w *world) connections(first int) (frames [][]byte) {
	stamps := packet.Timestamps(1, 2)
	for n := range corpusFlows {
		c := w.quickSYN(client(first + n))
		if n%3 > 0 {
			c = c.finish()
		}
		for _, s := range []segment{
			seg(packet.SYN, clientISN, 0).options(packet.MSS(1460), packet.SACKPermitted(), stamps),
			seg(packet.ACK, c.cseq, c.mseq).options(packet.NOP(), packet.NOP(), stamps).with(40),
			seg(packet.ACK, c.cseq, c.mseq).options(packet.NOPs(30), stamps),
			seg(packet.FIN|packet.ACK, c.cseq, c.mseq),
			seg(packet.RST, c.cseq, 0),
		} {
			up, _ := c.up(s)
			s.tcp.Seq, s.tcp.Ack = s.tcp.Ack, s.tcp.Seq
			down, _ := c.down(s)
			frames = append(frames, up, down)
		}
	}
	return frames
}

// corpusUDP is the same for datagrams.
func (w *world) corpusUDP(first int) (c corpus) {
	for n := range corpusFlows {
		in := datagram(30).arrives(w.host(client(first+n)), w.gen.VIP.Address)
		got := w.send(in)
		if got.action != forwarded {
			continue // the table is full of mutations
		}
		slot, port := w.chosen(got.frame)
		flow := conn{w: w, client: w.host(client(first + n)), slot: slot, port: port}
		for _, s := range w.datagrams() {
			up, _ := flow.up(s)
			down, _ := flow.down(s)
			c.flows = append(c.flows, up, down)
		}
		if n == 0 {
			c.errors = w.errorsAbout(flow, datagram(40), datagram(40))
		}
	}
	c.hostile = w.hostiles()
	return c
}

// datagrams of all kinds.
func (w *world) datagrams() []segment {
	none, bad, last := datagram(33), datagram(50), datagram(20)
	bad.udp.Sum = packet.SumBad
	if !w.ipv6 {
		none.udp.Sum = packet.SumZero
		last.ip.Options = make([]byte, 8) // the end of options, at once
	}
	return []segment{datagram(0), datagram(1), datagram(400), none, bad, last}
}

// errorsAbout are errors about what either side of a connection has sent.
func (w *world) errorsAbout(c conn, sent, back segment) (frames [][]byte) {
	for _, e := range w.errors() {
		for _, keep := range []int{0, 8, 20} {
			up, _ := w.errorPair(c, sent, true, e.layer, keep, 60)
			down, _ := w.errorPair(c, back, false, e.layer, keep, 60)
			frames = append(frames, up, down)
		}
	}
	return frames
}
