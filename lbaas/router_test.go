package lbaas_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"qlbaas/lbaas"
)

// routed is a fixture with an external network beside the inner one.
type routed struct {
	*fixture
	external, outer string
	// told are the routers that the node heard of.
	mu   sync.Mutex
	told []string
}

func (r *routed) PoolsChanged(...string) {}

func (r *routed) RoutersChanged(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, ids...)
}

func (r *routed) heard() []string {
	told := r.told
	r.told = nil
	return told
}

func newRouted(t testing.TB, outer string) *routed {
	t.Helper()
	r := &routed{}
	r.fixture = newFixture(t, "10.0.0.0/24", lbaas.Options{Notifier: r})
	r.external = r.create(lbaas.Networks, object{"router:external": true, "provider:physical_network": "br-ex"})
	r.outer = r.create(lbaas.Subnets, object{"network_id": r.external, "cidr": outer})
	return r
}

// subnetOf makes a further network with one subnet.
func (r *routed) subnetOf(cidr string) (network, subnet string) {
	r.t.Helper()
	network = r.create(lbaas.Networks, object{"provider:physical_network": "br1"})
	return network, r.create(lbaas.Subnets, object{"network_id": network, "cidr": cidr})
}

func (r *routed) gateway() object { return object{"network_id": r.external} }

// router makes one with a gateway and an interface on the inner subnet.
func (r *routed) router() string {
	r.t.Helper()
	id := r.create(lbaas.Routers, object{"name": "r", "external_gateway_info": r.gateway()})
	r.plug(id, object{"subnet_id": r.subnet})
	return id
}

