package main

import (
	"strings"
	"testing"

	"qlbaas/cmd/qlbaas/client"
)

// TestServerKnowsEveryFlag gives every flag of every create and update command to
// a real service, one at a time. Its value may be refused, the attribute not.
func TestServerKnowsEveryFlag(t *testing.T) {
	m := newMachine(t)
	stop := m.start()
	m.do("net", "create", "n")
	m.do("subnet", "create", "n", "10.0.0.0/16", "--name", "s")
	pool := []string{"--name", "p", "--lb-method", "ROUND_ROBIN", "--protocol", "TCP", "--subnet-id", "s"}
	m.do(append([]string{"pool", "create"}, pool...)...)
	vip := []string{"p", "--name", "v", "--protocol", "TCP", "--protocol-port", "80", "--subnet-id", "s"}
	m.do(append([]string{"vip", "create"}, vip...)...)
	member := []string{"p", "--address", "10.0.0.77", "--protocol-port", "80"}
	memberID := m.do(append([]string{"member", "create"}, member...)...)["id"].(string)
	monitor := []string{"--type", "TCP", "--delay", "1", "--timeout", "1", "--max-retries", "1"}
	monitorID := m.do(append([]string{"monitor", "create"}, monitor...)...)["id"].(string)
	m.do("port", "create", "n", "--name", "o")
	args := map[string][]string{
		"net create": {"n"}, "net update": {"n"}, "subnet create": {"n", "10.1.0.0/16"}, "subnet update": {"s"},
		"port create": {"n"}, "port update": {"o"}, "pool create": pool, "pool update": {"p"},
		"vip create": vip, "vip update": {"v"}, "member create": member, "member update": {memberID},
		"monitor create": monitor, "monitor update": {monitorID},
	}
	values := map[string]string{
		"session-persistence": "type=SOURCE_IP", "subnet-id": "s", "pool-id": "p", "host-route": "destination=10.9.0.0/16,nexthop=10.0.0.5",
		"allocation-pool": "start=10.0.0.20,end=10.0.0.30", "fixed-ip": "subnet_id=s",
	}
	tried := 0
	for _, group := range newApp(m.env(nil, nil)).Commands {
		for _, c := range group.Subcommands {
			base, ok := args[group.Name+" "+c.Name]
			if !ok {
				continue
			}
			for _, f := range c.Flags[:len(c.Flags)-len(client.Flags())] {
				name := f.Names()[0]
				value, ok := values[name]
				if !ok {
					value = "1"
				}
				flag := "--" + name + "=" + value
				if !f.(interface{ TakesValue() bool }).TakesValue() {
					flag = "--" + name
				}
				tried++
				_, errs, code := m.run(append(append([]string{group.Name, c.Name}, base...), flag)...)
				if code > 1 || strings.Contains(errs, "Unrecognized") || strings.Contains(errs, "allowed are") {
					t.Errorf("%s %s %s: exit %d, %s", group.Name, c.Name, flag, code, errs)
				}
			}
		}
	}
	if tried < 80 {
		t.Errorf("only %d flags tried", tried)
	}
	if log, err := stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, log)
	}
}
