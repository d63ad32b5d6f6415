package client

import (
	"net/http"

	"github.com/urfave/cli/v2"
)

func floatingIPCollection() *resource {
	return &resource{
		command: "floatingip", title: "floating IP", noun: "floatingip", plural: "floatingips", path: "/v2.0/floatingips",
		columns: []string{"id", "fixed_ip_address", "floating_ip_address", "port_id", "status"},
	}
}

func floatingIPs(env Env) *resource {
	r := floatingIPCollection()
	r.args = []attr{{flag: "floating-network-id", kind: reference, of: networkCollection(), usage: "NETWORK"}}
	r.attrs = []attr{
		descriptionAttr(),
		{flag: "port-id", kind: reference, of: portCollection(), usage: "port that it stands for, id or name", in: inCreate | inList},
		{flag: "fixed-ip-address", usage: "address of the port, if it has several", in: inCreate | inList},
		{flag: "floating-ip-address", usage: "the address itself, for administrators", in: inCreate | inList},
		{flag: "subnet", key: "subnet_id", kind: reference, of: subnetCollection(), usage: "subnet that gives the address, for administrators", in: inCreate},
		{flag: "floating-network-id", in: inList},
		{flag: "router-id", in: inList},
		tenantAttr(), idAttr(), statusAttr(),
	}
	fixed := []attr{{flag: "fixed-ip-address", usage: "address of the port, if it has several", in: inUpdate}}
	r.extra = []*cli.Command{
		command(env, &cli.Command{
			Name: "associate", Usage: "let a floating IP stand for a port", ArgsUsage: "FLOATINGIP PORT",
			Flags: (&resource{attrs: fixed}).flags(inUpdate),
		}, func(c *call) error {
			words, err := c.arguments("FLOATINGIP", "PORT")
			if err != nil {
				return err
			}
			body, err := c.body(fixed, inUpdate)
			if err != nil {
				return err
			}
			id, err := c.find(r, words[0])
			if err != nil {
				return err
			}
			if body["port_id"], err = c.find(portCollection(), words[1]); err != nil {
				return err
			}
			return c.bindFloatingIP(id, body, "Associated floating IP %s")
		}),
		command(env, &cli.Command{
			Name: "disassociate", Usage: "let a floating IP stand for nothing", ArgsUsage: "FLOATINGIP",
		}, func(c *call) error {
			words, err := c.arguments("FLOATINGIP")
			if err != nil {
				return err
			}
			id, err := c.find(r, words[0])
			if err != nil {
				return err
			}
			return c.bindFloatingIP(id, map[string]any{"port_id": nil}, "Disassociated floating IP %s")
		}),
	}
	return r
}

func (c *call) bindFloatingIP(id string, body map[string]any, done string) error {
	r := floatingIPCollection()
	answer, err := c.server.do(c, http.MethodPut, r.path+"/"+id, nil, map[string]any{r.noun: body})
	if err != nil {
		return err
	}
	if c.json() {
		return c.printObject("", r.noun, answer)
	}
	return c.say(done, id)
}
