package tests

import (
	"net/netip"
	"testing"

	"qlbaas/tests/lab"
)

// TestFloatingIPMoves: a floating IP goes from a VIP to a plain host, to a host behind
// another router and back, clients follow at once, and what passes is counted.
func TestFloatingIPMoves(t *testing.T) {
	w := lastChapter(t, "auto")
	if err := w.Client.Sysctl("net.ipv4.neigh."+lab.Uplink+".locktime", "0"); err != nil {
		t.Fatal(err)
	}
	const bridge = "br-other"
	if err := w.Node.Bridge(bridge); err != nil {
		t.Fatal(err)
	}
	other := w.plug("other", "172.16.100.9/24", bridge)
	if _, err := other.StartWeb(lab.WebOptions{Name: "OTHER", Address: netip.MustParseAddrPort("172.16.100.9:80")}); err != nil {
		t.Fatal(err)
	}
	external := w.declareExternal()
	a := w.settleTenant("a", lab.BridgeName, external, "10.10.10.50", w.endpoints(webPort))
	b := w.settleTenant("b", bridge, external, "10.10.10.60", w.endpoints(webPort)[:1])
	port := func(c *tenancy, address string) string {
		return w.create(ports, object{"network_id": c.network, "fixed_ips": []object{{"ip_address": address}}}).text("id")
	}
	second, theirs := port(a, "172.16.100.10"), port(b, "172.16.100.9")
	if err := inTurn(a.ask(10), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	a.isCounted()
	for _, step := range []struct{ port, router, name string }{
		{second, a.router, "WEB2"}, {theirs, b.router, "OTHER"}, {second, a.router, "WEB2"},
	} {
		w.update(floatingIPs, a.floating, object{"port_id": step.port})
		w.awaitFloating(a.floating, "ACTIVE")
		if o := w.show(floatingIPs, a.floating); o.text("router_id") != step.router {
			t.Errorf("floating IP %v, want router %s", o, step.router)
		}
		if name := w.only(a.ask(4)); name != step.name {
			t.Errorf("%s answered, want %s", name, step.name)
		}
	}
	w.update(floatingIPs, a.floating, object{"port_id": a.port})
	w.awaitFloating(a.floating, "ACTIVE")
	if err := inTurn(a.ask(4), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	// The VIP goes, the floating IP stays and stands for nothing.
	a.awaitActive(0)
	w.remove(vips, a.vip)
	a.vip = ""
	if o := w.show(floatingIPs, a.floating); o.text("status") != "DOWN" || o["port_id"] != nil || o["router_id"] != nil {
		t.Errorf("floating IP of a VIP that is gone: %v", o)
	}
	w.awaitSilence(a.at)
	for _, id := range []string{second, theirs} {
		w.remove(ports, id)
	}
	for _, c := range []*tenancy{a, b} {
		c.leave()
	}
}

// isCounted: metrics and status know the floating IP and its router.
func (c *tenancy) isCounted() {
	t := c.w.t
	seen := c.w.scrape()
	for _, direction := range []string{"in", "out"} {
		labels := []string{"router", c.router, "floatingip", c.floating, "direction", direction}
		packets, bytes := seen.value("qlbaas_floatingip_packets_total", labels...), seen.value("qlbaas_floatingip_bytes_total", labels...)
		if packets < 40 || bytes < 40*packets {
			t.Errorf("%v packets and %v bytes %s, of ten requests", packets, bytes, direction)
		}
	}
	all, _ := c.w.call(200, "GET", "/qlbaas/status", nil)["routers"].([]any)
	for _, one := range all {
		o := object(one.(map[string]any))
		if o.text("id") != c.router {
			continue
		}
		if o.text("state") != "ACTIVE" || o["deployed"] != true || o.text("namespace") != "qrouter-"+c.router ||
			o.number("floating") != 1 || o.number("interfaces") != 1 || o["last_error"] != nil || o.text("program_tag") == "" {
			t.Errorf("status: %v", o)
		}
		return
	}
	t.Errorf("router %s is not in %v", c.router, all)
}
