package client

// portCollection is what other kinds of objects need to find a port.
func portCollection() *resource {
	return &resource{
		command: "port", title: "port", noun: "port", plural: "ports", path: "/v2.0/ports", named: true,
		columns: []string{"id", "name", "mac_address", "fixed_ips", "device_owner", "status"},
	}
}

func ports() *resource {
	r := portCollection()
	r.args = []attr{{flag: "network-id", kind: reference, of: networkCollection(), usage: "NETWORK"}}
	r.attrs = append([]attr{
		nameAttr(false),
		descriptionAttr(),
		{flag: "fixed-ip", key: "fixed_ips", kind: dicts, of: subnetCollection(), usage: "subnet_id=SUBNET,ip_address=ADDRESS", in: inCreate | inUpdate},
		{flag: "mac-address", usage: "hardware address", in: inCreate | inList},
		{flag: "device-id", usage: "what uses the port", in: everywhere},
		{flag: "device-owner", usage: "kind of user", in: everywhere},
		{flag: "network-id", in: inList},
		tenantAttr(), idAttr(), statusAttr(),
	}, adminAttrs()...)
	return r
}
