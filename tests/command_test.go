package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// TestCommands plays the story with the product's own commands.
func TestCommands(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{})
	var made object
	w.typed(&made, "pool", "create", "--name", "web servers", "--lb-method", "ROUND_ROBIN", "--protocol", "HTTP", "--subnet-id", lab.BridgeName)
	b := &balancer{w: w, id: made.text("id"), scheme: "http"}
	w.pools = append(w.pools, b.id)
	w.typed(&made, "vip", "create", "web servers", "--name", "front", "--protocol", "HTTP", "--protocol-port", "80",
		"--subnet-id", w.subnet, "--address", w.VIP.String(), "--session-persistence", "type=SOURCE_IP")
	b.vip, b.port = made.text("id"), made.text("port_id")
	b.at = netip.AddrPortFrom(w.VIP, webPort)
	b.client = w.Client.HTTPClient(lab.HTTPOptions{})
	for _, m := range w.Members {
		w.typed(&made, "member", "create", "web servers", "--address", m.Address.String(), "--protocol-port", "80")
		b.members = append(b.members, made.text("id"))
	}
	w.typed(&made, "monitor", "create", "--type", "HTTP", "--delay", "1", "--timeout", "1", "--max-retries", "2")
	monitor := made.text("id")
	w.says("Associated", "monitor", "associate", monitor, "web servers")
	b.settle()
	w.only(b.ask(10))
	w.says("", "vip", "update", "front", "--session-persistence", "action=clear")
	b.settle()
	if err := inTurn(b.ask(100), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.mood(0, (*lab.Web).Refuse)
	b.awaitMember(0, false)
	if name := w.only(b.ask(10)); name != "WEB2" {
		t.Errorf("answered by %s", name)
	}
	w.mood(0, (*lab.Web).Answer)
	b.awaitMember(0, true)
	b.awaitActive(0)
	var stats object
	w.typed(&stats, "pool", "stats", "web servers")
	if stats.number("total_connections") != 120 || stats.number("bytes_in") == 0 {
		t.Errorf("stats: %v", stats)
	}
	w.says("web servers", "pool", "list")
	w.says("172.16.100.11", "vip", "show", "front")
	w.says(b.members[0], "member", "list", "--pool-id", b.id)
	w.says("ACTIVE", "status")
	w.says("", "vip", "delete", "front")
	w.says("", "monitor", "disassociate", monitor, "web servers")
	w.says("", "monitor", "delete", monitor)
	w.says("", "member", "delete", b.members[0])
	w.says("", "pool", "delete", "web servers")
	until(t, patience, b.gone)
	w.says("", "subnet", "delete", lab.BridgeName)
	w.says("", "net", "delete", lab.BridgeName)
}

// says runs a command that has to succeed and print a text.
func (a *agent) says(text string, args ...string) {
	a.t.Helper()
	code, out, complaint := a.cli(args...)
	if code != 0 || !strings.Contains(out, text) {
		a.t.Errorf("qlbaas %s: exit code %d, %q does not say %q: %s", strings.Join(args, " "), code, out, text, complaint)
	}
}

// TestMistakes: every mistake has its exit code, and its message names what is wrong.
func TestMistakes(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{})
	b := w.balance(balancerOptions{})
	for i, c := range []struct {
		code int
		says string
		args []string
	}{
		{1, "weight", []string{"member", "update", b.members[0], "--weight", "257"}},
		{1, "protocol_port", []string{"member", "create", b.id, "--address", "172.16.100.77", "--protocol-port", "http"}},
		{1, "address", []string{"member", "create", b.id, "--address", "300.1.1.1", "--protocol-port", "80"}},
		{1, "lb_method", []string{"pool", "update", b.id, "--lb-method", "FASTEST"}},
		{1, b.id, []string{"pool", "delete", b.id}},
		{1, "172.16.100.11", []string{"port", "create", lab.BridgeName, "--fixed-ip", "subnet_id=" + w.subnet + ",ip_address=172.16.100.11"}},
		{1, "flow_limit", []string{"vip", "update", b.vip, "--flow-limit", "4194305"}},
		{1, "type", []string{"vip", "update", b.vip, "--session-persistence", "type=MOON"}},
		{1, "nobody", []string{"pool", "show", "nobody"}},
		{2, "--type", []string{"monitor", "create", "--delay", "1"}},
		{2, "", []string{"pool", "show"}},
		{2, "", []string{"member", "update", b.members[0], "--heavy", "1"}},
		{2, "", []string{"nonsense"}},
		{2, "hook", []string{"agent", "--hook", "somewhere"}},
	} {
		w.test(fmt.Sprint(i, " ", c.args[0]), func(w *world) {
			code, out, complaint := w.cli(c.args...)
			if code != c.code || !strings.Contains(complaint, c.says) || out != "" {
				w.t.Errorf("qlbaas %s: exit code %d, want %d; %q does not name %q; printed %q",
					strings.Join(c.args, " "), code, c.code, complaint, c.says, out)
			}
		})
	}
	// None of that has done anything.
	if err := inTurn(b.ask(10), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.stop()
	if code, _, complaint := w.cli("pool", "list"); code != 3 || !strings.Contains(complaint, w.socket()) {
		t.Errorf("without a server: exit code %d: %s", code, complaint)
	}
	w.start()
	w.says(b.id, "pool", "list")
}

// TestBudget: what would take more memory than there may be is refused whole.
func TestBudget(t *testing.T) {
	rows.Proves(t, 124)
	w := newWorld(t, "auto", lab.TutorialOptions{}, "--memory-budget", "64M")
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), vip: object{"flow_limit": 1000}})
	f := b.open()
	got, err := w.request("PUT", vips.path+"/"+b.vip, object{"vip": object{"flow_limit": 1 << 20}})
	if err != nil || got.code != 409 || !strings.Contains(string(got.body), "OverQuota") || !strings.Contains(string(got.body), "flows") {
		t.Errorf("a table beyond the budget: %v %d: %s", err, got.code, got.body)
	}
	second := w.create(pools, object{"name": "second", "subnet_id": w.subnet, "protocol": "TCP", "lb_method": "ROUND_ROBIN"}).text("id")
	w.pools = append(w.pools, second)
	got, err = w.request("POST", vips.path, object{"vip": object{
		"pool_id": second, "subnet_id": w.subnet, "protocol": "TCP", "protocol_port": 80, "flow_limit": 1 << 20,
	}})
	if err != nil || got.code != 409 {
		t.Errorf("a VIP beyond the budget: %v %d: %s", err, got.code, got.body)
	}
	if left, err := lab.Namespaces("qlbaas-" + second); err != nil || len(left) > 0 {
		t.Errorf("made of what was refused: %v, %v", left, err)
	}
	w.remove(pools, second)
	w.mustEcho(f, b.open())
}
