package lbaas_test

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"qlbaas/lbaas"
)

// routedModel is what the service should do with routers and floating IPs, in maps.
type routedModel struct {
	r *routed
	// subnets by network; gateways says which router has a subnet's gateway address.
	subnets  map[string]string
	gateways map[string]string
	routers  map[string]bool   // with a gateway?
	ports    map[string]string // subnet
	floating map[string]binding
}

type binding struct{ port, router string }

// by predicts which router binds a port, empty for none.
func (m *routedModel) by(port string) string {
	if router := m.gateways[m.ports[port]]; m.routers[router] {
		return router
	}
	return ""
}

func (m *routedModel) isUsed(router string) (used bool) {
	for _, b := range m.floating {
		used = used || b.router == router && b.port != ""
	}
	return used
}

func (m *routedModel) createRouter(t *rapid.T) {
	body, has := object{}, rapid.Bool().Draw(t, "gateway")
	if has {
		body["external_gateway_info"] = m.r.gateway()
	}
	want := ""
	if len(m.routers) == 10 {
		want = "OverQuota"
	}
	id, err := m.r.try(lbaas.Routers, body)
	expect(t, "create router", err, want)
	if want == "" {
		m.routers[id] = has
	}
}

func (m *routedModel) deleteRouter(t *rapid.T) {
	id := any1(t, m.routers)
	want := ""
	if _, found := m.routers[id]; !found {
		want = "RouterNotFound"
	}
	for _, router := range m.gateways {
		if router == id {
			want = "RouterInUse"
		}
	}
	expect(t, "delete router", m.r.deleting(lbaas.Routers, id)(), want)
	if want == "" {
		delete(m.routers, id)
	}
}

func (m *routedModel) setGateway(t *rapid.T) {
	id, has := any1(t, m.routers), rapid.Bool().Draw(t, "gateway")
	body, want := object{"external_gateway_info": nil}, ""
	if has {
		body["external_gateway_info"] = m.r.gateway()
	}
	if _, found := m.routers[id]; !found {
		want = "RouterNotFound"
	} else if !has && m.isUsed(id) {
		want = "RouterExternalGatewayInUseByFloatingIp"
	}
	expect(t, "set gateway", m.r.updating(lbaas.Routers, id, body)(), want)
	if want == "" {
		m.routers[id] = has
	}
}

func (m *routedModel) plug(t *rapid.T) {
	id, subnet := any1(t, m.routers), any1(t, m.gateways)
	has, known := m.gateways[subnet]
	want := ""
	switch _, found := m.routers[id]; {
	case !found:
		want = "RouterNotFound"
	case !known:
		want = "SubnetNotFound"
	case has == id:
		want = "BadRequest"
	case has != "":
		want = "IpAddressInUse"
	}
	expect(t, "plug", m.r.plugging(id, object{"subnet_id": subnet})(), want)
	if want == "" {
		m.gateways[subnet] = id
	}
}

func (m *routedModel) unplug(t *rapid.T) {
	id, subnet := any1(t, m.routers), any1(t, m.gateways)
	has, known := m.gateways[subnet]
	want := ""
	switch _, found := m.routers[id]; {
	case !found:
		want = "RouterNotFound"
	case !known:
		want = "SubnetNotFound"
	case has != id:
		want = "RouterInterfaceNotFoundForSubnet"
	}
	for _, b := range m.floating {
		if want == "" && b.port != "" && m.ports[b.port] == subnet {
			want = "RouterInterfaceInUseByFloatingIP"
		}
	}
	expect(t, "unplug", m.r.unplugging(id, object{"subnet_id": subnet})(), want)
	if want == "" {
		m.gateways[subnet] = ""
	}
}

func (m *routedModel) createPort(t *rapid.T) {
	network := rapid.SampledFrom(slices.Sorted(keys(m.subnets))).Draw(t, "network")
	id, err := m.r.try(lbaas.Ports, object{"network_id": network})
	expect(t, "create port", err, "")
	m.ports[id] = m.subnets[network]
}

func (m *routedModel) deletePort(t *rapid.T) {
	id := any1(t, m.ports)
	want := ""
	if _, found := m.ports[id]; !found {
		want = "PortNotFound"
	}
	expect(t, "delete port", m.r.deleting(lbaas.Ports, id)(), want)
	delete(m.ports, id)
	for floating, b := range m.floating {
		if b.port == id {
			m.floating[floating] = binding{}
		}
	}
}

// binds predicts what binding to a port is answered.
func (m *routedModel) binds(floating, port string) string {
	if _, found := m.ports[port]; !found {
		return "PortNotFound"
	}
	for other, b := range m.floating {
		if b.port == port && other != floating {
			return "FloatingIPPortAlreadyAssociated"
		}
	}
	if m.by(port) == "" {
		return "ExternalGatewayForFloatingIPNotFound"
	}
	return ""
}

func (m *routedModel) createFloating(t *rapid.T) {
	body, want, b := object{"floating_network_id": m.r.external}, "", binding{}
	if rapid.Bool().Draw(t, "bound") {
		port := any1(t, m.ports)
		body["port_id"], want, b = port, m.binds("", port), binding{port, m.by(port)}
	}
	id, err := m.r.try(lbaas.FloatingIPs, body)
	expect(t, "create floating IP", err, want)
	if want == "" {
		m.floating[id] = b
	}
}

