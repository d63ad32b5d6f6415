package api_test

import (
	"testing"
)

// external is an external network with a subnet, as an administrator makes it.
func (s *server) external(cidr string) fixture {
	s.t.Helper()
	network := s.must(201, "POST", "/v2.0/networks", object{"network": object{
		"name": "ext", "router:external": true, "provider:physical_network": "br-ex",
	}})
	subnet := s.must(201, "POST", "/v2.0/subnets", object{"subnet": object{"network_id": network["id"], "cidr": cidr}})
	return fixture{network["id"].(string), subnet["id"].(string)}
}

func (s *server) router(out, in fixture) string {
	s.t.Helper()
	id := s.must(201, "POST", "/v2.0/routers", object{"router": object{
		"name": "r", "external_gateway_info": object{"network_id": out.network},
	}})["id"].(string)
	s.must(200, "PUT", "/v2.0/routers/"+id+"/add_router_interface", object{"subnet_id": in.subnet})
	return id
}

func (s *server) floating(out fixture, more object) object {
	s.t.Helper()
	return s.must(201, "POST", "/v2.0/floatingips", object{"floatingip": with(object{"floating_network_id": out.network}, more)})
}

// TestRoutedShapes checks that answers have all attributes, and nothing else.
func TestRoutedShapes(t *testing.T) {
	s := start(t, config{})
	out, in := s.external("10.10.10.0/24"), s.network("172.16.100.0/24")
	router := s.router(out, in)
	port := s.must(201, "POST", "/v2.0/ports", object{"port": object{"network_id": in.network}})["id"].(string)
	floating := s.floating(out, object{"port_id": port, "description": "d"})["id"].(string)
	for path, want := range map[string]object{
		"/v2.0/routers/" + router: {
			"id": router, "tenant_id": "default", "name": "r", "description": "", "admin_state_up": true,
			"external_gateway_info": object{
				"network_id": out.network, "enable_snat": true,
				"external_fixed_ips": []any{object{"subnet_id": out.subnet, "ip_address": "10.10.10.2"}},
			},
			"routes": []any{}, "status": "BUILD", "status_description": nil, "availability_zone_hints": []any{},
		},
		"/v2.0/floatingips/" + floating: {
			"id": floating, "tenant_id": "default", "description": "d", "floating_network_id": out.network,
			"floating_ip_address": "10.10.10.3", "port_id": port, "fixed_ip_address": "172.16.100.2", "router_id": router,
			"status": "DOWN", "status_description": nil, "dns_name": "", "dns_domain": "",
		},
	} {
		if got := s.must(200, "GET", path, nil); !equal(got, want) {
			t.Errorf("GET %s:\n got %v\nwant %v", path, got, want)
		}
	}
	inside := s.must(200, "PUT", "/v2.0/routers/"+router+"/add_router_interface",
		object{"subnet_id": s.network("172.16.200.0/24").subnet})
	gone := s.must(200, "PUT", "/v2.0/routers/"+router+"/remove_router_interface", object{"port_id": inside["port_id"]})
	if !equal(inside, gone) || inside["id"] != router || len(inside) != 6 {
		t.Errorf("interface: %v, when removed %v", inside, gone)
	}
	for query, want := range map[string]int{
		"routers?name=r":                               1,
		"routers?admin_state_up=False":                 0,
		"floatingips?port_id=" + port:                  1,
		"floatingips?floating_ip_address=10.10.10.3":   1,
		"floatingips?router_id=" + nowhere:             0,
		"floatingips?status=DOWN&fields=id":            1,
		"ports?device_owner=network:router_interface":  1,
		"ports?device_id=" + router:                    2,
		"networks?router:external=True":                1,
		"floatingips?sort_key=port_id&sort_dir=asc":    1,
		"routers?limit=1&sort_key=name&sort_dir=desc":  1,
		"ports?device_owner=network:floatingip&name=x": 0,
	} {
		if got := s.list("/v2.0/" + query); len(got) != want {
			t.Errorf("%s: %d, want %d", query, len(got), want)
		}
	}
	for _, alias := range []string{"router", "ext-gw-mode", "extraroute", "external-net"} {
		s.must(200, "GET", "/v2.0/extensions/"+alias, nil)
	}
}

