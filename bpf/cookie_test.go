package bpf_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// calm is how many handshakes these pools may have in flight before they answer
// SYNs by cookies.
const calm = 3

func TestCookies(t *testing.T) {
	for _, o := range []options{{calm: calm}, {calm: calm, ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			onHooks(t, o, func(w *world) {
				w.run("a SYN is answered", cookieAnswers)
				w.run("the ACK opens", cookieOpens)
				w.run("until then nothing is held", cookieHoldsNothing)
				w.run("the member is asked again", cookieAsksAgain)
				w.run("the member answers again", cookieAnsweredAgain)
				w.run("the member refuses", cookieRefused)
				w.run("the member still in TIME-WAIT", cookieStaleMember)
				w.run("the client gives up", cookieGivenUp)
				w.run("the client begins again", cookieBegunAgain)
				w.run("lost ACK", cookieLostACK)
				w.run("numbers are shifted", cookieShifts)
				w.run("closing", cookieCloses)
				w.run("RST of another number", cookieForgedRST)
				w.run("errors in their sender's numbers", cookieErrors)
				w.run("forged", cookieForged)
				w.run("good for two minutes", cookieAges)
				w.run("limits hold for the ACK", cookieLimits)
				w.run("the end of a drain", cookieDrained)
				w.run("handshakes are short then", cookieShortensHandshakes)
			})
		})
	}
}

// flooded has as many handshakes in flight as the pool takes without cookies.
func (w *world) flooded() []conn {
	w.Helper()
	var waiting []conn
	for n := range calm {
		waiting = append(waiting, w.syn(client(100+n), n%3, firstPort+uint16(n/3)))
	}
	return waiting
}

// cookieSYN is a SYN as most hosts send it.
func cookieSYN() segment {
	return seg(packet.SYN, clientISN, 0).options(
		packet.MSS(1460), packet.SACKPermitted(), packet.Timestamps(5, 0), packet.NOP(), packet.WindowScale(7),
	)
}

// cookie sends a SYN that is answered by one; the connection that it stands for has
// the client's view of the numbers.
func (w *world) cookie(from netip.AddrPort, s segment, size uint16) conn {
	w.Helper()
	size = w.known(size)
	c := conn{w: w, client: w.host(from), cseq: clientISN + 1}
	in, _ := c.up(s)
	before := w.snapshot()
	got := w.send(in)
	if got.action != answered {
		w.Fatalf("SYN was %s", got.action)
	}
	c.mseq = binary.BigEndian.Uint32(got.frame[transportOf(got.frame)+4:])
	a := seg(packet.SYN|packet.ACK, c.mseq, clientISN+1)
	a.tcp.Window = 0
	if size > 0 {
		a = a.options(packet.MSS(size))
	}
	w.judge("SYN", in, answers("syn_cookie", c.own(a, true)), got, before)
	w.sums("SYN+ACK", got.frame)
	c.mseq++
	return c
}

// own is a segment of the balancer's own making, to the client or to the member.
func (c conn) own(s segment, toClient bool) []byte {
	s.ip = packet.IPv4{TTL: 64, DF: true}
	from, to := c.nat(), c.member()
	if toClient {
		from, to = c.vip(), c.client
	}
	return s.frame(macOf(to.Addr()), ownMAC, from, to)
}

// back sends the cookie back: the member in the slot is asked, by the given port.
func (c conn) back(s segment, slot int, natPort uint16, size uint16, changes ...delta) conn {
	c.w.Helper()
	in, _ := c.up(s)
	c.slot, c.port = slot, natPort
	size = c.w.known(size)
	ask := seg(packet.SYN, clientISN, 0).options(packet.MSS(size))
	ask.tcp.Window = s.tcp.Window
	changes = append(changes, toMember(slot, in))
	o := forwards(c.own(ask, false), changes...)
	o.byTC = true
	got := c.w.expect("ACK with the cookie", in, o)
	c.w.sums("SYN to the member", got.frame)
	return c
}

