package tests

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// externalBridge is the bridge of the external network on the node.
const externalBridge = "br-ex"

// lastChapter is the story's network without its ready-made router: the client is on the
// external network, the members are on the inner one, and only the product joins them.
// Its agent runs with further flags and knows nothing yet.
func lastChapter(t *testing.T, hook string, flags ...string) *world {
	t.Helper()
	l := labtest.New(t)
	w := &world{hook: hook, Tutorial: &lab.Tutorial{
		Lab: l, Subnet: netip.MustParsePrefix("172.16.100.0/24"), Gateway: netip.MustParseAddr("172.16.100.1"),
		VIP: netip.MustParseAddr("172.16.100.11"), ClientAddress: netip.MustParseAddr("10.10.10.4"),
	}}
	w.agent = &agent{t: t}
	var err error
	if w.Node, err = l.Host("node"); err != nil {
		t.Fatal(err)
	}
	for _, bridge := range []string{lab.BridgeName, externalBridge} {
		if err := w.Node.Bridge(bridge); err != nil {
			t.Fatal(err)
		}
	}
	w.Client = w.plug("client", "10.10.10.4/24", externalBridge)
	for i, address := range []string{"172.16.100.9", "172.16.100.10"} {
		name := fmt.Sprintf("web%d", i+1)
		w.Members = append(w.Members, lab.Member{
			Name: fmt.Sprintf("WEB%d", i+1), Address: netip.MustParseAddr(address), Host: w.plug(name, address+"/24", lab.BridgeName),
		})
	}
	t.Cleanup(w.forgetRouters)
	w.agent = newAgent(t, w.Node, append(flags, "--hook", hook)...)
	w.args = append(w.args, "--api", "unix://"+w.socket())
	w.start()
	if w.webs, err = w.StartWebs(webPort); err != nil {
		t.Fatal(err)
	}
	if w.echos, err = w.StartEchos(echoPort); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.expectNothing)
	return w
}

// forgetRouters takes away what a failed test has left of routers, when the agent has
// ended.
func (w *world) forgetRouters() {
	left, err := lab.Namespaces("qrouter-")
	for _, name := range left {
		if !w.t.Failed() {
			w.t.Errorf("namespace %s is left", name)
		}
		err = errors.Join(err, lab.Remove(name))
	}
	if err != nil {
		w.t.Error(err)
	}
}

// plug joins a new host to a bridge of the node. An inner one has the subnet's gateway as
// its default route.
func (w *world) plug(name, address, bridge string) *lab.Host {
	w.t.Helper()
	host, err := w.Lab.Host(name)
	if err == nil {
		err = w.Lab.Link(
			lab.End{Host: host, Device: lab.Uplink, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}},
			lab.End{Host: w.Node, Device: "port-" + name, Bridge: bridge}, 0)
	}
	if err == nil && bridge != externalBridge {
		err = host.AddRoute(netip.Prefix{}, w.Gateway)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return host
}

// declareExternal tells the agent of the external network.
func (w *world) declareExternal() (network string) {
	w.t.Helper()
	network = w.create(networks, object{
		"name": "ext-net", "router:external": true, "provider:physical_network": externalBridge,
	}).text("id")
	w.create(subnets, object{
		"network_id": network, "cidr": "10.10.10.0/24", "gateway_ip": "10.10.10.1",
		"allocation_pools": []object{{"start": "10.10.10.6", "end": "10.10.10.99"}},
	})
	return network
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

// awaitRouterGone waits until nothing is left of a router that was deleted.
func (w *world) awaitRouterGone(id string) {
	w.t.Helper()
	until(w.t, patience, func() error {
		left, err := lab.Namespaces("qrouter-" + id)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("namespaces %v are left", left)
		}
		return err
	})
}

// cannotReach wants no connection from a host to an address.
func (w *world) cannotReach(from *lab.Host, address string) {
	w.t.Helper()
	conn, err := from.Dial(bounded(w.t, requestTimeout/20), "tcp", address)
	if err == nil {
		w.t.Error(errors.Join(fmt.Errorf("%s reaches %s", from.Name(), address), conn.Close()))
	}
}

// awaitSilence waits until the client reaches nobody at a floating IP.
func (w *world) awaitSilence(at netip.AddrPort) {
	w.t.Helper()
	until(w.t, patience, func() error {
		conn, err := w.Client.Dial(bounded(w.t, requestTimeout/20), "tcp", at.String())
		if err != nil {
			return nil
		}
		return errors.Join(fmt.Errorf("%s still answers", at), conn.Close())
	})
}

// tenancy is one project's network, balancer, router and floating IP.
type tenancy struct {
	*balancer
	network, subnet, router, floating string
}

// leave takes away what a project has beside its balancer.
func (c *tenancy) leave() {
	c.w.remove(floatingIPs, c.floating)
	c.w.plugRouter(c.router, "remove_router_interface", c.subnet)
	c.w.remove(routers, c.router)
	c.w.awaitRouterGone(c.router)
}

