package tests

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

func TestPaths(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		w.test("overlapping tenants", overlappingTenants)
		w.test("two VIPs with one member", twoVIPs)
		w.test("a member to its own VIP", memberToItself)
		w.test("a client in the members' subnet", clientInSubnet)
		w.test("another port at the member", otherPort)
		w.test("no listener", noListener)
		w.test("from inside", fromInside)
		w.test("half-closed", halfClosed)
		w.test("wrong sums", damaged)
		w.test("forged segments", forged)
		w.test("ping", pings)
	})
}

// overlappingTenants: same addresses and ports on two bridges, and everybody stays
// at home.
func overlappingTenants(w *world) {
	rows.Proves(w.t, 102)
	const bridge = "br-other"
	if err := w.Node.Bridge(bridge); err != nil {
		w.t.Fatal(err)
	}
	plug := func(name, address string) *lab.Host {
		host, err := w.Lab.Host(name)
		if err == nil {
			err = w.Lab.Link(
				lab.End{Host: host, Device: lab.Uplink, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}},
				lab.End{Host: w.Node, Device: "port-" + name, Bridge: bridge}, 0)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		return host
	}
	// The same addresses as WEB1 and the router have.
	member, client := plug("other1", "172.16.100.9/24"), plug("other2", "172.16.100.1/24")
	if _, err := member.StartWeb(lab.WebOptions{Name: "OTHER1", Address: netip.MustParseAddrPort("172.16.100.9:80")}); err != nil {
		w.t.Fatal(err)
	}
	network, subnet := w.declare(bridge)
	w.t.Cleanup(func() {
		w.remove(subnets, subnet)
		w.remove(networks, network)
	})
	ours := w.balance(balancerOptions{endpoints: w.endpoints(webPort)[:1]})
	theirs := w.balance(balancerOptions{endpoints: w.endpoints(webPort)[:1], subnet: subnet})
	ourClient, theirClient := w.Router.HTTPClient(lab.HTTPOptions{}), client.HTTPClient(lab.HTTPOptions{})
	for range 20 {
		if name := w.only(ours.askBy(ourClient, 2)); name != "WEB1" {
			w.t.Fatalf("we were answered by %s", name)
		}
		if name := w.only(theirs.askBy(theirClient, 2)); name != "OTHER1" {
			w.t.Fatalf("they were answered by %s", name)
		}
	}
	for _, b := range []*balancer{ours, theirs} {
		b.awaitActive(0)
		if n := b.stats().number("total_connections"); n != 40 {
			w.t.Errorf("%v connections were counted, want 40", n)
		}
	}
}

// twoVIPs: one client port to two VIPs in front of one member are two connections.
func twoVIPs(w *world) {
	rows.Proves(w.t, 101)
	one := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)[:1]})
	two := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)[:1], at: one.beside(0)})
	var flows []*flow
	for port := uint16(40000); port < 40020; port++ {
		for _, b := range []*balancer{one, two} {
			flows = append(flows, b.openFromPort(port))
		}
	}
	w.mustEcho(flows...)
	one.awaitActive(20)
	two.awaitActive(20)
}

// openFromPort opens a connection from a port of the client, which may have others.
func (b *balancer) openFromPort(port uint16) *flow {
	b.w.t.Helper()
	dialer := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.w.ClientAddress, port)),
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			return errors.Join(controlErr, err)
		},
	}
	var f *flow
	err := b.w.Client.Do(func() error {
		conn, err := dialer.DialContext(bounded(b.w.t, patience), "tcp", b.at.String())
		if err == nil {
			f, err = newFlow(conn)
		}
		return err
	})
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.w.t.Cleanup(f.close)
	return f
}

// memberToItself: a member is its own client, now and then.
func memberToItself(w *world) {
	rows.Proves(w.t, 97)
	b := w.balance(balancerOptions{})
	client := w.Members[0].Host.HTTPClient(lab.HTTPOptions{})
	if err := inTurn(b.askBy(client, 20), "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
	if err := lab.Download(bounded(w.t, patience), client, b.url(), 1<<20, 1); err != nil {
		w.t.Error(err)
	}
}

func clientInSubnet(w *world) {
	rows.Proves(w.t, 98)
	b := w.balance(balancerOptions{})
	client := w.Router.HTTPClient(lab.HTTPOptions{})
	if err := inTurn(b.askBy(client, 20), "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
	w.bulkBy(b, client, 10<<20)
}

// otherPort: the members listen elsewhere than the VIP.
func otherPort(w *world) {
	const port = 8088
	w.serve(port, false)
	b := w.balance(balancerOptions{endpoints: w.endpoints(port)})
	if err := inTurn(b.ask(20), "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
}

// noListener: the namespace itself has nothing to say, on no port.
func noListener(w *world) {
	b := w.balance(balancerOptions{})
	for _, port := range []uint16{1, 22, 443, 5000, 65000} {
		conn, err := w.Router.Dial(bounded(w.t, time.Second/2), "tcp", netip.AddrPortFrom(b.at.Addr(), port).String())
		if err == nil {
			conn.Close()
			w.t.Errorf("somebody listens on port %d of the VIP", port)
		}
	}
}
