package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

// routerCollection is what other commands need to find a router.
func routerCollection() *resource {
	return &resource{
		command: "router", title: "router", noun: "router", plural: "routers", path: "/v2.0/routers", named: true,
		columns: []string{"id", "name", "external_gateway_info", "admin_state_up", "status"},
	}
}

func routers(env Env) *resource {
	r := routerCollection()
	r.args = []attr{{flag: "name", usage: "NAME"}}
	r.attrs = append([]attr{
		{flag: "name", usage: "name", in: inUpdate | inList},
		descriptionAttr(),
		{flag: "route", key: "routes", kind: dicts, usage: "destination=CIDR,nexthop=ADDRESS, a further route", in: inUpdate},
		{flag: "no-routes", key: "routes", kind: constant, value: nil, usage: "there are no further routes", in: inUpdate},
		tenantAttr(), idAttr(), statusAttr(),
	}, adminAttrs()...)
	r.extra = []*cli.Command{
		gatewaySetCommand(env),
		command(env, &cli.Command{
			Name: "gateway-clear", Usage: "take a router off its external network", ArgsUsage: "ROUTER",
		}, clearGateway),
		interfaceCommand(env, "interface-add", "plug a router into a subnet or a port", "Added interface %s to router %s"),
		interfaceCommand(env, "interface-delete", "unplug a router from a subnet or a port", "Removed interface %s from router %s"),
	}
	return r
}

// gateway are the attributes of external_gateway_info.
func gateway() []attr {
	return []attr{
		{flag: "disable-snat", key: "enable_snat", kind: constant, value: false, usage: "hosts without floating address keep theirs", in: inUpdate},
		{flag: "enable-snat", kind: constant, value: true, usage: "hosts without floating address go out under the router's", in: inUpdate},
		{flag: "fixed-ip", key: "external_fixed_ips", kind: dicts, of: subnetCollection(), usage: "subnet_id=SUBNET,ip_address=ADDRESS of the router", in: inUpdate},
	}
}

func gatewaySetCommand(env Env) *cli.Command {
	flags := (&resource{attrs: gateway()}).flags(inUpdate)
	return command(env, &cli.Command{
		Name: "gateway-set", Usage: "put a router onto an external network", ArgsUsage: "ROUTER NETWORK", Flags: flags,
	}, func(c *call) error {
		words, err := c.arguments("ROUTER", "NETWORK")
		if err != nil {
			return err
		}
		info, err := c.body(gateway(), inUpdate)
		if err != nil {
			return err
		}
		id, err := c.find(routerCollection(), words[0])
		if err != nil {
			return err
		}
		if info["network_id"], err = c.find(networkCollection(), words[1]); err != nil {
			return err
		}
		return c.changeGateway(id, info, "Set gateway for router %s")
	})
}

func clearGateway(c *call) error {
	words, err := c.arguments("ROUTER")
	if err != nil {
		return err
	}
	id, err := c.find(routerCollection(), words[0])
	if err != nil {
		return err
	}
	return c.changeGateway(id, nil, "Removed gateway from router %s")
}

// changeGateway puts external_gateway_info; nil is null.
func (c *call) changeGateway(id string, info map[string]any, done string) error {
	r := routerCollection()
	body := map[string]any{"external_gateway_info": info}
	answer, err := c.server.do(c, http.MethodPut, r.path+"/"+id, nil, map[string]any{r.noun: body})
	if err != nil {
		return err
	}
	if c.json() {
		return c.printObject("", r.noun, answer)
	}
	return c.say(done, id)
}

// interfaceCommand plugs or unplugs a router; the second argument is a subnet unless
// it says port=.
func interfaceCommand(env Env, name, usage, done string) *cli.Command {
	operation := map[string]string{"interface-add": "add_router_interface", "interface-delete": "remove_router_interface"}[name]
	return command(env, &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "ROUTER SUBNET|subnet=SUBNET|port=PORT",
	}, func(c *call) error {
		words, err := c.arguments("ROUTER", "INTERFACE")
		if err != nil {
			return err
		}
		kind, word, ok := strings.Cut(words[1], "=")
		if !ok {
			kind, word = "subnet", words[1]
		}
		of := map[string]*resource{"subnet": subnetCollection(), "port": portCollection()}[kind]
		if of == nil {
			return cmdline.Usagef("%s: %q: want SUBNET, subnet=SUBNET or port=PORT", c.cli.Command.HelpName, words[1])
		}
		id, err := c.find(routerCollection(), words[0])
		if err != nil {
			return err
		}
		end, err := c.find(of, word)
		if err != nil {
			return err
		}
		answer, err := c.server.do(c, http.MethodPut, routerCollection().path+"/"+id+"/"+operation, nil, map[string]any{kind + "_id": end})
		if err != nil {
			return err
		}
		return c.printInterface(done, id, answer)
	})
}

// printInterface prints the answer, which has no envelope.
func (c *call) printInterface(done, router string, answer []byte) error {
	if c.json() {
		return printJSON(c.env.Stdout, answer)
	}
	var shown struct {
		PortID string `json:"port_id"`
	}
	if err := json.Unmarshal(answer, &shown); err != nil || !isUUID(shown.PortID) {
		return &NoServer{API: c.server.api, Err: fmt.Errorf("the answer holds no port")}
	}
	return c.say(done, shown.PortID, router)
}
