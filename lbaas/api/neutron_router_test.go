package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"qlbaas/lbaas"
)

// TestNeutronRouters plays the last chapter of the story with the original's client:
// from an external network to a floating IP that stands for a VIP, and back to nothing.
func TestNeutronRouters(t *testing.T) {
	s := start(t, config{})
	out := s.neutronJSON("net-create", "ext-net", "--router:external", "--provider:physical_network", "br-ex")
	if out["router:external"] != true {
		t.Errorf("network: %v", out)
	}
	s.neutronJSON("subnet-create", "ext-net", "10.10.10.0/24", "--name", "ext-sub", "--gateway", "10.10.10.4",
		"--allocation-pool", "start=10.10.10.6,end=10.10.10.99")
	in := s.network("172.16.100.0/24")
	vip := s.vip(in, s.pool(in, nil), object{"address": "172.16.100.11"})
	router := s.neutronJSON("router-create", "gate", "--description", "d")
	if router["status"] != "BUILD" || router["external_gateway_info"] != nil || router["description"] != "d" {
		t.Errorf("router: %v", router)
	}
	floating := s.neutronJSON("floatingip-create", "ext-net", "--floating-ip-address", "10.10.10.7")
	if floating["floating_ip_address"] != "10.10.10.7" || floating["status"] != "DOWN" || floating["port_id"] != "" && floating["port_id"] != nil {
		t.Errorf("floating IP: %v", floating)
	}
	id, port := floating["id"].(string), vip["port_id"].(string)
	s.neutronFails("is not reachable from subnet", "floatingip-associate", id, port)
	s.neutronOK("Set gateway", "router-gateway-set", "gate", "ext-net", "--disable-snat")
	s.neutronOK("Added interface", "router-interface-add", "gate", "sub")
	s.neutronOK("Associated floating IP "+id, "floatingip-associate", id, port)
	s.report(router["id"].(string))
	shown := s.neutronJSON("floatingip-show", id)
	if shown["status"] != "ACTIVE" || shown["fixed_ip_address"] != "172.16.100.11" || shown["router_id"] != router["id"] || shown["port_id"] != port {
		t.Errorf("floating IP: %v", shown)
	}
	s.neutronOK("172.16.100.11", "floatingip-list")
	s.neutronOK("10.10.10.6", "router-list")
	if list, err := s.neutron("router-port-list", "gate"); err != nil || !strings.Contains(list, "10.10.10.6") || !strings.Contains(list, "172.16.100.1\"") {
		t.Errorf("router-port-list: %v %s", err, list)
	}
	s.neutronOK("Updated router", "router-update", "gate", "--route", "destination=192.168.0.0/16,nexthop=172.16.100.99", "--admin-state-up", "False")
	if shown := s.neutronJSON("router-show", "gate"); shown["status"] != "ACTIVE" || shown["admin_state_up"] != false ||
		!strings.Contains(fmt.Sprint(shown), "destination:192.168.0.0/16") || !strings.Contains(fmt.Sprint(shown), "enable_snat:false") {
		t.Errorf("router: %v", shown)
	}
	s.neutronFails("needed by floating IP "+id, "router-gateway-clear", "gate")
	s.neutronOK("Disassociated floating IP "+id, "floatingip-disassociate", id)
	s.must(200, "PUT", "/v2.0/routers/"+router["id"].(string), object{"router": object{"routes": nil}})
	s.neutronOK("Removed interface", "router-interface-delete", "gate", "sub")
	s.neutronOK("Removed gateway", "router-gateway-clear", "gate")
	s.neutronOK("Deleted", "floatingip-delete", id)
	s.neutronOK("Deleted", "router-delete", "gate")
	s.neutronOK("Deleted", "net-delete", "ext-net")
	for path, want := range map[string]int{"routers": 0, "floatingips": 0, "ports": 1, "networks": 1} {
		if left := s.list("/v2.0/" + path); len(left) != want {
			t.Errorf("%s: %v is left", path, left)
		}
	}
}

// report says that the node has made the router as it now is.
func (s *server) report(router string) {
	s.t.Helper()
	config, err := s.svc.RouterConfig(context.Background(), router)
	if err != nil {
		s.t.Fatal(err)
	}
	reports := []lbaas.Report{{Kind: lbaas.KindRouter, ID: router, Generation: config.Router.Generation, Status: lbaas.StatusActive}}
	for _, f := range config.FloatingIPs {
		reports = append(reports, lbaas.Report{Kind: lbaas.KindFloatingIP, ID: f.ID, Generation: f.Generation, Status: lbaas.StatusActive})
	}
	if err := s.svc.SetStatuses(context.Background(), reports...); err != nil {
		s.t.Fatal(err)
	}
}
