package lbaas_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"qlbaas/lbaas"
)

func (r *routed) floating(more object) string {
	r.t.Helper()
	body := object{"floating_network_id": r.external}
	for k, v := range more {
		body[k] = v
	}
	return r.create(lbaas.FloatingIPs, body)
}

// stands returns what a floating IP stands for and by whom.
func (r *routed) stands(id string) string {
	r.t.Helper()
	o := r.show(lbaas.FloatingIPs, id)
	return fmt.Sprintf("%v %v %v %v %v", o["floating_ip_address"], o["port_id"], o["fixed_ip_address"], o["router_id"], o["status"])
}

func TestFloatingIP(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	router := r.router()
	vip := r.show(lbaas.VIPs, r.create(lbaas.VIPs, r.vipBody(r.pool())))
	r.heard()
	id := r.floating(nil)
	if got := r.stands(id); got != "10.10.10.3 <nil> <nil> <nil> DOWN" || r.heard() != nil {
		t.Errorf("new: %s", got)
	}
	if shown := r.show(lbaas.FloatingIPs, id); len(shown) != 12 || shown["floating_network_id"] != r.external {
		t.Errorf("floating IP: %v", shown)
	}
	r.update(lbaas.FloatingIPs, id, object{"port_id": vip["port_id"]})
	bound := fmt.Sprintf("10.10.10.3 %v %v %s", vip["port_id"], vip["address"], router)
	if got, told := r.stands(id), r.heard(); got != bound+" DOWN" || !slices.Equal(told, []string{router}) {
		t.Errorf("bound: %s, the node heard %v", got, told)
	}
	report := r.report(router, lbaas.StatusActive)
	if got := r.stands(id); got != bound+" ACTIVE" {
		t.Errorf("when the node has it: %s", got)
	}
	r.showsPortOf(id)
	// Neither a description nor the same place again disturbs it.
	r.update(lbaas.FloatingIPs, id, object{"description": "d"})
	r.update(lbaas.FloatingIPs, id, object{"port_id": vip["port_id"], "fixed_ip_address": vip["address"]})
	if got := r.stands(id); got != bound+" ACTIVE" || r.heard() != nil {
		t.Errorf("unchanged: %s", got)
	}
	r.update(lbaas.FloatingIPs, id, object{"port_id": nil})
	if got, told := r.stands(id), r.heard(); got != "10.10.10.3 <nil> <nil> <nil> DOWN" || !slices.Equal(told, []string{router}) {
		t.Errorf("disassociated: %s, the node heard %v", got, told)
	}
	if err := r.svc.SetStatuses(t.Context(), report...); err != nil || r.show(lbaas.FloatingIPs, id)["status"] != "DOWN" {
		t.Errorf("an outdated report counted: %v", err)
	}
	// The VIP takes the association along, and its address lives on.
	r.update(lbaas.FloatingIPs, id, object{"port_id": vip["port_id"]})
	r.heard()
	r.delete(lbaas.VIPs, vip["id"].(string))
	if got, told := r.stands(id), r.heard(); got != "10.10.10.3 <nil> <nil> <nil> DOWN" || !slices.Equal(told, []string{router}) {
		t.Errorf("after the VIP: %s, the node heard %v", got, told)
	}
	r.delete(lbaas.FloatingIPs, id)
	if again := r.floating(object{"floating_ip_address": "10.10.10.3"}); r.stands(again) != "10.10.10.3 <nil> <nil> <nil> DOWN" {
		t.Error("the address did not come back")
	}
}

// report says of a router and its floating IPs what the node does.
func (r *routed) report(router string, status lbaas.Status) []lbaas.Report {
	r.t.Helper()
	config, err := r.svc.RouterConfig(context.Background(), router)
	if err != nil {
		r.t.Fatal(err)
	}
	reports := []lbaas.Report{{Kind: lbaas.KindRouter, ID: router, Generation: config.Router.Generation, Status: status}}
	for _, f := range config.FloatingIPs {
		reports = append(reports, lbaas.Report{Kind: lbaas.KindFloatingIP, ID: f.ID, Generation: f.Generation, Status: status})
	}
	if err := r.svc.SetStatuses(context.Background(), reports...); err != nil {
		r.t.Fatal(err)
	}
	return reports
}

