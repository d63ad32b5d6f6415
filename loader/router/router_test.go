package router

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/safchain/ethtool"

	"qlbaas/loader/hook"
	"qlbaas/tests/lab"
)

// Through a floating IP a client reaches the host behind it, and is seen by its own address;
// the host goes out by its floating IP, and those without one by the router's.
func TestFloatingIP(t *testing.T) {
	onEveryHook(t, func(w *world) {
		s := w.site(1)
		n := w.open()
		w.apply(n, s.Router)
		floating := s.Floating[0].Address

		if peer := w.reaches(w.client, s.floating(), s); peer != clientAddr {
			t.Errorf("the server saw %s", peer)
		}
		w.bulk(s)
		w.datagrams(s)
		for _, size := range []int{0, 1400, 4000} {
			if err := w.ping(w.client, floating, size, 0, patience); err != nil {
				t.Errorf("ping of %d bytes: %v", size, err)
			}
			if err := w.ping(s.server, clientAddr, size, 0, patience); err != nil {
				t.Errorf("ping of %d bytes from inside: %v", size, err)
			}
		}
		w.outward(s)
		w.hairpin(s)
		w.traceroute(s)
		w.closed(s)
		w.mostByProgram(n, s)
		w.remove(n, s.Router)
		w.wantNothingLeft()
	})
}

// bulk sends a megabyte there and back.
func (w *world) bulk(s *site) {
	w.Helper()
	conn, _, err := w.dial(w.client, s.floating(), patience)
	w.must(err)
	defer conn.Close()
	text := strings.Repeat("All that is sent comes back. ", 1<<20/29)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Write([]byte(text))
		done <- err
	}()
	heard := make([]byte, 0, len(text))
	conn.SetDeadline(time.Now().Add(patience))
	for buffer := make([]byte, 1<<16); len(heard) < len(text); {
		n, err := conn.Read(buffer)
		if err != nil {
			w.Fatalf("after %d bytes: %v", len(heard), err)
		}
		heard = append(heard, buffer[:n]...)
	}
	w.must(<-done)
	if !bytes.Equal(heard, []byte(text)) {
		w.Error("something else came back")
	}
}

// datagrams of any size, fragments too, come back from whom they were sent to.
func (w *world) datagrams(s *site) {
	w.Helper()
	server, err := s.server.ListenPacket("udp4", netip.AddrPortFrom(s.Floating[0].Fixed, echoPort).String())
	w.must(err)
	defer server.Close()
	go func() {
		for buffer := make([]byte, 1<<16); ; {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buffer[:n], from)
		}
	}()
	conn, err := w.client.Dial(w.Context(), "udp4", s.floating().String())
	w.must(err)
	defer conn.Close()
	for _, size := range []int{1, 1400, 4000, 20000} {
		text := bytes.Repeat([]byte{byte(size)}, size)
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write(text); err != nil {
			w.Fatal(err)
		}
		heard := make([]byte, 1<<16)
		n, err := conn.Read(heard)
		if err != nil || !bytes.Equal(heard[:n], text) {
			w.Errorf("datagram of %d bytes: %d bytes, %v", size, n, err)
		}
	}
}

// outward connections come from the floating IP, or from the router's own address.
func (w *world) outward(s *site) {
	w.Helper()
	echo, err := w.client.StartEcho("outside", netip.AddrPortFrom(clientAddr, echoPort))
	w.must(err)
	defer echo.Close()
	to := netip.AddrPortFrom(clientAddr, echoPort)
	outside := &site{echo: echo}
	if peer := w.reaches(s.server, to, outside); peer != s.Floating[0].Address {
		w.Errorf("the server with a floating IP came as %s", peer)
	}
	if peer := w.reaches(s.poor, to, outside); peer != s.External.Address.Addr() {
		w.Errorf("the host without came as %s", peer)
	}
	if err := w.ping(s.poor, clientAddr, 100, 0, patience); err != nil {
		w.Errorf("ping from a host without floating IP: %v", err)
	}
}

// hairpin is a floating IP asked for from inside, by others and by its own host.
func (w *world) hairpin(s *site) {
	w.Helper()
	if peer := w.reaches(s.poor, s.floating(), s); peer != s.External.Address.Addr() {
		w.Errorf("from inside a host without floating IP came as %s", peer)
	}
	if peer := w.reaches(s.server, s.floating(), s); peer != s.Floating[0].Address {
		w.Errorf("the host itself came as %s", peer)
	}
	for _, host := range []netip.Addr{s.Floating[0].Address, s.External.Address.Addr(), gatewayAddr} {
		if err := w.ping(s.poor, host, 56, 0, patience); err != nil {
			w.Errorf("ping of %s from inside: %v", host, err)
		}
	}
}

