package client

import (
	"net/http"

	"github.com/urfave/cli/v2"
)

func monitors(env Env) *resource {
	r := &resource{
		command: "monitor", title: "health monitor", noun: "health_monitor", plural: "health_monitors", path: "/v2.0/lb/health_monitors",
		columns: []string{"id", "type", "admin_state_up"},
		attrs: append([]attr{
			{flag: "type", usage: "how members are probed", in: inCreate | inList, required: true, values: []string{"PING", "TCP", "HTTP", "HTTPS"}},
			{flag: "delay", kind: integer, usage: "seconds between two probes", in: everywhere, required: true},
			{flag: "timeout", kind: integer, usage: "seconds that a probe may take", in: everywhere, required: true},
			{flag: "max-retries", kind: integer, usage: "failures in a row until a member is down, 1..10", in: everywhere, required: true},
			{flag: "http-method", usage: "method of an HTTP probe", in: everywhere},
			{flag: "url-path", usage: "path of an HTTP probe", in: everywhere},
			{flag: "expected-codes", usage: "codes that pass, as 200,202 or 200-204", in: everywhere},
			tenantAttr(), idAttr(),
		}, adminAttrs()...),
	}
	bind := func(name, usage string, action func(c *call, monitor, pool string) error) *cli.Command {
		return command(env, &cli.Command{Name: name, Usage: usage, ArgsUsage: "MONITOR POOL"}, func(c *call) error {
			words, err := c.arguments("MONITOR", "POOL")
			if err != nil {
				return err
			}
			monitor, err := c.find(r, words[0])
			if err != nil {
				return err
			}
			pool, err := c.find(poolCollection(), words[1])
			if err != nil {
				return err
			}
			return action(c, monitor, pool)
		})
	}
	r.extra = []*cli.Command{
		bind("associate", "let a health monitor watch a pool", associate),
		bind("disassociate", "take a health monitor from a pool", disassociate),
	}
	return r
}

func associate(c *call, monitor, pool string) error {
	body := map[string]any{"health_monitor": map[string]any{"id": monitor}}
	answer, err := c.server.do(c, http.MethodPost, poolCollection().path+"/"+pool+"/health_monitors", nil, body)
	if err != nil {
		return err
	}
	if c.json() {
		return c.printObject("", "health_monitor", answer)
	}
	return c.say("Associated health monitor %s with pool %s", monitor, pool)
}

func disassociate(c *call, monitor, pool string) error {
	_, err := c.server.do(c, http.MethodDelete, poolCollection().path+"/"+pool+"/health_monitors/"+monitor, nil, nil)
	if err != nil || c.json() {
		return err
	}
	return c.say("Disassociated health monitor %s from pool %s", monitor, pool)
}