// showsPortOf: the floating IP's port and the router's follow the node's report.
func (r *routed) showsPortOf(id string) {
	r.t.Helper()
	page, err := r.svc.List(context.Background(), admin, lbaas.Ports, lbaas.Query{Filters: map[string][]string{
		"device_owner": {"network:floatingip", "network:router_gateway", "network:router_interface"},
	}})
	if err != nil || len(page.Objects) != 3 {
		r.t.Fatalf("%v %v", page.Objects, err)
	}
	for _, o := range page.Objects {
		isOwn, isOuter := o["device_id"] == id, o["network_id"] == r.external
		owner := o["device_owner"]
		if o["status"] != "ACTIVE" || isOwn != (owner == "network:floatingip") || isOuter != (owner != "network:router_interface") {
			r.t.Errorf("port: %v", o)
		}
	}
}

func TestFloatingRefusals(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	router := r.router()
	host, none := r.port(r.network), r.port(r.network, []any{}...)
	r.update(lbaas.Ports, none, object{"fixed_ips": []any{}})
	two := r.port(r.network, object{"ip_address": "10.0.0.50"}, object{"ip_address": "10.0.0.51"})
	stray, _ := r.subnetOf("10.4.0.0/24")
	body := r.vipBody(r.pool())
	body["snat_addresses"] = []any{"10.0.0.60"}
	vip := r.show(lbaas.VIPs, r.create(lbaas.VIPs, body))
	empty := r.create(lbaas.Networks, object{"router:external": true})
	taken := r.floating(object{"port_id": host})
	free := r.floating(nil)
	for typ, bodies := range map[string][]object{
		"PortNotFound":                         {{"port_id": nobody}},
		"FloatingIPPortAlreadyAssociated":      {{"port_id": host}},
		"ExternalGatewayForFloatingIPNotFound": {{"port_id": r.port(stray)}},
		"BadRequest": {
			{"port_id": none},
			{"port_id": two},
			{"port_id": two, "fixed_ip_address": "10.0.0.52"},
			{"fixed_ip_address": "10.0.0.50"},
			{"port_id": nil, "fixed_ip_address": "10.0.0.50"},
			{"port_id": vip["port_id"], "fixed_ip_address": "10.0.0.60"},
			{"port_id": r.interfaceOf(router)},
			{"port_id": r.gatewayPort(router)["id"]},
		},
		"HTTPBadRequest": {{"port_id": "x"}, {"fixed_ip_address": "x"}, {"status": "ACTIVE"}, {"router_id": router}},
	} {
		for _, body := range bodies {
			r.refuses(typ, r.updating(lbaas.FloatingIPs, free, body))
			body["floating_network_id"] = r.external
			r.refuses(typ, r.creating(lbaas.FloatingIPs, body))
		}
	}
	for typ, body := range map[string]object{
		"NetworkNotFound":     {"floating_network_id": nobody},
		"BadRequest":          {"floating_network_id": r.network},
		"InvalidIpForNetwork": {"floating_network_id": r.external, "floating_ip_address": "10.99.0.1"},
		"IpAddressInUse":      {"floating_network_id": r.external, "floating_ip_address": "10.10.10.2"},
		"InvalidInput":        {"floating_network_id": r.external, "subnet_id": r.subnet},
		"HTTPBadRequest":      {"port_id": host},
	} {
		r.refuses(typ, r.creating(lbaas.FloatingIPs, body))
	}
	r.refuses("BadRequest", r.creating(lbaas.FloatingIPs, object{"floating_network_id": empty}))
	r.refuses("FloatingIPNotFound", r.updating(lbaas.FloatingIPs, nobody, object{"port_id": nil}))
	r.refuses("FloatingIPNotFound", r.deleting(lbaas.FloatingIPs, nobody))
	r.refuses("RouterInterfaceInUseByFloatingIP", r.unplugging(router, object{"subnet_id": r.subnet}))
	r.refuses("RouterExternalGatewayInUseByFloatingIp", r.updating(lbaas.Routers, router, object{"external_gateway_info": nil}))
	r.refuses("RouterInUse", r.deleting(lbaas.Routers, router))
	r.refuses("L3PortInUse", r.deleting(lbaas.Ports, r.addressPort(taken)))
	r.losing(router, two, taken, free)
}

