package tests

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// externalBridge is the bridge of the external network on the node.
const externalBridge = "br-ex"

// lastChapter is the story's network without its ready-made router: the client is on the
// external network, the members are on the inner one, and only the product joins them.
func lastChapter(t *testing.T) *world {
	t.Helper()
	l := labtest.New(t)
	s := &lab.Tutorial{
		Lab: l, Subnet: netip.MustParsePrefix("172.16.100.0/24"), Gateway: netip.MustParseAddr("172.16.100.1"),
		VIP: netip.MustParseAddr("172.16.100.11"), ClientAddress: netip.MustParseAddr("10.10.10.4"),
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	host := func(name, address, bridge string) *lab.Host {
		t.Helper()
		h, err := l.Host(name)
		must(err)
		must(l.Link(
			lab.End{Host: h, Device: lab.Uplink, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}},
			lab.End{Host: s.Node, Device: "port-" + name, Bridge: bridge}, 0))
		return h
	}
	var err error
	s.Node, err = l.Host("node")
	must(err)
	must(s.Node.Bridge(lab.BridgeName))
	must(s.Node.Bridge(externalBridge))
	s.Client = host("client", "10.10.10.4/24", externalBridge)
	for i, address := range []string{"172.16.100.9", "172.16.100.10"} {
		h := host(fmt.Sprintf("web%d", i+1), address+"/24", lab.BridgeName)
		must(h.AddRoute(netip.Prefix{}, s.Gateway))
		s.Members = append(s.Members, lab.Member{Name: fmt.Sprintf("WEB%d", i+1), Host: h, Address: netip.MustParseAddr(address)})
	}
	w := &world{Tutorial: s, hook: "auto"}
	w.agent = newAgent(t, s.Node, "--no-auth")
	w.args = append(w.args, "--api", "http://127.0.0.1:9696", "--api", "unix://"+w.socket())
	w.start()
	w.webs, err = w.StartWebs(webPort)
	must(err)
	w.network, w.subnet = w.declare(lab.BridgeName)
	t.Cleanup(w.expectNothing)
	return w
}

// TestNeutronFloatingIP: the original's client plays the story's last chapter, from the
// external network to a floating IP that balances, and back to nothing.
func TestNeutronFloatingIP(t *testing.T) {
	w := lastChapter(t)
	b := w.balance(balancerOptions{})
	external := w.create(networks, object{
		"name": "ext-net", "router:external": true, "provider:physical_network": externalBridge,
	}).text("id")
	w.create(subnets, object{
		"network_id": external, "cidr": "10.10.10.0/24", "gateway_ip": "10.10.10.1",
		"allocation_pools": []object{{"start": "10.10.10.6", "end": "10.10.10.99"}},
	})
	router := w.neutronObject("router-create", "gate").text("id")
	t.Cleanup(func() {
		if err := lab.Remove("qrouter-" + router); err != nil {
			t.Error(err)
		}
	})
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
	until(t, patience, func() error {
		conn, err := w.Client.Dial(bounded(t, requestTimeout/20), "tcp", b.at.String())
		if err == nil {
			return errors.Join(errors.New("a floating IP that stands for nothing answers"), conn.Close())
		}
		return nil
	})
	w.remove(floatingIPs, floating)
	w.remove(floatingIPs, second.text("id"))
	w.remove(ports, host)
	w.neutron("router-interface-delete", "gate", lab.BridgeName)
	w.remove(routers, router)
	w.remove(networks, external)
	until(t, patience, func() error {
		left, err := lab.Namespaces("qrouter-" + router)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("namespaces %v are left", left)
		}
		return err
	})
	b.at = netip.AddrPortFrom(w.VIP, webPort)
}

// awaitFloating waits until the node does what was asked of a floating IP.
func (w *world) awaitFloating(id, status string) {
	w.t.Helper()
	until(w.t, patience, func() error {
		if o := w.show(floatingIPs, id); o.text("status") != status {
			return fmt.Errorf("floating IP %v, want %s", o, status)
		}
		return nil
	})
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