// known is the largest segment of the four that a cookie can stand for; the largest of
// them is that of Ethernet, which is less for IPv6.
func (w *world) known(size uint16) uint16 {
	if w.ipv6 && size == 1460 {
		return 1440
	}
	return size
}

var accepted = delta{"events.cookie_accepted": 1}

// asked is the handshake up to the member's SYN.
func (w *world) asked(from netip.AddrPort, slot int, natPort uint16) conn {
	w.Helper()
	c := w.cookie(from, cookieSYN(), 1460)
	return c.back(seg(packet.ACK, c.cseq, c.mseq), slot, natPort, 1460, accepted, opened(slot))
}

// memberAnswers completes the handshake: out comes the ACK that opens the client's
// window. The member's own ACK goes out as a clone, which only a wire shows.
func (c conn) memberAnswers(changes ...delta) {
	c.w.Helper()
	answer := seg(packet.SYN|packet.ACK, memberISN, c.cseq)
	answer.tcp.Window = 4321
	in, _ := c.down(answer)
	a := seg(packet.ACK, c.mseq, c.cseq)
	a.tcp.Window = 4321
	changes = append(changes, toClient(c.slot, in))
	o := forwards(c.own(a, true), changes...)
	o.byTC = true
	got := c.w.expect("the member's SYN+ACK", in, o)
	c.w.sums("ACK to the client", got.frame)
}

// cookied is a connection by cookie.
func (w *world) cookied(from netip.AddrPort, slot int, natPort uint16) conn {
	w.Helper()
	c := w.asked(from, slot, natPort)
	c.memberAnswers(established(slot))
	return c
}

// shifted is what the client's view of the member's numbers is more by.
func (c conn) shift() uint32 { return c.mseq - (memberISN + 1) }

// sendsShifted and getsShifted are sends and gets for segments in the client's numbers.
func (c conn) sendsShifted(what string, s segment, changes ...delta) {
	c.w.Helper()
	in, _ := c.up(s)
	if s.tcp.Flags&packet.ACK != 0 {
		s.tcp.Ack -= c.shift()
	}
	_, out := c.up(s)
	got := c.w.expect("client: "+what, in, forwards(out, append(changes, toMember(c.slot, in))...))
	c.w.sums(what, got.frame)
}

func (c conn) getsShifted(what string, s segment, changes ...delta) {
	c.w.Helper()
	_, out := c.down(s)
	s.tcp.Seq -= c.shift()
	in, _ := c.down(s)
	got := c.w.expect("member: "+what, in, forwards(out, append(changes, toClient(c.slot, in))...))
	c.w.sums(what, got.frame)
}

// cookieAnswers: one of four sizes, as large as the client takes, and no option of
// other kinds. A bare SYN gets a bare answer.
func cookieAnswers(w *world) {
	w.flooded()
	for n, c := range []struct{ offered, answered uint16 }{
		{1460, 1460}, {8960, 1460}, {65535, 1460}, {1459, 1400}, {1400, 1400}, {1399, 1220},
		{1220, 1220}, {1219, 536}, {536, 536}, {100, 536}, {0, 536},
	} {
		if w.ipv6 && (c.offered == 1460 || c.offered == 1459) {
			c.offered -= 20
		}
		w.cookie(client(n), seg(packet.SYN, clientISN, 0).options(packet.MSS(c.offered), packet.WindowScale(7), packet.NOP()), c.answered)
	}
	w.cookie(client(20), seg(packet.SYN, clientISN, 0).options(packet.NOP(), packet.WindowScale(7), packet.MSS(1460)), 536)
	w.cookie(client(21), seg(packet.SYN, clientISN, 0).options(packet.NOPs(4)), 536)
	w.cookie(client(22), seg(packet.SYN, clientISN, 0), 0)
	w.cookie(client(23), cookieSYN().with(500), 1460) // the data is to be sent again
}

