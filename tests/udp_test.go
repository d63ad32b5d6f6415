package tests

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// udpPort is the members' servers' and the VIP's.
const udpPort = 53

// udpSilence is how long no answer is taken for none.
const udpSilence = time.Second

// serveUDP starts a server on each member that puts its name before what it gets.
func (w *world) serveUDP() {
	w.t.Helper()
	for _, m := range w.Members {
		conn, err := m.Host.ListenPacket("udp", netip.AddrPortFrom(m.Address, udpPort).String())
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { conn.Close() })
		go func() {
			b := make([]byte, 65536)
			for {
				n, from, err := conn.ReadFrom(b)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					_, _ = conn.WriteTo(append([]byte(m.Name+" "), b[:n]...), from) // a lost answer shows
				}
			}
		}()
	}
}

// balanceUDP creates a UDP balancer whose flows end after the shortest time there is.
func (w *world) balanceUDP(o balancerOptions) *balancer {
	w.t.Helper()
	o.endpoints = w.endpoints(udpPort)
	o.at = netip.AddrPortFrom(w.VIP, udpPort)
	o.pool = object{"protocol": "UDP"}
	o.vip = object{"idle_timeout": 10}
	return w.balance(o)
}

// datagrams is a client's UDP socket.
type datagrams struct {
	net.Conn
	w *world
}

func (b *balancer) openUDP() *datagrams {
	b.w.t.Helper()
	conn, err := b.w.Client.Dial(b.w.t.Context(), "udp", b.at.String())
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.w.t.Cleanup(func() { conn.Close() })
	return &datagrams{conn, b.w}
}

// ask sends a datagram and returns who has answered it.
func (d *datagrams) ask(payload string) (member string, err error) {
	if err := d.SetDeadline(time.Now().Add(udpSilence)); err != nil {
		return "", err
	}
	if _, err := d.Write([]byte(payload)); err != nil {
		return "", err
	}
	b := make([]byte, 65536)
	n, err := d.Read(b)
	if err != nil {
		return "", err
	}
	name, rest, _ := strings.Cut(string(b[:n]), " ")
	if rest != payload {
		return name, fmt.Errorf("%s answered %d bytes for %d", name, len(rest), len(payload))
	}
	return name, nil
}

// mustAsk is ask that has to be answered.
func (d *datagrams) mustAsk(payload string) string {
	d.w.t.Helper()
	name, err := d.ask(payload)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return name
}

func TestUDP(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, udpCases)
}

// TestUDPOverIPv6 runs on XDP alone, which has tc behind it.
func TestUDPOverIPv6(t *testing.T) {
	udpCases(newWorld(t, "xdp", lab.TutorialOptions{IPv6: true}))
}

func udpCases(w *world) {
	w.serveUDP()
	w.test("echo", udpEcho)
	w.test("repick", udpRepick)
	w.test("refused", udpRefused)
}

// udpEcho: a socket stays with its member, sockets take turns, and payloads of every
// size that fits come back as they were.
func udpEcho(w *world) {
	b := w.balanceUDP(balancerOptions{})
	var names []string
	for range 6 {
		d := b.openUDP()
		name := d.mustAsk("who?")
		names = append(names, name)
		for _, size := range []int{1, 0, 2, 511, 1400} {
			if again := d.mustAsk(strings.Repeat("x", size)); again != name {
				w.t.Errorf("a flow of %s was answered by %s", name, again)
			}
		}
	}
	if err := inTurn(names, "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
	stats := b.stats()
	if stats.number("total_connections") != 6 || stats.number("active_connections") != 6 {
		w.t.Errorf("stats of six flows: %v", stats)
	}
	udpSums(w, b)
}

// udpRepick: a flow whose member goes, however that is said, has another one with its
// next datagram.
func udpRepick(w *world) {
	rows.Proves(w.t, 79)
	b := w.balanceUDP(balancerOptions{})
	index := map[string]int{"WEB1": 0, "WEB2": 1}
	other := map[string]string{"WEB1": "WEB2", "WEB2": "WEB1"}
	d := b.openUDP()
	is := d.mustAsk("first")
	b.change(func() { w.update(members, b.members[index[is]], object{"admin_state_up": false}) })
	if now := d.mustAsk("second"); now != other[is] {
		w.t.Errorf("%s is admin-down and has answered: %s", is, now)
	}
	b.change(func() { w.update(members, b.members[index[is]], object{"admin_state_up": true}) })
	if now := d.mustAsk("third"); now != other[is] {
		w.t.Errorf("a flow of %s moved to %s for no reason", other[is], now)
	}
	is = other[is]
	b.dropMember(index[is])
	if now := d.mustAsk("fourth"); now != other[is] {
		w.t.Errorf("%s is gone and has answered: %s", is, now)
	}
	// The last one dies: its monitor asks for what is not there.
	b.monitor(object{"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1})
	b.awaitMember(0, false)
	if name, err := d.ask("fifth"); err == nil {
		w.t.Errorf("%s is down and has answered", name)
	}
}

// udpRefused: without a usable member a client is told so at once.
func udpRefused(w *world) {
	b := w.balanceUDP(balancerOptions{})
	b.setPool(object{"admin_state_up": false})
	if _, err := b.openUDP().ask("anybody?"); !errors.Is(err, unix.ECONNREFUSED) {
		w.t.Errorf("%v, want an ICMP error", err)
	}
	b.setPool(object{"admin_state_up": true})
	b.openUDP().mustAsk("anybody?")
}
