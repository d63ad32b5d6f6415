package api_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// neutron runs the client that the API is compatible with (Debian's
// python3-neutronclient) and returns what it printed.
func (s *server) neutron(args ...string) (string, error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "/usr/bin/neutron", args...)
	cmd.Env = append(os.Environ(), "OS_AUTH_TYPE=none", "OS_ENDPOINT="+s.url, "PYTHONWARNINGS=ignore")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		return out.String() + errs.String(), err
	}
	return out.String(), nil
}

// neutronJSON runs a command that has to succeed and print an object.
func (s *server) neutronJSON(args ...string) object {
	s.t.Helper()
	out, err := s.neutron(append(args, "-f", "json")...)
	if err != nil {
		s.t.Fatalf("neutron %s: %v: %s", strings.Join(args, " "), err, out)
	}
	i := strings.IndexByte(out, '{')
	if i < 0 {
		s.t.Fatalf("neutron %s: no object: %s", strings.Join(args, " "), out)
	}
	var o object
	if err := json.Unmarshal([]byte(out[i:]), &o); err != nil {
		s.t.Fatalf("neutron %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return o
}

// neutronOK runs a command that has to succeed and say something.
func (s *server) neutronOK(says string, args ...string) {
	s.t.Helper()
	out, err := s.neutron(args...)
	if err != nil || !strings.Contains(out, says) {
		s.t.Fatalf("neutron %s: %v: %q does not say %q", strings.Join(args, " "), err, out, says)
	}
}

// neutronFails runs a command that has to fail with a message.
func (s *server) neutronFails(says string, args ...string) {
	s.t.Helper()
	out, err := s.neutron(args...)
	if err == nil || !strings.Contains(out, says) {
		s.t.Fatalf("neutron %s: %v: %q does not fail with %q", strings.Join(args, " "), err, out, says)
	}
}

// TestNeutronStory plays what users of the original service do, from the
// network to the statistics and back to nothing, with its own client.
func TestNeutronStory(t *testing.T) {
	s := start(t, config{})
	net := s.neutronJSON("net-create", "web-net", "--provider:physical_network", "br-web")
	if net["status"] != "ACTIVE" || net["provider:physical_network"] != "br-web" {
		t.Errorf("network: %v", net)
	}
	sub := s.neutronJSON("subnet-create", "web-net", "172.16.100.0/24", "--name", "web-sub",
		"--gateway", "172.16.100.1", "--allocation-pool", "start=172.16.100.11,end=172.16.100.99")
	pool := s.neutronJSON("lb-pool-create", "--name", "web servers", "--lb-method", "ROUND_ROBIN",
		"--protocol", "HTTP", "--subnet-id", "web-sub")
	if pool["provider"] != "qlbaas" || pool["subnet_id"] != sub["id"] || pool["status"] != "PENDING_CREATE" {
		t.Errorf("pool: %v", pool)
	}
	vip := s.neutronJSON("lb-vip-create", "web servers", "--name", "front", "--protocol-port", "80", "--protocol", "HTTP",
		"--subnet-id", "web-sub", "--session-persistence", "type=dict", "type=SOURCE_IP")
	if vip["address"] != "172.16.100.11" || vip["connection_limit"] != -1.0 || vip["protocol_port"] != 80.0 {
		t.Errorf("vip: %v", vip)
	}
	s.neutronJSON("lb-member-create", "--address", "172.16.100.9", "--protocol-port", "80", "web servers")
	member := s.neutronJSON("lb-member-create", "--address", "172.16.100.10", "--protocol-port", "80",
		"--weight", "3", "web servers")
	if member["weight"] != 3.0 {
		t.Errorf("member: %v", member)
	}
	monitor := s.neutronJSON("lb-healthmonitor-create", "--type", "HTTP", "--delay", "10", "--timeout", "5",
		"--max-retries", "3", "--url-path", "/", "--expected-codes", "200")
	s.neutronOK("Associated", "lb-healthmonitor-associate", monitor["id"].(string), "web servers")
	s.neutronFails("use", "lb-healthmonitor-delete", monitor["id"].(string))
	stats := s.neutronJSON("lb-pool-stats", "web servers")
	if stats["bytes_in"] != 0.0 || stats["total_connections"] != 0.0 || len(stats) != 4 {
		t.Errorf("stats: %v", stats)
	}
	s.updates(vip, pool, member, monitor)
	s.teardown(vip, member, monitor)
}

func (s *server) updates(vip, pool, member, monitor object) {
	t := s.t
	persistence := func() any {
		return s.must(200, "GET", "/v2.0/lb/vips/"+vip["id"].(string), nil)["session_persistence"]
	}
	s.neutronOK("Updated", "lb-vip-update", "front", "--name", "renamed")
	if p, ok := persistence().(object); !ok || p["type"] != "SOURCE_IP" {
		t.Errorf("persistence after a rename: %v", persistence())
	}
	s.neutronOK("Updated", "lb-vip-update", "renamed", "--session-persistence", "action=clear")
	if persistence() != nil {
		t.Errorf("persistence after clear: %v", persistence())
	}
	s.neutronOK("Updated", "lb-vip-update", "renamed", "--admin-state-up", "False", "--connection-limit", "100")
	shown := s.neutronJSON("lb-vip-show", "renamed")
	if shown["admin_state_up"] != false || shown["connection_limit"] != 100.0 || shown["status"] != "PENDING_UPDATE" {
		t.Errorf("vip: %v", shown)
	}
	s.neutronOK("Updated", "lb-pool-update", pool["id"].(string), "--lb-method", "LEAST_CONNECTIONS")
	s.neutronOK("Updated", "lb-member-update", member["id"].(string), "--weight", "0")
	s.neutronOK("Updated", "lb-healthmonitor-update", monitor["id"].(string), "--delay", "7")
	s.neutronFails("greater than or equal", "lb-healthmonitor-update", monitor["id"].(string), "--timeout", "8")
	s.neutronFails("UDP", "lb-pool-create", "--name", "u", "--lb-method", "ROUND_ROBIN", "--protocol", "UDP",
		"--subnet-id", "web-sub")
	s.neutronOK("172.16.100.10", "lb-member-list", "--sort-key", "address", "--sort-dir", "asc")
	s.neutronOK("web servers", "lb-pool-list", "-P", "1", "--", "--status", "PENDING_UPDATE")
	s.neutronOK("qlbaas", "service-provider-list")
	s.neutronOK("lbaas", "ext-list")
	s.neutronOK(":-)", "agent-list")
	s.neutronOK("web servers", "lb-pool-list-on-agent", agentID(s))
	s.neutronOK(agentID(s), "lb-agent-hosting-pool", "web servers")
	s.neutronOK("vip", "quota-show")
	s.neutronOK("20", "quota-update", "--pool", "20", "--tenant-id", "default")
	s.neutronOK("neutron:LOADBALANCER", "port-show", "vip-"+vip["id"].(string))
}

func agentID(s *server) string { return s.list("/v2.0/agents")[0]["id"].(string) }

func (s *server) teardown(vip, member, monitor object) {
	t := s.t
	s.neutronFails("Unable to find member", "lb-member-delete", "typo")
	if n := len(s.list("/v2.0/lb/members")); n != 2 {
		t.Fatalf("%d members after a mistyped delete, want 2", n)
	}
	s.neutronFails("in use", "lb-pool-delete", "web servers")
	s.neutronFails("directly", "port-delete", vip["port_id"].(string))
	s.neutronOK("Disassociated", "lb-healthmonitor-disassociate", monitor["id"].(string), "web servers")
	s.neutronOK("Deleted", "lb-healthmonitor-delete", monitor["id"].(string))
	s.neutronOK("Deleted", "lb-member-delete", member["id"].(string))
	s.neutronOK("Deleted", "lb-vip-delete", "renamed")
	s.neutronOK("Deleted", "lb-pool-delete", "web servers")
	s.neutronFails("Unable to find", "lb-pool-show", "web servers")
	s.neutronOK("Deleted", "subnet-delete", "web-sub")
	s.neutronOK("Deleted", "net-delete", "web-net")
	for _, path := range []string{"/lb/pools", "/lb/vips", "/lb/members", "/lb/health_monitors",
		"/networks", "/subnets", "/ports"} {
		if left := s.list("/v2.0" + path); len(left) > 0 {
			t.Errorf("%s: %v is left", path, left)
		}
	}
}