// settleTenant makes everything of a project: the same addresses as every other one's,
// on a bridge of its own, behind the given floating IP.
func (w *world) settleTenant(tenant, bridge, external, floating string, endpoints []netip.AddrPort) *tenancy {
	w.t.Helper()
	own := func(o object) object { o["tenant_id"] = tenant; return o }
	c := &tenancy{network: w.create(networks, own(object{"name": bridge, "provider:physical_network": bridge})).text("id")}
	c.subnet = w.create(subnets, own(object{"network_id": c.network, "cidr": w.Subnet.String()})).text("id")
	c.balancer = w.balance(balancerOptions{
		subnet: c.subnet, endpoints: []netip.AddrPort{}, pool: own(object{}), vip: own(object{}),
	})
	for _, m := range endpoints {
		w.create(members, own(object{"pool_id": c.id, "address": m.Addr().String(), "protocol_port": m.Port()}))
	}
	c.settle()
	c.router = w.create(routers, own(object{"external_gateway_info": object{"network_id": external}})).text("id")
	w.plugRouter(c.router, "add_router_interface", c.subnet)
	c.floating = w.create(floatingIPs, own(object{
		"floating_network_id": external, "floating_ip_address": floating, "port_id": c.port,
	})).text("id")
	w.awaitFloating(c.floating, "ACTIVE")
	c.at = netip.AddrPortFrom(netip.MustParseAddr(floating), c.at.Port())
	return c
}

// plugRouter adds or removes an interface of a router.
func (w *world) plugRouter(id, operation, subnet string) {
	w.t.Helper()
	answer, err := w.request("PUT", "/v2.0/routers/"+id+"/"+operation, object{"subnet_id": subnet})
	if err != nil || answer.code != 200 {
		w.t.Fatalf("%s: %d %s %v", operation, answer.code, answer.body, err)
	}
}

// TestRoutedTenants: two projects with the same subnet and the same VIP on one node,
// each behind a router and a floating IP of its own, and nothing crosses over.
func TestRoutedTenants(t *testing.T) {
	for _, hook := range hooks() {
		t.Run(hook, func(t *testing.T) { routedTenants(lastChapter(t, hook)) })
	}
}

func routedTenants(w *world) {
	const bridge = "br-other"
	if err := w.Node.Bridge(bridge); err != nil {
		w.t.Fatal(err)
	}
	other := w.plug("other", "172.16.100.9/24", bridge)
	echo, err := other.StartEcho("OTHER", netip.MustParseAddrPort("172.16.100.9:7"))
	if err == nil {
		err = other.AddAddress(lab.Uplink, netip.MustParsePrefix("172.16.100.77/24"))
	}
	if err == nil {
		_, err = other.StartEcho("HIDDEN", netip.MustParseAddrPort("172.16.100.77:7"))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	external := w.declareExternal()
	a := w.settleTenant("a", lab.BridgeName, external, "10.10.10.50", w.endpoints(echoPort))
	b := w.settleTenant("b", bridge, external, "10.10.10.60", w.endpoints(echoPort)[:1])
	var flows []*flow
	for port := uint16(40000); port < 40010; port++ {
		mine, theirs := a.openFromPort(port), b.openFromPort(port)
		flows = append(flows, mine, theirs)
		if mine.member != "WEB1" && mine.member != "WEB2" || theirs.member != "OTHER" {
			w.t.Errorf("%s answered for a, %s for b", mine.member, theirs.member)
		}
	}
	w.mustEcho(flows...)
	if n, m := w.echos[0].Active()+w.echos[1].Active(), echo.Active(); n != 10 || m != 10 {
		w.t.Errorf("%d connections at a's members, %d at b's, want 10 each", n, m)
	}
	// By the other one's floating IP, as anybody; by one's own, from inside.
	for _, from := range []*lab.Host{w.Members[0].Host, other} {
		mine, theirs := a.openFrom(from, netip.Addr{}), b.openFrom(from, netip.Addr{})
		flows = append(flows, mine, theirs)
		if mine.member != "WEB1" && mine.member != "WEB2" || theirs.member != "OTHER" {
			w.t.Errorf("to %s %s answered for a, %s for b", from.Name(), mine.member, theirs.member)
		}
	}
	w.cannotReach(w.Members[0].Host, "172.16.100.77:7")
	// A neighbour who knows the routers does not get in by inner addresses.
	if err := w.Client.AddRoute(w.Subnet, netip.MustParseAddr("10.10.10.6")); err != nil {
		w.t.Fatal(err)
	}
	w.cannotReach(w.Client, "172.16.100.9:7")
	for _, f := range flows {
		f.close()
	}
	for _, c := range []*tenancy{a, b} {
		c.awaitActive(0)
		c.leave()
	}
}
