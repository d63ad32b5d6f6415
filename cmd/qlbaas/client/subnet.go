package client

func subnetCollection() *resource {
	return &resource{
		command: "subnet", title: "subnet", noun: "subnet", plural: "subnets", path: "/v2.0/subnets", named: true,
		columns: []string{"id", "name", "cidr", "gateway_ip", "allocation_pools"},
	}
}

func subnets() *resource {
	r := subnetCollection()
	r.args = []attr{
		{flag: "network-id", kind: reference, of: networkCollection(), usage: "NETWORK"},
		{flag: "cidr", usage: "CIDR"},
	}
	r.attrs = []attr{
		nameAttr(false),
		descriptionAttr(),
		{flag: "gateway", key: "gateway_ip", usage: "next hop of everything off the subnet; absent, the first host", in: inCreate | inUpdate},
		{flag: "no-gateway", key: "gateway_ip", kind: constant, value: nil, usage: "there is no gateway", in: inCreate | inUpdate},
		{flag: "allocation-pool", key: "allocation_pools", kind: dicts, usage: "start=ADDRESS,end=ADDRESS to give out", in: inCreate | inUpdate},
		{flag: "ip-version", kind: integer, usage: "4 or 6", in: inCreate | inList, values: []string{"4", "6"}},
		{flag: "enable-dhcp", kind: constant, value: true, usage: "kept as given", in: inCreate | inUpdate},
		{flag: "disable-dhcp", key: "enable_dhcp", kind: constant, value: false, usage: "kept as given", in: inCreate | inUpdate},
		{flag: "dns-nameserver", key: "dns_nameservers", kind: texts, usage: "kept as given", in: inCreate | inUpdate},
		{flag: "host-route", key: "host_routes", kind: dicts, usage: "destination=CIDR,nexthop=ADDRESS, kept as given", in: inCreate | inUpdate},
		{flag: "network-id", in: inList},
		{flag: "cidr", in: inList},
		{flag: "gateway-ip", in: inList},
		tenantAttr(), idAttr(),
	}
	return r
}
