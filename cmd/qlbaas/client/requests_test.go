package client

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qlbaas/cmd/qlbaas/cmdline"
)

// TestRequests ties command lines to what the server is asked. The last request
// is the act itself; lookups before it are tested on their own.
func TestRequests(t *testing.T) {
	for _, c := range []struct {
		args []string
		line string
		body string
	}{
		{
			[]string{"net", "create", "n", "--provider:physical_network", "br0", "--router:external", "--shared", "False"},
			"POST /v2.0/networks", `{"network":{"name":"n","provider:physical_network":"br0","router:external":true,"shared":false}}`,
		},
		{
			[]string{"subnet", "create", "net1", "172.16.100.0/24", "--name", "lan", "--no-gateway", "--allocation-pool", "start=172.16.100.11,end=172.16.100.20", "--allocation-pool", "start=172.16.100.30,end=172.16.100.40"},
			"POST /v2.0/subnets", `{"subnet":{"network_id":"` + netA + `","cidr":"172.16.100.0/24","name":"lan","gateway_ip":null,"allocation_pools":[{"start":"172.16.100.11","end":"172.16.100.20"},{"start":"172.16.100.30","end":"172.16.100.40"}]}}`,
		},
		{
			[]string{"subnet", "create", "net1", "10.0.0.0/8", "--disable-dhcp", "--dns-nameserver", "1.1.1.1", "--dns-nameserver", "2.2.2.2", "--ip-version", "4", "--gateway", "10.0.0.9"},
			"POST /v2.0/subnets", `{"subnet":{"network_id":"` + netA + `","cidr":"10.0.0.0/8","enable_dhcp":false,"dns_nameservers":["1.1.1.1","2.2.2.2"],"ip_version":4,"gateway_ip":"10.0.0.9"}}`,
		},
		{
			[]string{"port", "create", "--fixed-ip", "subnet_id=lan,ip_address=10.0.0.3", "net1"},
			"POST /v2.0/ports", `{"port":{"network_id":"` + netA + `","fixed_ips":[{"subnet_id":"` + subnetA + `","ip_address":"10.0.0.3"}]}}`,
		},
		{
			[]string{"pool", "create", "--lb-method", "ROUND_ROBIN", "--name", "web servers", "--protocol", "HTTP", "--subnet-id", "lan", "--drain-timeout", "60"},
			"POST /v2.0/lb/pools", `{"pool":{"lb_method":"ROUND_ROBIN","name":"web servers","protocol":"HTTP","subnet_id":"` + subnetA + `","drain_timeout":60}}`,
		},
		{
			[]string{"vip", "create", "web", "--name", "v", "--protocol-port", "80", "--protocol", "HTTP", "--subnet-id", "lan", "--address", "172.16.100.11", "--session-persistence", "type=dict", "type=SOURCE_IP", "--connection-limit", "-1", "--admin-state-up", "False"},
			"POST /v2.0/lb/vips", `{"vip":{"pool_id":"` + poolA + `","name":"v","protocol_port":80,"protocol":"HTTP","subnet_id":"` + subnetA + `","address":"172.16.100.11","session_persistence":{"type":"SOURCE_IP"},"connection_limit":-1,"admin_state_up":false}}`,
		},
		{
			[]string{"vip", "create", "--name", "v", "--protocol-port", "x80", "--protocol", "GOPHER", "--subnet-id", "lan", poolB, "--admin-state-up", "perhaps"},
			"POST /v2.0/lb/vips", `{"vip":{"pool_id":"` + poolB + `","name":"v","protocol_port":"x80","protocol":"GOPHER","subnet_id":"` + subnetA + `","admin_state_up":"perhaps"}}`,
		},
		{
			[]string{"vip", "update", "v", "--session-persistence", "action=clear", "--persistence-timeout", "0", "--idle-timeout", "30", "--flow-limit", "64", "--pool-id", poolB},
			"PUT /v2.0/lb/vips/" + vipA, `{"vip":{"session_persistence":null,"persistence_timeout":0,"idle_timeout":30,"flow_limit":64,"pool_id":"` + poolB + `"}}`,
		},
		{
			[]string{"vip", "update", "v", "--snat-address", "172.16.100.21", "--snat-address", "172.16.100.22"},
			"PUT /v2.0/lb/vips/" + vipA, `{"vip":{"snat_addresses":["172.16.100.21","172.16.100.22"]}}`,
		},
		{
			[]string{"vip", "update", "v", "--snat-address", "action=clear"},
			"PUT /v2.0/lb/vips/" + vipA, `{"vip":{"snat_addresses":[]}}`,
		},
		{
			[]string{"member", "create", "--address", "172.16.100.9", "--protocol-port", "80", "web", "--weight", "3"},
			"POST /v2.0/lb/members", `{"member":{"pool_id":"` + poolA + `","address":"172.16.100.9","protocol_port":80,"weight":3}}`,
		},
		{
			[]string{"member", "update", memberA, "--admin-state-down"},
			"PUT /v2.0/lb/members/" + memberA, `{"member":{"admin_state_up":false}}`,
		},
		{[]string{"member", "delete", memberA}, "DELETE /v2.0/lb/members/" + memberA, ``},
		{
			[]string{"monitor", "create", "--type", "HTTP", "--delay", "10", "--timeout", "5", "--max-retries", "3", "--http-method", "GET", "--url-path", "/", "--expected-codes", "200"},
			"POST /v2.0/lb/health_monitors", `{"health_monitor":{"type":"HTTP","delay":10,"timeout":5,"max_retries":3,"http_method":"GET","url_path":"/","expected_codes":"200"}}`,
		},
		{
			[]string{"monitor", "associate", monA, "web"},
			"POST /v2.0/lb/pools/" + poolA + "/health_monitors", `{"health_monitor":{"id":"` + monA + `"}}`,
		},
		{
			[]string{"monitor", "disassociate", monA, "web"},
			"DELETE /v2.0/lb/pools/" + poolA + "/health_monitors/" + monA, ``,
		},
		{[]string{"pool", "stats", "web"}, "GET /v2.0/lb/pools/" + poolA + "/stats", ``},
		{[]string{"pool", "show", "web", "-F", "id", "-F", "status"}, "GET /v2.0/lb/pools/" + poolA + "?fields=id&fields=status", ``},
		{
			[]string{"pool", "list", "--name", "a b", "--", "--status", "ACTIVE", "--status", "ERROR"},
			"GET /v2.0/lb/pools?name=a+b&status=ACTIVE&status=ERROR", ``,
		},
		{
			[]string{"vip", "list", "--sort-key", "address", "--sort-key", "name", "--sort-dir", "desc", "-P", "5", "--admin-state-up", "False"},
			"GET /v2.0/lb/vips?admin_state_up=False&limit=5&sort_dir=desc&sort_dir=asc&sort_key=address&sort_key=name", ``,
		},
		{[]string{"status"}, "GET /qlbaas/status", ``},
		{[]string{"router", "create", "r", "--admin-state-down"}, "POST /v2.0/routers", `{"router":{"name":"r","admin_state_up":false}}`},
		{
			[]string{"router", "update", "gate", "--route", "destination=10.9.0.0/16,nexthop=10.0.0.9", "--name", "n"},
			"PUT /v2.0/routers/" + routerA, `{"router":{"name":"n","routes":[{"destination":"10.9.0.0/16","nexthop":"10.0.0.9"}]}}`,
		},
		{[]string{"router", "update", "gate", "--no-routes"}, "PUT /v2.0/routers/" + routerA, `{"router":{"routes":null}}`},
		{
			[]string{"router", "gateway-set", "gate", "net1", "--disable-snat", "--fixed-ip", "subnet_id=lan,ip_address=10.0.0.9"},
			"PUT /v2.0/routers/" + routerA, `{"router":{"external_gateway_info":{"network_id":"` + netA + `","enable_snat":false,"external_fixed_ips":[{"subnet_id":"` + subnetA + `","ip_address":"10.0.0.9"}]}}}`,
		},
		{[]string{"router", "gateway-set", "gate", "net1"}, "PUT /v2.0/routers/" + routerA, `{"router":{"external_gateway_info":{"network_id":"` + netA + `"}}}`},
		{[]string{"router", "gateway-clear", "gate"}, "PUT /v2.0/routers/" + routerA, `{"router":{"external_gateway_info":null}}`},
		{[]string{"router", "interface-add", "gate", "lan"}, "PUT /v2.0/routers/" + routerA + "/add_router_interface", `{"subnet_id":"` + subnetA + `"}`},
		{[]string{"router", "interface-add", "gate", "port=plug"}, "PUT /v2.0/routers/" + routerA + "/add_router_interface", `{"port_id":"` + portA + `"}`},
		{[]string{"router", "interface-delete", "gate", "subnet=lan"}, "PUT /v2.0/routers/" + routerA + "/remove_router_interface", `{"subnet_id":"` + subnetA + `"}`},
		{
			[]string{"floatingip", "create", "net1", "--port-id", "plug", "--fixed-ip-address", "10.0.0.9", "--floating-ip-address", "10.10.10.7", "--subnet", "lan"},
			"POST /v2.0/floatingips", `{"floatingip":{"floating_network_id":"` + netA + `","port_id":"` + portA + `","fixed_ip_address":"10.0.0.9","floating_ip_address":"10.10.10.7","subnet_id":"` + subnetA + `"}}`,
		},
		{
			[]string{"floatingip", "associate", floatA, "plug", "--fixed-ip-address", "10.0.0.9"},
			"PUT /v2.0/floatingips/" + floatA, `{"floatingip":{"port_id":"` + portA + `","fixed_ip_address":"10.0.0.9"}}`,
		},
		{[]string{"floatingip", "disassociate", floatA}, "PUT /v2.0/floatingips/" + floatA, `{"floatingip":{"port_id":null}}`},
		{[]string{"floatingip", "delete", floatA}, "DELETE /v2.0/floatingips/" + floatA, ``},
	} {
		f := newFake(t, nil)
		// Every act is answered by a 404: only the request matters here.
		_, err := f.call(c.args...)
		if len(f.seen) == 0 {
			t.Errorf("%q: no request, %v", c.args, err)
			continue
		}
		var want any
		if c.body != "" {
			if err := json.Unmarshal([]byte(c.body), &want); err != nil {
				t.Fatalf("%s: %v", c.body, err)
			}
		}
		if diff := cmp.Diff(request{c.line, want}, f.seen[len(f.seen)-1]); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
		if cmdline.ExitCode(err) != cmdline.ExitRefused {
			t.Errorf("%q: got %v, want the server's refusal", c.args, err)
		}
	}
}