func cookieOpens(w *world) {
	w.flooded()
	for n, size := range []uint16{1460, 1400, 1220, 536} {
		s := seg(packet.SYN, clientISN, 0).options(packet.MSS(size))
		c := w.cookie(client(n), s, size)
		ack := seg(packet.ACK, c.cseq, c.mseq)
		ack.tcp.Window = 777 + uint16(n)
		slot := (calm + n) % 3
		c = c.back(ack, slot, firstPort+1+uint16(n/3), size, accepted, opened(slot))
		c.memberAnswers(established(slot))
		c.sendsShifted("data", seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(100))
		c.getsShifted("data", seg(packet.ACK|packet.PSH, c.mseq, c.cseq+100).with(333))
	}
}

// cookieHoldsNothing: any number of SYNs changes nothing but counters.
func cookieHoldsNothing(w *world) {
	w.flooded()
	before := w.snapshot()
	for n := range 1000 {
		in, _ := conn{w: w, client: w.host(client(1000 + n))}.up(cookieSYN())
		if got := w.send(in); got.action != answered {
			w.Fatalf("SYN %d was %s", n, got.action)
		}
	}
	after := w.snapshot()
	want := delta{"drops.syn_cookie": 1000, "verdicts.answered": 1000}
	if d := after.counts.since(before.counts); !d.equal(want) {
		w.Errorf("1000 SYNs changed %s", d)
	}
	if touched := after.touched(before); touched != "" {
		w.Error(touched)
	}
}

// cookieAsksAgain: nobody else would send our SYN again.
func cookieAsksAgain(w *world) {
	w.flooded()
	c := w.asked(client(1), 0, firstPort+1)
	for _, again := range []segment{
		seg(packet.ACK, c.cseq, c.mseq),
		seg(packet.ACK, c.cseq-1, c.mseq), // a probe of the window
		seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(1000),
		seg(packet.ACK|packet.FIN, c.cseq, c.mseq),
	} {
		c.back(again, 0, firstPort+1, 1460)
	}
	for _, ack := range []uint32{c.mseq - 1, c.mseq + 1, 0, 77} {
		in, _ := c.up(seg(packet.ACK, c.cseq, ack))
		w.expect("ACK of another number", in, drops("bad_ack").late())
	}
	c.memberAnswers(established(0))
	c.sendsShifted("data", seg(packet.ACK, c.cseq, c.mseq).with(10))
}

// cookieAnsweredAgain: our ACK got lost, or the client's.
func cookieAnsweredAgain(w *world) {
	w.flooded()
	c := w.cookied(client(1), 0, firstPort+1)
	for range 3 {
		c.memberAnswers()
	}
	c.getsShifted("data", seg(packet.ACK, c.mseq, c.cseq).with(10))
}

// cookieRefused: the client hears it in the numbers that it knows.
func cookieRefused(w *world) {
	w.flooded()
	c := w.asked(client(1), 0, firstPort+1)
	in, _ := c.down(seg(packet.RST|packet.ACK, 0, c.cseq))
	_, out := c.down(seg(packet.RST|packet.ACK, c.mseq, c.cseq))
	o := forwards(out, forgotten(0), toClient(0, in))
	o.byTC = true
	got := w.expect("refusal", in, o)
	w.sums("refusal", got.frame)
	c = w.asked(client(2), 1, firstPort+1)
	in, _ = c.down(seg(packet.RST|packet.ACK, 0, c.cseq+1))
	w.expect("refusal of another number", in, drops("bad_ack").late())
	c.memberAnswers(established(1))
}

// cookieStaleMember: a member that still holds the port's last connection says so by
// an ACK; it is told to forget it, and takes the SYN when it is sent again.
func cookieStaleMember(w *world) {
	w.flooded()
	c := w.asked(client(1), 0, firstPort+1)
	stale := seg(packet.ACK, 5000, 6000)
	in, _ := c.down(stale)
	w.expect("ACK of the last connection", in, answers("bad_ack", stale.resetBy(c.nat(), c.member())))
	c.back(seg(packet.ACK, c.cseq, c.mseq), 0, firstPort+1, 1460)
	c.memberAnswers(established(0))
}

