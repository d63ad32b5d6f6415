package tests

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// neutron runs the client of the original service, on the node.
func (w *world) neutron(args ...string) string {
	w.t.Helper()
	env := []string{"OS_AUTH_TYPE=none", "OS_ENDPOINT=http://127.0.0.1:9696", "PYTHONWARNINGS=ignore", "neutron"}
	out, err := w.Node.Run(bounded(w.t, patience), "env", append(env, args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// neutronObject runs a command that prints an object.
func (w *world) neutronObject(args ...string) object {
	w.t.Helper()
	out := w.neutron(append(args, "-f", "json")...)
	var o object
	if err := json.Unmarshal([]byte(out[max(0, strings.IndexByte(out, '{')):]), &o); err != nil {
		w.t.Fatalf("neutron %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return o
}

// TestNeutron: the original's client plays the story, from the network to balanced
// traffic.
func TestNeutron(t *testing.T) {
	w := &world{Tutorial: labtest.Tutorial(t, lab.TutorialOptions{}), hook: "auto"}
	w.agent = newAgent(t, w.Node, "--no-auth")
	w.args = append(w.args, "--api", "http://127.0.0.1:9696", "--api", "unix://"+w.socket())
	w.start()
	var err error
	if w.webs, err = w.StartWebs(webPort); err != nil {
		t.Fatal(err)
	}

	w.neutron("net-create", "web-net", "--provider:physical_network", lab.BridgeName)
	w.neutron("subnet-create", "web-net", "172.16.100.0/24", "--name", "web-sub", "--gateway", "172.16.100.1")
	pool := w.neutronObject("lb-pool-create", "--name", "web servers", "--lb-method", "ROUND_ROBIN",
		"--protocol", "HTTP", "--subnet-id", "web-sub")
	b := &balancer{w: w, id: pool.text("id"), scheme: "http", at: netip.AddrPortFrom(w.VIP, webPort)}
	w.pools = append(w.pools, b.id)
	b.client = w.Client.HTTPClient(lab.HTTPOptions{})
	for _, m := range w.Members {
		made := w.neutronObject("lb-member-create", "--address", m.Address.String(), "--protocol-port", "80", "web servers")
		b.members = append(b.members, made.text("id"))
	}
	vip := w.neutronObject("lb-vip-create", "web servers", "--name", "front", "--protocol-port", "80", "--protocol", "HTTP",
		"--subnet-id", "web-sub", "--address", w.VIP.String(), "--session-persistence", "type=dict", "type=SOURCE_IP")
	b.vip, b.port = vip.text("id"), vip.text("port_id")
	monitor := w.neutronObject("lb-healthmonitor-create", "--type", "HTTP", "--delay", "1", "--timeout", "1", "--max-retries", "2")
	w.neutron("lb-healthmonitor-associate", monitor.text("id"), "web servers")
	b.settle()

	w.only(b.ask(10))
	w.neutron("lb-vip-update", "front", "--session-persistence", "action=clear")
	b.settle()
	if err := inTurn(b.ask(100), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.mood(0, (*lab.Web).Refuse)
	b.awaitMember(0, false)
	if name := w.only(b.ask(10)); name != "WEB2" {
		t.Errorf("answered by %s", name)
	}
	if member := w.neutronObject("lb-member-show", b.members[0]); member.text("status") != "INACTIVE" {
		t.Errorf("the member that is down: %v", member)
	}
	b.awaitActive(0)
	if stats := w.neutronObject("lb-pool-stats", "web servers"); stats.number("total_connections") != 120 {
		t.Errorf("stats: %v", stats)
	}
	if out := w.neutron("port-list"); !strings.Contains(out, w.VIP.String()) {
		t.Errorf("the subnet's ports do not show the VIP: %s", out)
	}
	w.neutron("lb-vip-delete", "front")
	w.neutron("lb-healthmonitor-disassociate", monitor.text("id"), "web servers")
	w.neutron("lb-pool-delete", "web servers")
	until(t, patience, b.gone)
}