// TestFlagsAreUnique holds for every command, since the library panics only when
// the command is run.
func TestFlagsAreUnique(t *testing.T) {
	for _, group := range Commands(Env{}) {
		for _, c := range append(group.Subcommands, group) {
			seen := map[string]bool{}
			for _, f := range c.Flags {
				for _, name := range f.Names() {
					if seen[name] {
						t.Errorf("%s %s: flag %s twice", group.Name, c.Name, name)
					}
					seen[name] = true
				}
			}
		}
	}
}

func TestUsageErrorsReachNoServer(t *testing.T) {
	for _, args := range [][]string{
		{"pool"},
		{"pool", "show"},
		{"pool", "show", "a", "b"},
		{"pool", "show", ""},
		{"pool", "delete"},
		{"pool", "delete", ""},
		{"pool", "update", "web"},
		{"pool", "list", "stray"},
		{"pool", "list", "--sort-dir", "asc"},
		{"pool", "list", "-P", "0"},
		{"pool", "create", "--name", "x"},
		{"pool", "create", "--nope"},
		{"pool", "show", "web", "-o", "yaml"},
		{"pool", "show", "web", "--api", "gopher://x"},
		{"pool", "show", "web", "--api", "unix://"},
		{"pool", "show", "web", "--api-token-file", "/nonexistent"},
		{"vip", "update", "v", "--session-persistence", "SOURCE_IP"},
		{"vip", "update", "v", "--session-persistence", "type=a,type=b"},
		{"subnet", "update", "lan", "--gateway", "10.0.0.1", "--no-gateway"},
		{"status", "x"},
		{"router", "gateway-set", "gate"},
		{"router", "gateway-set", "gate", "net1", "--enable-snat", "--disable-snat"},
		{"router", "interface-add", "gate", "net=net1"},
		{"router", "update", "gate", "--route", "destination=10.9.0.0/16,nexthop=10.0.0.9", "--no-routes"},
		{"floatingip", "associate", "x"},
	} {
		f := newFake(t, nil)
		_, err := f.call(args...)
		if cmdline.ExitCode(err) != cmdline.ExitUsage || len(f.seen) != 0 {
			t.Errorf("%q: got %v after %d requests, want a usage error before any", args, err, len(f.seen))
		}
	}
}