// losing: a port that loses an address loses the floating IP that stands for it, and no
// other one.
func (r *routed) losing(router, two, taken, free string) {
	t := r.t
	r.update(lbaas.FloatingIPs, taken, object{"port_id": two, "fixed_ip_address": "10.0.0.51"})
	r.update(lbaas.FloatingIPs, free, object{"port_id": two, "fixed_ip_address": "10.0.0.50"})
	r.heard()
	r.update(lbaas.Ports, two, object{"fixed_ips": []any{object{"ip_address": "10.0.0.51"}}})
	if r.show(lbaas.FloatingIPs, free)["port_id"] != nil || r.show(lbaas.FloatingIPs, taken)["port_id"] != two ||
		!slices.Equal(r.heard(), []string{router}) {
		t.Errorf("%s, %s", r.stands(free), r.stands(taken))
	}
	r.update(lbaas.FloatingIPs, taken, object{"fixed_ip_address": "10.0.0.51"}) // the port stays
	r.delete(lbaas.Ports, two)
	if r.show(lbaas.FloatingIPs, taken)["port_id"] != nil {
		t.Errorf("without its port: %s", r.stands(taken))
	}
}

// addressPort returns the port that has a floating IP's own address.
func (r *routed) addressPort(id string) string {
	r.t.Helper()
	page, err := r.svc.List(context.Background(), admin, lbaas.Ports, lbaas.Query{Filters: map[string][]string{"device_id": {id}}})
	if err != nil || len(page.Objects) != 1 {
		r.t.Fatalf("ports of %s: %v %v", id, page.Objects, err)
	}
	return page.Objects[0]["id"].(string)
}

// TestFloatingRouter: which of several routers translates, and what is heard when a
// floating IP moves from one to another.
func TestFloatingRouter(t *testing.T) {
	r := newRouted(t, "10.10.10.0/24")
	plain := r.create(lbaas.Routers, object{"external_gateway_info": r.gateway()})
	r.plug(plain, object{"port_id": r.port(r.network)})
	host := r.port(r.network)
	id := r.floating(object{"port_id": host})
	if got := r.show(lbaas.FloatingIPs, id)["router_id"]; got != plain {
		t.Errorf("by %v, want the only router", got)
	}
	first := r.router() // it has the gateway's address
	r.update(lbaas.FloatingIPs, id, object{"port_id": nil})
	r.update(lbaas.FloatingIPs, id, object{"port_id": host})
	if got := r.show(lbaas.FloatingIPs, id)["router_id"]; got != first {
		t.Errorf("by %v, want the router that is the subnet's gateway", got)
	}
	network, subnet := r.subnetOf("10.7.0.0/24")
	second := r.create(lbaas.Routers, object{"external_gateway_info": r.gateway()})
	r.plug(second, object{"subnet_id": subnet})
	r.heard()
	r.update(lbaas.FloatingIPs, id, object{"port_id": r.port(network)})
	if told := r.heard(); !slices.Equal(told, []string{first, second}) {
		t.Errorf("the node heard %v, want the router that lets go first", told)
	}
	other := r.create(lbaas.Networks, object{"router:external": true})
	r.create(lbaas.Subnets, object{"network_id": other, "cidr": "10.40.0.0/24"})
	foreign := r.create(lbaas.FloatingIPs, object{"floating_network_id": other})
	r.refuses("ExternalGatewayForFloatingIPNotFound", r.updating(lbaas.FloatingIPs, foreign, object{"port_id": host}))
}