// traceroute sees the router, and nothing of what is behind it. (The stack's NAT has the
// router's error come from where the packet went, as everything of the connection does.)
func (w *world) traceroute(s *site) {
	w.Helper()
	floating := s.Floating[0].Address
	var heard icmpError
	err := w.ping(w.client, floating, 56, 1, patience)
	if !errors.As(err, &heard) || heard.kind != 11 || heard.from != floating || heard.about != floating {
		w.Errorf("with one hop: %v", err)
	}
	err = w.ping(s.server, clientAddr, 56, 1, patience)
	if !errors.As(err, &heard) || heard.kind != 11 || heard.from != gatewayAddr || heard.about != clientAddr {
		w.Errorf("with one hop from inside: %v", err)
	}
	if err := w.ping(w.client, floating, 56, 2, patience); err != nil {
		w.Errorf("with two hops: %v", err)
	}
	// The host itself refuses a datagram.
	conn, err := w.client.Dial(w.Context(), "udp4", netip.AddrPortFrom(floating, 9).String())
	w.must(err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err = conn.Write([]byte("?")); err == nil {
		_, err = conn.Read(make([]byte, 10))
	}
	if err == nil || !strings.Contains(err.Error(), "refused") {
		w.Errorf("datagram to a closed port: %v", err)
	}
}

// closed is what nobody outside may reach: fixed addresses, and the router itself.
func (w *world) closed(s *site) {
	w.Helper()
	w.must(w.client.AddRoute(netip.MustParsePrefix("172.16.50.0/24"), s.External.Address.Addr()))
	if _, _, err := w.dial(w.client, netip.AddrPortFrom(serverAddr, echoPort), silence); err == nil {
		w.Error("the fixed address can be reached from outside")
	}
	if _, _, err := w.dial(w.client, netip.AddrPortFrom(s.External.Address.Addr(), echoPort), silence); err == nil {
		w.Error("the router listens")
	}
	if err := w.ping(w.client, s.External.Address.Addr(), 56, 0, patience); err != nil {
		w.Errorf("the router does not answer pings: %v", err)
	}
}

// mostByProgram wants the megabyte to have gone through the program, not the stack.
func (w *world) mostByProgram(n *Node, s *site) {
	w.Helper()
	stats, err := n.Stats(s.ID)
	w.must(err)
	if len(stats.Floating) != 1 || stats.Floating[0].ID != s.Floating[0].ID {
		w.Fatalf("floating IPs %v", stats.Floating)
	}
	if f := stats.Floating[0]; f.BytesIn < 1<<20 || f.BytesOut < 1<<20 || f.PacketsIn == 0 || f.PacketsOut == 0 {
		w.Errorf("counted %+v", f)
	}
	for reason, packets := range stats.Drops {
		if packets > 0 {
			w.Errorf("%d packets were dropped for %s", packets, reason)
		}
	}
	if w.opts.Hook == hook.NameXDP {
		w.byXDP(n, s)
	}
	status, err := n.Status(s.ID)
	if err != nil || status.Floating != 1 || status.Tag == "" || !strings.HasPrefix(status.External, "qg-") {
		w.Errorf("status %+v, %v", status, err)
	}
}

// byXDP wants the fast path to have sent most of it, and the legs' peers to have taken it.
func (w *world) byXDP(n *Node, s *site) {
	w.Helper()
	legs := []string{(&leg{*s.External, true}).insideName(), (&leg{s.Inside[0], false}).insideName()}
	w.must(n.find(s.ID).ns.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		for _, name := range legs {
			counted, err := tool.Stats(name)
			if err != nil {
				return err
			}
			sums := map[string]uint64{}
			for what, n := range counted {
				for _, kind := range []string{"xdp_redirect", "xdp_xmit_errors", "xdp_xmit"} {
					if strings.HasSuffix(what, kind) {
						sums[kind] += n
					}
				}
			}
			if sums["xdp_redirect"] < 500 || sums["xdp_xmit_errors"] > 0 {
				w.Errorf("%s: %v", name, sums)
			}
		}
		return nil
	}))
}

// A network that carries less than the others is found out about, whoever says so: the
// router, or a router behind it, which has no floating IP of its own.
func TestPathMTU(t *testing.T) {
	onEveryHook(t, func(w *world) {
		s := w.site(1)
		w.mtu(s.bridge, 1400)
		w.narrow(s.server, gatewayAddr, 1400)
		far := w.behind(s)
		n := w.open()
		w.apply(n, s.Router)
		for _, at := range []*site{s, far} {
			w.bulk(at)
			var heard icmpError
			floating := at.Floating[0].Address
			w.flushRoutes(w.client)
			if err := w.ping(w.client, floating, 1450, 0, patience); !errors.As(err, &heard) || heard.kind != 3 || heard.code != 4 || heard.about != floating {
				t.Errorf("ping that does not fit: %v", err)
			}
			if err := w.ping(w.client, floating, 1450, 0, patience); err != nil {
				t.Errorf("ping that is cut now: %v", err)
			}
		}
		// What may be cut is, fragments too.
		w.must(w.client.Sysctl("net.ipv4.ip_no_pmtu_disc", "1"))
		w.flushRoutes(w.client)
		w.datagrams(s)
		w.datagrams(far)
		w.remove(n, s.Router)
	})
}