func TestRoutedRefusals(t *testing.T) {
	s := start(t, config{})
	out, in := s.external("10.10.10.0/24"), s.network("172.16.100.0/24")
	router := s.router(out, in)
	s.refuseAll(t, "POST", "/v2.0/routers", "router", object{"name": "x"}, []refusal{
		{name: "routes in post", change: object{"routes": []any{}}, says: "not allowed in POST"},
		{name: "status", change: object{"status": "ACTIVE"}, says: "'status'"},
		{name: "distributed", change: object{"distributed": true}, says: `"distributed"`},
		{name: "gateway", change: object{"external_gateway_info": "x"}, says: "external_gateway_info"},
		{name: "gateway key", change: object{"external_gateway_info": object{"x": 1}}, says: `"x"`},
	})
	s.refuseAll(t, "PUT", "/v2.0/routers/"+router, "router", object{}, []refusal{
		{name: "tenant", change: object{"tenant_id": "b"}, says: "read-only"},
		{name: "no routes", change: object{"routes": object{}}, says: "routes"},
	})
	s.refuseAll(t, "POST", "/v2.0/floatingips", "floatingip", object{"floating_network_id": out.network}, []refusal{
		{name: "network missing", drop: "floating_network_id", says: "floating_network_id"},
		{name: "router", change: object{"router_id": router}, says: "router_id"},
		{name: "address", change: object{"floating_ip_address": "10.10.10.300"}, says: "floating_ip_address"},
	})
	for body, typ := range map[string]string{
		``: "BadRequest", `[]`: "MalformedRequestBody", `{"router":{"subnet_id":"` + in.subnet + `"}}`: "HTTPBadRequest",
		`{"subnet_id":null}`: "HTTPBadRequest", `{}`: "BadRequest",
	} {
		s.refused(400, typ, "PUT", "/v2.0/routers/"+router+"/add_router_interface", body)
	}
	s.refused(404, "RouterNotFound", "PUT", "/v2.0/routers/x/add_router_interface", object{"subnet_id": in.subnet})
	s.refused(409, "RouterInUse", "DELETE", "/v2.0/routers/"+router, nil, router)
	for i := range 9 {
		s.must(201, "POST", "/v2.0/routers", object{"router": object{"name": string(rune('a' + i))}})
	}
	s.refused(409, "OverQuota", "POST", "/v2.0/routers", object{"router": object{}}, "router", "10")
	s.must(200, "PUT", "/v2.0/quotas/default", object{"quota": object{"floatingip": 1, "router": "11"}})
	s.must(201, "POST", "/v2.0/routers", object{"router": object{}})
	s.floating(out, nil)
	s.refused(409, "OverQuota", "POST", "/v2.0/floatingips",
		object{"floatingip": object{"floating_network_id": out.network}}, "floatingip")
}

