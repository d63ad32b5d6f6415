package client

func vips() *resource {
	return &resource{
		command: "vip", title: "vip", noun: "vip", plural: "vips", path: "/v2.0/lb/vips", named: true,
		columns: []string{"id", "name", "address", "protocol", "protocol_port", "admin_state_up", "status"},
		args:    []attr{{flag: "pool-id", kind: reference, of: poolCollection(), usage: "POOL"}},
		attrs: append([]attr{
			nameAttr(true),
			{flag: "protocol-port", kind: integer, usage: "port that clients connect to", in: inCreate | inList, required: true},
			{flag: "protocol", usage: "the pool's protocol", in: inCreate | inList, required: true, values: protocols()},
			{flag: "subnet-id", kind: reference, of: subnetCollection(), usage: "subnet of the address, id or name", in: inCreate | inList, required: true},
			{flag: "pool-id", kind: reference, of: poolCollection(), usage: "move to this pool", in: inUpdate | inList},
			{flag: "address", usage: "address; absent, the subnet gives one", in: inCreate | inList},
			descriptionAttr(),
			{flag: "connection-limit", kind: integer, usage: "concurrent connections, -1 = no limit", in: everywhere},
			{flag: "session-persistence", kind: dict, usage: "type=SOURCE_IP, or action=clear for none", in: inCreate | inUpdate},
			{flag: "persistence-timeout", kind: integer, usage: "seconds after which an unused binding ends, 0 = never", in: everywhere},
			{flag: "idle-timeout", kind: integer, usage: "seconds after which a silent connection ends", in: everywhere},
			{flag: "flow-limit", kind: integer, usage: "size of the connection table", in: everywhere},
			{flag: "snat-address", key: "snat_addresses", kind: texts, usage: "further source address toward the members", in: inCreate | inUpdate},
			{flag: "port-id", in: inList},
			tenantAttr(), idAttr(), statusAttr(),
		}, adminAttrs()...),
	}
}