// behind builds a host behind a router behind the site's router, with a floating IP of the
// site's: the last link is narrow.
func (w *world) behind(s *site) *site {
	w.Helper()
	inner := w.host("inner1", s.bridge, netip.MustParsePrefix("172.16.50.2/24"), gatewayAddr)
	host, err := w.lab.Host("far1")
	w.must(err)
	w.must(inner.Sysctl("net.ipv4.ip_forward", "1"))
	w.must(w.lab.Link(
		lab.End{Host: inner, Device: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("172.16.51.1/24")}},
		lab.End{Host: host, Device: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("172.16.51.9/24")}}, 1300))
	w.narrow(host, netip.MustParseAddr("172.16.51.1"), 1300)
	address := netip.MustParseAddr("172.16.51.9")
	echo, err := host.StartEcho("server9", netip.AddrPortFrom(address, echoPort))
	w.must(err)
	s.Routes = []Route{{Destination: netip.MustParsePrefix("172.16.51.0/24"), NextHop: netip.MustParseAddr("172.16.50.2")}}
	floating := Floating{ID: newUUID(w), Address: netip.MustParseAddr("10.10.10.77"), Fixed: address}
	s.Floating = append(s.Floating, floating)
	return &site{Router: Router{Floating: []Floating{floating}}, server: host, echo: echo}
}

// Two routers with the same addresses inside do not meet.
func TestTwins(t *testing.T) {
	onEveryHook(t, func(w *world) {
		a, b := w.site(1), w.site(2)
		n := w.open()
		w.apply(n, a.Router)
		w.apply(n, b.Router)
		for range 3 {
			w.reaches(w.client, a.floating(), a)
			w.reaches(w.client, b.floating(), b)
		}
		if peer := w.reaches(a.server, b.floating(), b); peer != a.Floating[0].Address {
			t.Errorf("from one to the other by their floating IPs: came as %s", peer)
		}
		if a.echo.Accepted() != 3 || b.echo.Accepted() != 4 {
			t.Errorf("%d and %d connections, want 3 and 4", a.echo.Accepted(), b.echo.Accepted())
		}
		w.remove(n, a.Router)
		w.reaches(w.client, b.floating(), b)
		if _, _, err := w.dial(w.client, a.floating(), silence); err == nil {
			t.Error("a removed router's floating IP answers")
		}
		w.remove(n, b.Router)
		w.wantNothingLeft()
	})
}

// A floating IP that moves to another router takes its clients along at once, and one that
// moves to another host as well.
func TestMove(t *testing.T) {
	w := newWorld(t, "")
	a, b := w.site(1), w.site(2)
	n := w.open()
	w.apply(n, a.Router)
	w.reaches(w.client, a.floating(), a)
	moved := a.floating()
	a.Floating, b.Floating = nil, append(b.Floating[:0:0], a.Floating...)
	w.apply(n, a.Router)
	w.apply(n, b.Router)
	// Also when the first router would have announced it again.
	for end := time.Now().Add(announcements * announcePause); time.Now().Before(end); {
		conn, name, err := w.dial(w.client, moved, 2*time.Second)
		if err != nil || name != b.echo.Name() {
			t.Fatalf("after the move to another router: %s, %v", name, err)
		}
		conn.Close()
	}
	echo, err := b.poor.StartEcho("server3", netip.AddrPortFrom(poorAddr, echoPort))
	w.must(err)
	b.Floating[0].Fixed = poorAddr
	w.apply(n, b.Router)
	w.reaches(w.client, moved, &site{echo: echo})
	w.reaches(b.server, moved, &site{echo: echo})
	w.remove(n, a.Router)
	w.remove(n, b.Router)
	w.wantNothingLeft()
}

// Without SNAT a router only routes.
func TestWithoutSNAT(t *testing.T) {
	w := newWorld(t, "")
	s := w.site(1)
	s.SNAT, s.Floating = false, nil
	n := w.open()
	w.apply(n, s.Router)
	w.must(w.client.AddRoute(netip.MustParsePrefix("172.16.50.0/24"), s.External.Address.Addr()))
	if peer := w.reaches(w.client, netip.AddrPortFrom(serverAddr, echoPort), s); peer != clientAddr {
		t.Errorf("the server saw %s", peer)
	}
	if err := w.ping(s.poor, clientAddr, 56, 0, patience); err != nil {
		t.Error(err)
	}
	w.remove(n, s.Router)
}