func cookieGivenUp(w *world) {
	w.flooded()
	c := w.asked(client(1), 0, firstPort+1)
	in, out := c.up(seg(packet.RST, c.cseq+5, 0))
	o := forwards(out, toMember(0, in))
	o.byTC = true
	w.expect("RST of another number", in, o)
	in, out = c.up(seg(packet.RST, c.cseq, 0))
	o = forwards(out, forgotten(0), toMember(0, in))
	o.byTC = true
	w.expect("RST", in, o)
}

func cookieBegunAgain(w *world) {
	w.flooded()
	c := w.asked(client(1), 0, firstPort+1)
	in, _ := c.up(seg(packet.SYN, 99, 0))
	before := w.snapshot()
	got := w.send(in)
	if got.action != answered {
		w.Fatalf("SYN was %s", got.action)
	}
	want := sum(forgotten(0), delta{"drops.syn_cookie": 1, "verdicts.answered": 1})
	if d := w.snapshot().counts.since(before.counts); !d.equal(want) {
		w.Errorf("changed %s, want %s", d, want)
	}
}

// cookieLostACK: the client waits for a window; its probe brings the cookie.
func cookieLostACK(w *world) {
	w.flooded()
	c := w.cookie(client(1), cookieSYN(), 1460)
	c = c.back(seg(packet.ACK, c.cseq-1, c.mseq), 0, firstPort+1, 1460, accepted, opened(0))
	c.memberAnswers(established(0))
	c.sendsShifted("data", seg(packet.ACK, c.cseq, c.mseq).with(10))
	c = w.cookie(client(2), cookieSYN(), 1460)
	c.back(seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(100), 1, firstPort+1, 1460, accepted, opened(1))
}

// cookieShifts: every number of the member's, whatever the segment is.
func cookieShifts(w *world) {
	w.flooded()
	c := w.cookied(client(1), 0, firstPort+1)
	for _, n := range []int{0, 1, 2, 999, 1400} {
		s := seg(packet.ACK|packet.PSH, c.cseq, c.mseq).with(n)
		c.sendsShifted("data", s)
		c.cseq = s.end()
		c.getsShifted("data", seg(packet.ACK, c.mseq, c.cseq).with(n))
	}
	c.getsShifted("keepalive", seg(packet.ACK, c.mseq-1, c.cseq))
	c.sendsShifted("urgent", segment{
		ip: packet.IPv4{TTL: 64, TOS: 0xb8, DF: true}, tcp: packet.TCP{Flags: packet.ACK | packet.URG, Seq: c.cseq, Ack: c.mseq, Urgent: 5},
	}.with(10))
	up, down := c.both()
	if up.State&maps.Cookie == 0 || down.State&maps.Cookie == 0 || up.Shift != c.shift() || down.Shift != c.shift() {
		w.Errorf("entries are %+v and %+v", up, down)
	}
	w.nothingExpires()
}

func cookieCloses(w *world) {
	w.flooded()
	c := w.cookied(client(1), 0, firstPort+1)
	c.sendsShifted("FIN", seg(packet.FIN|packet.ACK, c.cseq, c.mseq))
	c.getsShifted("FIN", seg(packet.FIN|packet.ACK, c.mseq, c.cseq+1), closed(0))
	c.sendsShifted("last ACK", seg(packet.ACK, c.cseq+1, c.mseq+1))
	for n, reset := range []func(c conn){
		func(c conn) { c.sendsShifted("RST", seg(packet.RST, c.cseq, 0), closed(c.slot)) },
		func(c conn) { c.getsShifted("RST", seg(packet.RST, c.mseq, 0), closed(c.slot)) },
		func(c conn) {
			// Lost on the way to the client, who waits for what came before it.
			c.getsShifted("data", seg(packet.ACK, c.mseq, c.cseq).with(1000))
			c.sendsShifted("ACK", seg(packet.ACK, c.cseq, c.mseq))
			c.getsShifted("RST where the client is", seg(packet.RST, c.mseq, 0), closed(c.slot))
		},
	} {
		slot := (n + 1) % 3
		reset(w.cookied(client(2+n), slot, firstPort+1+uint16((n+1)/3)))
	}
}

