package tests

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qlbaas/tests/lab"
)

// TestLook: what an operator finds who looks around on the node.
func TestLook(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), persistence: "SOURCE_IP"})
		f := b.open()
		w.test("namespace", func(w *world) {
			out, err := w.Node.Run(bounded(w.t, patience), "ip", "netns")
			if err != nil || !strings.Contains(out, b.netns()) {
				w.t.Errorf("ip netns: %v: %s", err, out)
			}
			for _, text := range []string{b.inside(), "172.16.100.11/24", "fa:16:3e"} {
				if err := says(text, "ip", "addr")(w, b); err != nil {
					w.t.Error(err)
				}
			}
			if err := nodeSays("master "+lab.BridgeName, "ip", "link", "show", "OUTSIDE")(w, b); err != nil {
				w.t.Error(err)
			}
		})
		w.test("maps", func(w *world) { lookAtMaps(w, b, f) })
		w.test("files", func(w *world) { lookAtFiles(w, b) })
		w.test("metrics", func(w *world) { lookAtMetrics(w, b) })
		w.test("status", func(w *world) { lookAtStatus(w, b) })
	})
}

// dump is what bpftool makes of a pinned map: a list of formatted entries.
func (w *world) dump(pin string) string {
	w.t.Helper()
	out, err := w.Node.Run(bounded(w.t, patience), "bpftool", "map", "dump", "pinned", pin)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// lookAtMaps: every map can be read by a person, and none ends at a mere number.
func lookAtMaps(w *world, b *balancer, f *flow) {
	fields := map[string][]string{
		"flows":        {`"saddr"`, `"dport"`, `"state"`, `"serial"`},
		"health":       {`"up": 1`},
		"pool_state":   {`"active": 1`, `"flows": 1`},
		"vips_0":       {`"connection_limit"`, `"generation"`, `"idle_sec": 7440`},
		"members_0":    {`"weight": 1`, `"port"`},
		"affinities_0": {`"slot"`, `"seen"`},
		"drops":        {`"key": 18`, `"values"`},
		"verdicts":     {`"key": 0`, `"values"`},
		"counters_0":   {`"packets_in"`, `"connections"`},
	}
	for name, want := range fields {
		out := w.dump(b.pin("maps", name))
		if name == "members_0" && !strings.Contains(out, want[0]) {
			out += w.dump(b.pin("maps", "members_1")) // the other half may be the one in use
		}
		for _, text := range want {
			if !strings.Contains(out, text) {
				w.t.Errorf("%s does not show %s: %.600s", name, text, out)
			}
		}
	}
	// Inner maps are pinned beside the outer ones.
	pins, err := os.ReadDir(b.pin("maps", ""))
	if err != nil {
		w.t.Fatal(err)
	}
	names := map[string]bool{}
	for _, pin := range pins {
		names[pin.Name()] = true
	}
	for _, outer := range []string{"vips", "members", "schedules", "weights", "member_states", "counters", "affinities"} {
		if !names[outer] || !names[outer+"_0"] {
			w.t.Errorf("map %s or its inner map is not pinned: %v", outer, names)
		}
	}
	// The flow that is open, as it is seen from the wire.
	rows, err := lab.ReadPin(b.pin("maps", "flows"), "flow_key", "flow_entry", 10)
	if err != nil {
		w.t.Fatal(err)
	}
	local := netip.MustParseAddrPort(f.conn.LocalAddr().String())
	found := false
	for _, row := range rows {
		found = found || row.Key.Get("saddr") == local.Addr() && row.Key.Get("sport") == uint64(local.Port())
	}
	if !found || len(rows) != 2 {
		w.t.Errorf("the connection from %s is not among %v", local, rows)
	}
}

func lookAtFiles(w *world, b *balancer) {
	text, err := os.ReadFile(filepath.Join(w.state, "pools", b.id, "config.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	if !json.Valid(text) {
		w.t.Errorf("not JSON: %s", text)
	}
	for _, want := range append([]string{b.id, b.vip, "172.16.100.11", "172.16.100.9"}, b.members...) {
		if !strings.Contains(string(text), want) {
			w.t.Errorf("the configuration does not show %s: %s", want, text)
		}
	}
	list, _ := w.call(200, "GET", ports.path+"?id="+b.port, nil)["ports"].([]any)
	if len(list) != 1 {
		w.t.Fatalf("ports: %v", list)
	}
	port := object(list[0].(map[string]any))
	if port.text("device_owner") != "neutron:LOADBALANCER" || port.text("status") != "ACTIVE" {
		w.t.Errorf("the VIP's port is %v", port)
	}
}

func lookAtMetrics(w *world, b *balancer) {
	m := w.scrape()
	for name, want := range map[string]float64{
		"qlbaas_pool_connections_total": 1, "qlbaas_pool_connections_active": 1, "qlbaas_pool_readable": 1,
	} {
		if got := m.value(name, "pool", b.id); got != want {
			w.t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"qlbaas_member_up", "qlbaas_member_connections_active", "qlbaas_member_nat_ports_used"} {
		if n := len(m.with(name, "pool", b.id)); n != 2 {
			w.t.Errorf("%s has %d samples, want one for each member", name, n)
		}
	}
	for table, used := range map[string]float64{"flows": 1, "affinities": 1} {
		if size := m.value("qlbaas_pool_table_size", "pool", b.id, "table", table); size == 0 {
			w.t.Errorf("the size of table %s is not told: %v", table, m.with("qlbaas_pool_table_size", "pool", b.id))
		}
		if got := m.value("qlbaas_pool_table_entries", "pool", b.id, "table", table); got != used {
			w.t.Errorf("%v entries of table %s are used, want %v", got, table, used)
		}
	}
	if got := m.value("qlbaas_pool_verdicts_total", "pool", b.id, "verdict", "forwarded"); got < 4 {
		w.t.Errorf("%v packets were forwarded", got)
	}
	before := m.value("qlbaas_pool_drops_total", "pool", b.id, "reason", "conn_limit")
	b = &balancer{w: w, id: b.id, vip: b.vip, at: b.at}
	b.setVIP(object{"connection_limit": 1})
	second := b.begin(bounded(w.t, patience))
	b.awaitDrops("conn_limit", before)
	b.setVIP(object{"connection_limit": -1})
	second.made(w).close()
	b.awaitActive(1)
}

func lookAtStatus(w *world, b *balancer) {
	var status struct {
		Version, Hook string
		Pools         []object
	}
	w.typed(&status, "status")
	if status.Version == "" || status.Hook != w.hook {
		w.t.Errorf("version %q, hook %q", status.Version, status.Hook)
	}
	if len(status.Pools) != 1 {
		w.t.Fatalf("pools: %v", status.Pools)
	}
	wanted := object{
		"id": b.id, "state": "ACTIVE", "hook": w.hook, "flows_limit": 16384.0, "members_up": 2.0, "members_total": 2.0,
		"namespace": b.netns(), "device": b.inside(), "vip": "172.16.100.11:80", "last_error": nil,
	}
	for name, want := range wanted {
		if got := status.Pools[0][name]; got != want {
			w.t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if status.Pools[0].text("program_tag") == "" || status.Pools[0].number("generation") < 1 {
		w.t.Errorf("tag and generation: %v", status.Pools[0])
	}
}