func (r *routed) plug(router string, body object) lbaas.Object {
	r.t.Helper()
	o, err := r.svc.AddRouterInterface(context.Background(), admin, router, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return o
}

func (r *routed) port(network string, ips ...any) string {
	r.t.Helper()
	body := object{"network_id": network}
	if ips != nil {
		body["fixed_ips"] = ips
	}
	return r.create(lbaas.Ports, body)
}

// refuses carries out do, which has to be refused with the type and to change nothing.
func (r *routed) refuses(typ string, do func() error) {
	r.t.Helper()
	r.heard()
	before := r.everything()
	if got := typeOf(do()); got != typ {
		r.t.Errorf("refused with %q, want %s", got, typ)
	}
	if after := r.everything(); before != after || r.heard() != nil {
		r.t.Errorf("a refusal (%s) changed\n%s\nto\n%s", typ, before, after)
	}
}

func (r *routed) everything() string {
	all := ""
	for _, coll := range []lbaas.Collection{lbaas.Networks, lbaas.Subnets, lbaas.Ports, lbaas.Routers, lbaas.FloatingIPs} {
		page, err := r.svc.List(context.Background(), admin, coll, lbaas.Query{})
		if err != nil {
			r.t.Fatal(err)
		}
		all += fmt.Sprintln(page.Objects)
	}
	return all
}

func (r *routed) creating(coll lbaas.Collection, body object) func() error {
	return func() error { _, err := r.try(coll, body); return err }
}

func (r *routed) updating(coll lbaas.Collection, id string, body object) func() error {
	return func() error { _, err := r.svc.Update(context.Background(), admin, coll, id, body); return err }
}

func (r *routed) deleting(coll lbaas.Collection, id string) func() error {
	return func() error { return r.svc.Delete(context.Background(), admin, coll, id) }
}

func (r *routed) plugging(id string, body object) func() error {
	return func() error { _, err := r.svc.AddRouterInterface(context.Background(), admin, id, body); return err }
}

func (r *routed) unplugging(id string, body object) func() error {
	return func() error { _, err := r.svc.RemoveRouterInterface(context.Background(), admin, id, body); return err }
}

const nobody = "11111111-2222-3333-4444-555555555555"

func TestRouterLegs(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	id := r.create(lbaas.Routers, object{"name": "r", "external_gateway_info": r.gateway()})
	shown := r.show(lbaas.Routers, id)
	want := lbaas.Object{"network_id": r.external, "enable_snat": true, "external_fixed_ips": []lbaas.Object{
		{"subnet_id": r.outer, "ip_address": "10.10.10.2"},
	}}
	if fmt.Sprint(shown["external_gateway_info"]) != fmt.Sprint(want) || shown["status"] != "BUILD" {
		t.Errorf("router: %v", shown)
	}
	added := r.plug(id, object{"subnet_id": r.subnet})
	port := r.show(lbaas.Ports, added["port_id"].(string))
	if port["device_owner"] != "network:router_interface" || port["device_id"] != id || port["tenant_id"] != "default" ||
		fmt.Sprint(port["fixed_ips"]) != fmt.Sprint([]lbaas.Object{{"subnet_id": r.subnet, "ip_address": "10.0.0.1"}}) {
		t.Errorf("interface: %v", port)
	}
	if added["id"] != id || added["subnet_id"] != r.subnet || added["tenant_id"] != "default" || added["network_id"] != r.network {
		t.Errorf("answer: %v", added)
	}
	_, second := r.subnetOf("10.1.0.0/24")
	mine := r.port(r.show(lbaas.Subnets, second)["network_id"].(string), object{"ip_address": "10.1.0.77"})
	if got := r.plug(id, object{"port_id": mine}); got["port_id"] != mine || got["subnet_id"] != second {
		t.Errorf("interface of a port: %v", got)
	}
	config, err := r.svc.RouterConfig(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	gateway := r.show(lbaas.Ports, config.Gateway.Port.ID)
	if gateway["device_owner"] != "network:router_gateway" || gateway["device_id"] != id || gateway["tenant_id"] != "" {
		t.Errorf("gateway: %v", gateway)
	}
	if len(config.Interfaces) != 2 || config.Interfaces[0].Subnet.ID != r.subnet || config.Interfaces[1].Port.ID != mine ||
		config.Interfaces[1].Network.PhysicalNetwork != "br1" || config.Gateway.Network.ID != r.external {
		t.Errorf("config: %+v", config)
	}
	if told := r.heard(); !slices.Equal(told, []string{id, id, id}) {
		t.Errorf("the node heard of %v", told)
	}
	r.refuses("RouterInUse", r.deleting(lbaas.Routers, id))
	for _, body := range []object{{"subnet_id": r.subnet}, {"port_id": mine, "subnet_id": second}} {
		if err := r.unplugging(id, body)(); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.svc.Show(t.Context(), admin, lbaas.Ports, mine, nil); typeOf(err) != "PortNotFound" {
		t.Errorf("a port that was an interface: %v", err)
	}
	r.delete(lbaas.Routers, id)
	if _, err := r.svc.RouterConfig(t.Context(), id); !lbaas.IsNotFound(err) {
		t.Errorf("config of a router that is gone: %v", err)
	}
	page, err := r.svc.List(t.Context(), admin, lbaas.Ports, lbaas.Query{})
	if err != nil || len(page.Objects) > 0 {
		t.Errorf("ports are left: %v %v", page.Objects, err)
	}
	r.delete(lbaas.Networks, r.external)
}

func TestInterfaceRefusals(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	id := r.router()
	inner, _ := r.subnetOf("10.0.0.128/25") // overlaps with the fixture's
	overlap := r.show(lbaas.Networks, inner)["subnets"].([]string)[0]
	_, bare := r.subnetOf("10.3.0.0/24")
	r.update(lbaas.Subnets, bare, object{"gateway_ip": nil})
	_, six := r.subnetOf("2001:db8::/64")
	vip := r.create(lbaas.VIPs, r.vipBody(r.pool()))
	used := r.port(r.network)
	r.update(lbaas.Ports, used, object{"device_id": "vm"})
	two := r.port(inner, object{"subnet_id": overlap}, object{"subnet_id": overlap})
	second, other := r.port(r.network), r.create(lbaas.Routers, object{})
	for typ, bodies := range map[string][]object{
		"BadRequest": {
			{},
			{"subnet_id": bare, "port_id": second},
			{"subnet_id": bare},
			{"subnet_id": r.subnet},
			{"subnet_id": overlap},
			{"subnet_id": six},
			{"port_id": second},
			{"port_id": two},
			{"subnet_id": r.outer},
		},
		"HTTPBadRequest": {{"subnet_id": "x"}, {"subnet": r.subnet}},
		"SubnetNotFound": {{"subnet_id": nobody}},
		"PortNotFound":   {{"port_id": nobody}},
		"PortInUse": {
			{"port_id": used},
			{"port_id": r.show(lbaas.VIPs, vip)["port_id"]},
			{"port_id": r.interfaceOf(id)},
		},
	} {
		for _, body := range bodies {
			r.refuses(typ, r.plugging(id, body))
		}
	}
	r.refuses("RouterNotFound", r.plugging(nobody, object{"subnet_id": bare}))
	// The address is the first router's; another one needs a port of its own.
	r.refuses("IpAddressInUse", r.plugging(other, object{"subnet_id": r.subnet}))
	r.plug(other, object{"port_id": second})
	for typ, bodies := range map[string][]object{
		"RouterInterfaceNotFoundForSubnet": {{"subnet_id": bare}, {"subnet_id": r.outer}},
		"RouterInterfaceNotFound":          {{"port_id": second}, {"port_id": nobody}, {"port_id": used}},
		"SubnetMismatchForPort":            {{"port_id": r.interfaceOf(id), "subnet_id": bare}},
		"SubnetNotFound":                   {{"subnet_id": nobody}},
		"BadRequest":                       {{}},
	} {
		for _, body := range bodies {
			r.refuses(typ, r.unplugging(id, body))
		}
	}
	r.refuses("RouterNotFound", r.unplugging(nobody, object{"subnet_id": r.subnet}))
	r.holds(id)
}

// holds: what a router stands on cannot be taken away.
func (r *routed) holds(id string) {
	t := r.t
	r.refuses("L3PortInUse", r.deleting(lbaas.Ports, r.interfaceOf(id)))
	r.refuses("L3PortInUse", r.updating(lbaas.Ports, r.interfaceOf(id), object{"fixed_ips": []any{}}))
	r.refuses("SubnetInUse", r.deleting(lbaas.Subnets, r.outer))
	r.refuses("NetworkInUse", r.deleting(lbaas.Networks, r.external))
	r.refuses("ExternalNetworkInUse", r.updating(lbaas.Networks, r.external, object{"router:external": false}))
	r.refuses("GatewayIpInUse", r.updating(lbaas.Subnets, r.subnet, object{"gateway_ip": nil}))
	r.update(lbaas.Subnets, r.outer, object{"gateway_ip": "10.10.10.1"})
	r.heard()
	r.update(lbaas.Subnets, r.outer, object{"gateway_ip": nil})
	if told := r.heard(); !slices.Equal(told, []string{id}) {
		t.Errorf("of another default route the node heard %v", told)
	}
}

// interfaceOf returns the port of the router's first interface.
func (r *routed) interfaceOf(id string) string {
	r.t.Helper()
	config, err := r.svc.RouterConfig(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return config.Interfaces[0].Port.ID
}

func TestGateway(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	id := r.create(lbaas.Routers, object{})
	at := func() string {
		info, _ := r.show(lbaas.Routers, id)["external_gateway_info"].(lbaas.Object)
		if info == nil {
			return ""
		}
		return fmt.Sprintf("%v %v", info["external_fixed_ips"].([]lbaas.Object)[0]["ip_address"], info["enable_snat"])
	}
	set := func(info any, want string) {
		t.Helper()
		r.update(lbaas.Routers, id, object{"external_gateway_info": info})
		if got := at(); got != want {
			t.Errorf("gateway at %q, want %q", got, want)
		}
	}
	with := func(more object) object {
		info := r.gateway()
		for k, v := range more {
			info[k] = v
		}
		return info
	}
	set(r.gateway(), "10.10.10.2 true")
	mac := r.gatewayPort(id)["mac_address"]
	set(with(object{"enable_snat": false}), "10.10.10.2 false")
	set(with(object{"external_fixed_ips": []any{object{"ip_address": "10.10.10.9"}}}), "10.10.10.9 true")
	set(with(object{"external_fixed_ips": []any{object{"subnet_id": r.outer}}}), "10.10.10.9 true")
	if r.gatewayPort(id)["mac_address"] != mac {
		t.Error("another address came with another port")
	}
	r.update(lbaas.Routers, id, object{"name": "n"})
	set(nil, "")
	set(object{}, "")
	set(r.gateway(), "10.10.10.3 true")
	r.gatewayRefusals(id, with, set)
}

func (r *routed) gatewayRefusals(id string, with func(object) object, set func(info any, want string)) {
	t := r.t
	second := r.create(lbaas.Networks, object{"router:external": true})
	subnet := r.create(lbaas.Subnets, object{"network_id": second, "cidr": "10.20.0.0/30"})
	six := r.create(lbaas.Networks, object{"router:external": true})
	r.create(lbaas.Subnets, object{"network_id": six, "cidr": "2001:db8::/64"})
	for typ, infos := range map[string][]any{
		"HTTPBadRequest": {"x", object{"network": r.external}, object{"network_id": "x"}},
		"InvalidInput": {
			object{"enable_snat": true},
			with(object{"enable_snat": "perhaps"}),
			with(object{"external_fixed_ips": []any{object{"subnet_id": subnet}}}),
			with(object{"external_fixed_ips": []any{object{"ip_address": "10.10.10.7"}, object{"ip_address": "10.10.10.8"}}}),
		},
		"BadRequest":          {object{"network_id": r.network}, object{"network_id": six}},
		"NetworkNotFound":     {object{"network_id": nobody}},
		"InvalidIpForNetwork": {with(object{"external_fixed_ips": []any{object{"ip_address": "10.99.0.1"}}})},
		"IpAddressInUse":      {with(object{"external_fixed_ips": []any{object{"ip_address": "10.10.10.1"}}})},
	} {
		for _, info := range infos {
			r.refuses(typ, r.updating(lbaas.Routers, id, object{"external_gateway_info": info}))
			r.refuses(typ, r.creating(lbaas.Routers, object{"external_gateway_info": info}))
		}
	}
	set(object{"network_id": second}, "10.20.0.2 true")
	r.refuses("IpAddressGenerationFailure", r.creating(lbaas.Routers, object{"external_gateway_info": object{"network_id": second}}))
	// A second subnet helps out when the first one is full.
	r.create(lbaas.Subnets, object{"network_id": second, "cidr": "10.30.0.0/24"})
	if r.create(lbaas.Routers, object{"external_gateway_info": object{"network_id": second}}) == "" {
		t.Error("no gateway on the second subnet")
	}
}

func (r *routed) gatewayPort(id string) lbaas.Object {
	r.t.Helper()
	config, err := r.svc.RouterConfig(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.show(lbaas.Ports, config.Gateway.Port.ID)
}

func TestRoutes(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	id := r.router()
	route := func(destination, nexthop string) object {
		return object{"destination": destination, "nexthop": nexthop}
	}
	put := func(routes ...any) object { return object{"routes": routes} }
	r.update(lbaas.Routers, id, put(route("192.168.0.0/16", "10.0.0.9"), route("192.0.2.0/24", "10.10.10.99")))
	config, err := r.svc.RouterConfig(t.Context(), id)
	if err != nil || len(config.Router.Routes) != 2 || config.Router.Routes[0].NextHop.String() != "10.0.0.9" {
		t.Errorf("routes: %+v %v", config.Router.Routes, err)
	}
	r.refuses("RouterInterfaceInUseByRoute", r.unplugging(id, object{"subnet_id": r.subnet}))
	r.refuses("InvalidRoutes", r.updating(lbaas.Routers, id, object{"external_gateway_info": nil}))
	var many []any
	for i := range 31 {
		many = append(many, route(fmt.Sprintf("10.9.%d.0/24", i), "10.0.0.9"))
	}
	for typ, bodies := range map[string][]object{
		"InvalidRoutes": {
			put(route("192.168.0.0/16", "10.0.0.1")), put(route("192.168.0.0/16", "10.5.0.1")),
			put(route("10.0.0.0/24", "10.0.0.9")), put(route("0.0.0.0/0", "10.0.0.9")), put(route("192.168.0.0/16", "10.0.0.255")),
		},
		"RoutesExhausted": {put(many...)},
		"HTTPBadRequest": {
			put(route("192.168.0.1/16", "10.0.0.9")), put(route("x", "10.0.0.9")), put(route("2001:db8::/32", "10.0.0.9")),
			put(route("192.168.0.0/16", "x")), put(object{"destination": "192.168.0.0/16"}), put("x"),
			{"routes": "x"},
			put(route("192.168.0.0/16", "10.0.0.9"), route("192.168.0.0/16", "10.0.0.8")),
		},
	} {
		for _, body := range bodies {
			r.refuses(typ, r.updating(lbaas.Routers, id, body))
		}
	}
	r.update(lbaas.Routers, id, object{"routes": nil})
	if err := r.unplugging(id, object{"subnet_id": r.subnet})(); err != nil {
		t.Error(err)
	}
}