func cookieForgedRST(w *world) {
	w.flooded()
	c := w.cookied(client(1), 0, firstPort+1)
	for range 50 {
		number := rand.Uint32()
		if number == c.cseq || number == c.mseq {
			continue
		}
		c.sendsShifted("forged RST", seg(packet.RST, number, 0))
		c.getsShifted("forged RST", seg(packet.RST, number, 0))
	}
	// The member's number without the shift is nobody's.
	c.getsShifted("RST in the member's numbers", seg(packet.RST, memberISN+1+c.shift()+c.shift(), 0))
	c.sendsShifted("data", seg(packet.ACK, c.cseq, c.mseq).with(10))
}

// cookieErrors: the client's router quotes the member's segment in the client's
// numbers; the member gets it in its own.
func cookieErrors(w *world) {
	w.flooded()
	c := w.cookied(client(1), 0, firstPort+1)
	c.getsShifted("data", seg(packet.ACK, c.mseq, c.cseq).with(1000))
	c.sendsShifted("data", seg(packet.ACK, c.cseq, c.mseq).with(1000))
	theirs := seg(packet.ACK, c.mseq, c.cseq).with(1000)
	ours := theirs
	ours.tcp.Seq -= c.shift()
	for _, e := range w.errors() {
		in, _ := w.errorPair(c, theirs, false, e.layer, 8, 64)
		_, out := w.errorPair(c, ours, false, e.layer, 8, 64)
		w.translates(e.name+" to the member", in, out)
		in, _ = w.errorPair(c, theirs, false, e.layer, 0, 64)
		_, out = w.errorPair(c, ours, false, e.layer, 0, 64)
		w.translates(e.name+" to the member, all of it", in, out)
		in, out = w.errorPair(c, seg(packet.ACK, c.cseq, c.mseq).with(1000), true, e.layer, 8, 64)
		w.translates(e.name+" to the client", in, out)
	}
	far := theirs
	far.tcp.Seq += 1 << 27
	in, _ := w.errorPair(c, far, false, w.errors()[0].layer, 0, 64)
	w.expect("error of another number", in, drops("icmp_seq").late())
}

// cookieForged: who has not seen our answer does not know the number; nobody can
// bring another one's.
func cookieForged(w *world) {
	w.flooded()
	c := w.cookie(client(1), cookieSYN(), 1460)
	refused := func(what string, c conn, s segment) {
		w.Helper()
		in, _ := c.up(s)
		w.expect(what, in, answers("no_entry", s.resetBy(c.vip(), c.client)))
	}
	for _, wrong := range []segment{
		seg(packet.ACK, c.cseq, c.mseq+2), seg(packet.ACK, c.cseq, c.mseq+3), seg(packet.ACK, c.cseq, c.mseq-1),
		seg(packet.ACK, c.cseq+1, c.mseq), seg(packet.ACK, c.cseq-2, c.mseq), seg(packet.ACK, c.cseq-3, c.mseq), seg(packet.ACK, c.cseq, 0), seg(packet.ACK, c.cseq, c.mseq^1<<31),
	} {
		refused("another number", c, wrong)
	}
	other := c
	other.client = netip.AddrPortFrom(c.client.Addr(), c.client.Port()+1)
	refused("from another port", other, seg(packet.ACK, c.cseq, c.mseq))
	other.client = w.host(client(2))
	refused("from another address", other, seg(packet.ACK, c.cseq, c.mseq))
	before := w.snapshot().counts
	for range 20_000 {
		in, _ := c.up(seg(packet.ACK, rand.Uint32(), rand.Uint32()))
		w.send(in)
	}
	if d := w.snapshot().counts.since(before); d["events.cookie_accepted"] != 0 || d["handshakes"] != 0 || d["drops.no_entry"] != 20_000 {
		w.Errorf("20000 forged cookies: %s", d)
	}
	c.back(seg(packet.ACK, c.cseq, c.mseq), 0, firstPort+1, 1460, accepted, opened(0))
}

