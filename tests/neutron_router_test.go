package tests

import (
	"net"
	"net/netip"
	"testing"

	"qlbaas/tests/lab"
)

// TestNeutronFloatingIP: the original's client plays the story's last chapter, from the
// external network to a floating IP that balances, and back to nothing.
func TestNeutronFloatingIP(t *testing.T) {
	w := lastChapter(t, "auto", "--no-auth", "--api", "http://127.0.0.1:9696")
	w.network, w.subnet = w.declare(lab.BridgeName)
	b := w.balance(balancerOptions{})
	external := w.declareExternal()
	router := w.neutronObject("router-create", "gate").text("id")
	w.neutron("router-gateway-set", "gate", "ext-net")
	w.neutron("router-interface-add", "gate", lab.BridgeName)
	floating := w.neutronObject("floatingip-create", "ext-net", "--floating-ip-address", "10.10.10.7").text("id")
	w.neutron("floatingip-associate", floating, b.port)
	w.awaitFloating(floating, "ACTIVE")

	b.at = netip.MustParseAddrPort("10.10.10.7:80")
	if err := inTurn(b.ask(20), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	// A plain host has one as well, and others go out under the router's address.
	host := w.create(ports, object{"network_id": w.network, "fixed_ips": []object{{"ip_address": "172.16.100.9"}}}).text("id")
	second := w.create(floatingIPs, object{"floating_network_id": external, "port_id": host})
	w.awaitFloating(second.text("id"), "ACTIVE")
	direct := &balancer{w: w, at: netip.AddrPortFrom(netip.MustParseAddr(second.text("floating_ip_address")), webPort), scheme: "http", client: b.client}
	if name := w.only(direct.ask(3)); name != "WEB1" {
		t.Errorf("%s answered", name)
	}
	for i, want := range []string{second.text("floating_ip_address"), "10.10.10.6"} {
		if got := w.appearsAs(w.Members[i].Host); got != want {
			t.Errorf("WEB%d goes out as %s, want %s", i+1, got, want)
		}
	}
	// Traffic does not need the agent, and a new one changes nothing.
	w.kill9()
	if err := inTurn(b.ask(4), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.start()
	if err := inTurn(b.ask(4), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.neutron("floatingip-disassociate", floating)
	w.awaitFloating(floating, "DOWN")
	w.awaitSilence(b.at)
	w.remove(floatingIPs, floating)
	w.remove(floatingIPs, second.text("id"))
	w.remove(ports, host)
	w.neutron("router-interface-delete", "gate", lab.BridgeName)
	w.remove(routers, router)
	w.remove(networks, external)
	w.awaitRouterGone(router)
	b.at = netip.AddrPortFrom(w.VIP, webPort)
}

// appearsAs connects a host with the client and returns whom the client sees.
func (w *world) appearsAs(from *lab.Host) string {
	w.t.Helper()
	l, err := w.Client.Listen("tcp", "10.10.10.4:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			seen <- err.Error()
			return
		}
		defer conn.Close()
		seen <- conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String()
	}()
	conn, err := from.Dial(bounded(w.t, patience), "tcp", l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	return <-seen
}
