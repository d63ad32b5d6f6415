package client

// resources are all kinds of objects, in the order of the help.
func resources(env Env) []*resource {
	return []*resource{networks(), subnets(), ports(), routers(env), floatingIPs(env), pools(env), vips(), members(), monitors(env)}
}

// The attributes that several kinds of objects have.

func idAttr() attr { return attr{flag: "id", in: inList} }

func tenantAttr() attr {
	return attr{flag: "tenant-id", usage: "owner, for administrators", in: inCreate | inList}
}

func nameAttr(required bool) attr {
	return attr{flag: "name", usage: "name", in: everywhere, required: required}
}

func descriptionAttr() attr {
	return attr{flag: "description", usage: "description", in: everywhere}
}

func statusAttr() attr { return attr{flag: "status", in: inList} }

// adminAttrs are the two spellings of the neutron command.
func adminAttrs() []attr {
	return []attr{
		{flag: "admin-state-up", kind: boolean, in: everywhere, values: []string{"True", "False"}},
		{flag: "admin-state-down", key: "admin_state_up", kind: constant, value: false, usage: "same as --admin-state-up False", in: inCreate | inUpdate},
	}
}

func protocols() []string { return []string{"TCP", "HTTP", "HTTPS", "UDP"} }
