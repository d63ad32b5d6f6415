package client

import (
	"net/http"

	"github.com/urfave/cli/v2"
)

// poolCollection is what other kinds of objects need to find a pool.
func poolCollection() *resource {
	return &resource{
		command: "pool", title: "pool", noun: "pool", plural: "pools", path: "/v2.0/lb/pools", named: true,
		columns: []string{"id", "name", "provider", "lb_method", "protocol", "admin_state_up", "status"},
	}
}

func pools(env Env) *resource {
	r := poolCollection()
	r.attrs = append([]attr{
		{
			flag: "lb-method", usage: "how a new client's member is chosen", in: everywhere, required: true,
			values: []string{"ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"},
		},
		nameAttr(true),
		{flag: "protocol", usage: "what is balanced", in: inCreate | inList, required: true, values: protocols()},
		{flag: "subnet-id", kind: reference, of: subnetCollection(), usage: "subnet of the members, id or name", in: inCreate | inList, required: true},
		descriptionAttr(),
		{flag: "drain-timeout", kind: integer, usage: "seconds that connections of a removed member may go on, 0 = for ever", in: everywhere},
		{flag: "provider", usage: "driver", in: inCreate | inList},
		{flag: "vip-id", in: inList},
		tenantAttr(), idAttr(), statusAttr(),
	}, adminAttrs()...)
	r.extra = []*cli.Command{command(env, &cli.Command{
		Name:      "stats",
		Usage:     "show the counters of a pool",
		ArgsUsage: r.word(),
	}, r.stats)}
	return r
}

func (r *resource) stats(c *call) error {
	words, err := c.arguments(r.word())
	if err != nil {
		return err
	}
	id, err := c.find(r, words[0])
	if err != nil {
		return err
	}
	answer, err := c.server.do(c, http.MethodGet, r.path+"/"+id+"/stats", nil, nil)
	if err != nil {
		return err
	}
	return c.printObject("", "stats", answer)
}
