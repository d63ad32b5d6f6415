package client

func networkCollection() *resource {
	return &resource{
		command: "net", title: "network", noun: "network", plural: "networks", path: "/v2.0/networks", named: true,
		columns: []string{"id", "name", "provider:physical_network", "subnets"},
	}
}

func networks() *resource {
	r := networkCollection()
	r.args = []attr{{flag: "name", usage: "NAME"}}
	r.attrs = append([]attr{
		{flag: "name", usage: "name", in: inUpdate | inList},
		descriptionAttr(),
		{flag: "provider:physical_network", usage: "bridge on the node that its ports join", in: inCreate | inList},
		{flag: "provider:network_type", usage: "kind of segment", in: inCreate | inList, values: []string{"flat", "vlan"}},
		{flag: "provider:segmentation_id", kind: integer, usage: "VLAN id", in: inCreate | inList},
		{flag: "router:external", kind: boolean, usage: "floating addresses come from here", in: everywhere},
		{flag: "shared", kind: boolean, usage: "every project may use it", in: everywhere},
		{flag: "mtu", kind: integer, usage: "largest packet, kept as given", in: inCreate | inUpdate},
		tenantAttr(), idAttr(), statusAttr(),
	}, adminAttrs()...)
	return r
}