// cookieAges: a pool that has sent none for long does not look at ACKs.
func cookieAges(w *world) {
	w.flooded()
	c := w.cookie(client(1), cookieSYN(), 1460)
	var state bpf.Lb4PoolState
	own := w.pool.Maps()
	w.must(own.PoolState.Lookup(uint32(0), &state))
	state.Cookies -= uint32(155 * time.Second >> 20)
	w.must(own.PoolState.Put(uint32(0), state))
	s := seg(packet.ACK, c.cseq, c.mseq)
	in, _ := c.up(s)
	w.expect("cookie long after", in, answers("no_entry", s.resetBy(c.vip(), c.client)))
	state.Cookies += uint32(30 * time.Second >> 20)
	w.must(own.PoolState.Put(uint32(0), state))
	c.back(s, 0, firstPort+1, 1460, accepted, opened(0))
}

func cookieLimits(w *world) {
	w.flooded()
	c := w.cookie(client(1), cookieSYN(), 1460)
	s := seg(packet.ACK, c.cseq, c.mseq)
	in, _ := c.up(s)
	w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit = 0 })
	w.expect("ACK over the limit", in, drops("conn_limit", accepted).late())
	w.configure(func(g *maps.Generation) { g.VIP.ConnectionLimit, g.VIP.Refuse = maps.NoLimit, true })
	w.expect("ACK to a pool that refuses", in, answers("no_member", s.resetBy(c.vip(), c.client), accepted))
	w.configure(func(g *maps.Generation) { g.VIP.Refuse = false })
	c.back(s, 0, firstPort+1, 1460, accepted, opened(0))
}

// cookieDrained: the sender's RST; the peer's is seen on a wire only.
func cookieDrained(w *world) {
	w.flooded()
	c := w.cookied(client(1), 0, firstPort+1)
	w.sweeps("end of the drain", maps.Sweep{Slot: 0, Reset: true}, maps.Swept{})
	s := seg(packet.ACK, c.cseq, c.mseq).with(10)
	in, _ := c.up(s)
	w.expect("data", in, answers("drained", s.resetBy(c.vip(), c.client), closed(0)))
}

// cookieShortensHandshakes: what a flood has left goes after five seconds, and not
// when as many handshakes as before are in flight again.
func cookieShortensHandshakes(w *world) {
	for _, c := range w.flooded() {
		w.ageHandshake(c, 6*time.Second)
	}
	w.nothingExpires()
	w.cookie(client(1), cookieSYN(), 1460)
	for slot := range 3 {
		w.expires(slot, 1, forgotten(slot))
	}
}

func TestCookiesOfACrowd(t *testing.T) {
	onHooks(t, options{calm: calm}, func(w *world) {
		w.flooded()
		for n := range 300 {
			c := w.cookie(client(1000+n), cookieSYN(), 1460)
			in, _ := c.up(seg(packet.ACK, c.cseq, c.mseq))
			got := w.send(in)
			if got.action != forwarded {
				w.Fatalf("client %d: ACK was %s", n, got.action)
			}
			c.slot, c.port = w.chosen(got.frame)
			in, _ = c.down(seg(packet.SYN|packet.ACK, memberISN, c.cseq))
			w.mustForward(fmt.Sprintf("client %d: SYN+ACK", n), in)
			c.sendsShifted("data", seg(packet.ACK, c.cseq, c.mseq).with(100))
		}
		w.checkInvariants()
	})
}