func (m *routedModel) bind(t *rapid.T) {
	id, port := any1(t, m.floating), any1(t, m.ports)
	want := "FloatingIPNotFound"
	if _, found := m.floating[id]; found {
		want = m.binds(id, port)
	}
	expect(t, "bind", m.r.updating(lbaas.FloatingIPs, id, object{"port_id": port})(), want)
	if want == "" {
		m.floating[id] = binding{port, m.by(port)}
	}
}

func (m *routedModel) unbind(t *rapid.T) {
	id := any1(t, m.floating)
	want := "FloatingIPNotFound"
	if _, found := m.floating[id]; found {
		want, m.floating[id] = "", binding{}
	}
	expect(t, "unbind", m.r.updating(lbaas.FloatingIPs, id, object{"port_id": nil})(), want)
}

func (m *routedModel) deleteFloating(t *rapid.T) {
	id := any1(t, m.floating)
	want := "FloatingIPNotFound"
	if _, found := m.floating[id]; found {
		want = ""
	}
	expect(t, "delete floating IP", m.r.deleting(lbaas.FloatingIPs, id)(), want)
	delete(m.floating, id)
}

// agrees compares what can be read with the model.
func (m *routedModel) agrees(t *rapid.T) {
	if err := m.r.store.View(context.Background(), lbaas.CheckStore); err != nil {
		t.Fatal(err)
	}
	for id, want := range m.floating {
		o := m.r.show(lbaas.FloatingIPs, id)
		port, _ := o["port_id"].(string)
		router, _ := o["router_id"].(string)
		if port != want.port || router != want.router {
			t.Fatalf("floating IP %v, want %v", o, want)
		}
	}
	for id, has := range m.routers {
		config, err := m.r.svc.RouterConfig(context.Background(), id)
		if err != nil || has != (config.Gateway != nil) {
			t.Fatalf("router %v (%v), want a gateway: %v", config, err, has)
		}
		for _, leg := range config.Interfaces {
			if m.gateways[leg.Subnet.ID] != id {
				t.Fatalf("router %s has a leg on %s", id, leg.Subnet.ID)
			}
		}
	}
}

func keys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestRoutedModel: random operations on routers and floating IPs, valid and not,
// answer and leave behind what the model says.
func TestRoutedModel(t *testing.T) {
	rapid.Check(t, func(c *rapid.T) {
		r := newRouted(t, "10.10.10.0/24")
		defer r.close()
		second, subnet := r.subnetOf("10.1.0.0/24")
		m := &routedModel{
			r: r, subnets: map[string]string{r.network: r.subnet, second: subnet},
			gateways: map[string]string{r.subnet: "", subnet: ""},
			routers:  map[string]bool{}, ports: map[string]string{}, floating: map[string]binding{},
		}
		m.createRouter(c)
		m.createPort(c)
		c.Repeat(map[string]func(*rapid.T){
			"createRouter": m.createRouter, "deleteRouter": m.deleteRouter, "setGateway": m.setGateway,
			"plug": m.plug, "unplug": m.unplug, "createPort": m.createPort, "deletePort": m.deletePort,
			"createFloating": m.createFloating, "bind": m.bind, "unbind": m.unbind, "deleteFloating": m.deleteFloating,
			"": m.agrees,
		})
	})
}

// TestOneRoutedWins: of many at once that want the same port, address or gateway
// exactly one gets it.
func TestOneRoutedWins(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	quiet := lbaas.Caller{TenantID: lbaas.DefaultTenant, Admin: true}
	router := r.router()
	host, other := r.port(r.network), r.create(lbaas.Routers, object{})
	_, free := r.subnetOf("10.2.0.0/24")
	var floating []string
	for range 16 {
		floating = append(floating, r.floating(nil))
	}
	for name, c := range map[string]struct {
		do    func(i int) error
		loses string
	}{
		"bind": {func(i int) error {
			_, err := r.svc.Update(context.Background(), quiet, lbaas.FloatingIPs, floating[i], object{"port_id": host})
			return err
		}, "FloatingIPPortAlreadyAssociated"},
		"address": {func(int) error {
			_, err := r.try(lbaas.FloatingIPs, object{"floating_network_id": r.external, "floating_ip_address": "10.10.10.200"})
			return err
		}, "IpAddressInUse"},
		"plug": {func(i int) error {
			_, err := r.svc.AddRouterInterface(context.Background(), quiet, []string{router, other}[i%2], object{"subnet_id": free})
			return err
		}, ""},
	} {
		answers := make(chan string, 16)
		for i := range cap(answers) {
			go func() { answers <- typeOf(c.do(i)) }()
		}
		wins := 0
		for range cap(answers) {
			switch got := <-answers; {
			case got == "":
				wins++
			case got != c.loses && (name != "plug" || got != "BadRequest" && got != "IpAddressInUse"):
				t.Errorf("%s: %s", name, got)
			}
		}
		if wins != 1 {
			t.Errorf("%s: %d were told that they got it", name, wins)
		}
	}
}