// TestRoutedTenancy: routers and floating IPs of others are not there, cannot be
// joined to one's own, and what stands on an external network is nobody's business.
func TestRoutedTenancy(t *testing.T) {
	admin, a, b := projects(t)
	out := admin.external("10.10.10.0/24")
	var rooms []fixture
	var routers, ports, addresses []string
	for _, s := range []*server{a, b} {
		in := s.network2("172.16.100.0/24") // the same subnet for both
		rooms, routers = append(rooms, in), append(routers, s.router(out, in))
		port := s.must(201, "POST", "/v2.0/ports", object{"port": object{"network_id": in.network}})["id"].(string)
		ports = append(ports, port)
		floating := s.floating(out, object{"port_id": port})
		if floating["router_id"] != routers[len(routers)-1] || floating["fixed_ip_address"] != "172.16.100.2" {
			t.Errorf("floating IP: %v", floating)
		}
		addresses = append(addresses, floating["id"].(string))
	}
	for path, typ := range map[string]string{"/v2.0/routers/" + routers[0]: "RouterNotFound", "/v2.0/floatingips/" + addresses[0]: "FloatingIPNotFound"} {
		put := object{"router": object{"name": "x"}}
		if typ == "FloatingIPNotFound" {
			put = object{"floatingip": object{"port_id": nil}}
		}
		b.refused(404, typ, "GET", path, nil)
		b.refused(404, typ, "PUT", path, put)
		b.refused(404, typ, "DELETE", path, nil)
		a.must(200, "GET", path, nil)
		admin.must(200, "GET", path, nil)
		a.as("").refused(401, "HTTPUnauthorized", "GET", path, nil)
	}
	plug := "/v2.0/routers/" + routers[1] + "/add_router_interface"
	b.refused(404, "RouterNotFound", "PUT", "/v2.0/routers/"+routers[0]+"/add_router_interface", object{"subnet_id": rooms[1].subnet})
	b.refused(404, "RouterNotFound", "PUT", "/v2.0/routers/"+routers[0]+"/remove_router_interface", object{"subnet_id": rooms[0].subnet})
	b.refused(404, "SubnetNotFound", "PUT", plug, object{"subnet_id": rooms[0].subnet})
	b.refused(404, "PortNotFound", "PUT", plug, object{"port_id": ports[0]})
	b.refused(404, "SubnetNotFound", "PUT", plug, object{"subnet_id": out.subnet})
	b.refused(404, "PortNotFound", "PUT", "/v2.0/floatingips/"+addresses[1], object{"floatingip": object{"port_id": ports[0]}})
	b.refused(400, "BadRequest", "POST", "/v2.0/floatingips", object{"floatingip": object{"floating_network_id": rooms[1].network}})
	b.refused(404, "NetworkNotFound", "POST", "/v2.0/floatingips", object{"floatingip": object{"floating_network_id": rooms[0].network}})
	b.refused(403, "PolicyNotAuthorized", "POST", "/v2.0/floatingips", object{"floatingip": object{
		"floating_network_id": out.network, "floating_ip_address": "10.10.10.99",
	}}, "floating_ip_address")
	b.refused(403, "PolicyNotAuthorized", "PUT", "/v2.0/routers/"+routers[1], object{"router": object{
		"external_gateway_info": object{"network_id": out.network, "enable_snat": false},
	}}, "enable_snat")
	for coll, want := range map[string]int{"routers": 1, "floatingips": 1, "ports": 2, "subnets": 1} {
		if list := b.list("/v2.0/" + coll); len(list) != want {
			t.Errorf("%s as b: %v, want %d", coll, list, want)
		}
	}
	if list := admin.list("/v2.0/ports?tenant_id=a"); len(list) != 2 {
		t.Errorf("ports of a: %v", list)
	}
	admin.must(200, "PUT", "/v2.0/networks/"+out.network, object{"network": object{"shared": true}})
	admin.must(200, "PUT", "/v2.0/networks/"+out.network, object{"network": object{"shared": false}})
}

// TestSharedRouter: the network's owner routes for whoever may use the network; a third
// project's router does not.
func TestSharedRouter(t *testing.T) {
	admin, a, b := projects(t)
	out, in := admin.external("10.10.10.0/24"), admin.network("10.0.0.0/24")
	admin.must(200, "PUT", "/v2.0/networks/"+in.network, object{"network": object{"shared": true}})
	port := func(s *server) string {
		return s.must(201, "POST", "/v2.0/ports", object{"port": object{"network_id": in.network}})["id"].(string)
	}
	foreign := a.must(201, "POST", "/v2.0/routers", object{"router": object{"external_gateway_info": object{"network_id": out.network}}})
	a.must(200, "PUT", "/v2.0/routers/"+foreign["id"].(string)+"/add_router_interface", object{"port_id": port(a)})
	host := port(b)
	b.refused(404, "ExternalGatewayForFloatingIPNotFound", "POST", "/v2.0/floatingips", object{"floatingip": object{
		"floating_network_id": out.network, "port_id": host,
	}})
	if got := a.floating(out, object{"port_id": port(a)})["router_id"]; got != foreign["id"] {
		t.Errorf("a's own router: %v", got)
	}
	router := admin.router(out, in)
	for _, s := range []*server{b, admin} {
		if got := s.floating(out, object{"port_id": port(s)})["router_id"]; got != router {
			t.Errorf("by %v, want the owner's router", got)
		}
	}
}
