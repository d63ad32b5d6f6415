package client

func members() *resource {
	return &resource{
		command: "member", title: "member", noun: "member", plural: "members", path: "/v2.0/lb/members",
		columns: []string{"id", "address", "protocol_port", "weight", "admin_state_up", "status"},
		args:    []attr{{flag: "pool-id", kind: reference, of: poolCollection(), usage: "POOL"}},
		attrs: append([]attr{
			{flag: "address", usage: "address of the member", in: inCreate | inList, required: true},
			{flag: "protocol-port", kind: integer, usage: "port of the member", in: inCreate | inList, required: true},
			{flag: "weight", kind: integer, usage: "share of new clients, 0..256; 0 = none", in: everywhere},
			{flag: "pool-id", kind: reference, of: poolCollection(), usage: "move to this pool", in: inUpdate | inList},
			tenantAttr(), idAttr(), statusAttr(),
		}, adminAttrs()...),
	}
}
