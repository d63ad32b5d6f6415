package lbaas

import (
	"net/netip"
	"slices"
)

func subnetResource() *typed[Subnet] {
	return &typed[Subnet]{
		desc: desc{
			collection: Subnets, kind: "subnet", missing: errSubnetNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "name", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "description", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "network_id", access: inPost | required, kind: uuidKind()},
				{name: "ip_version", access: inPost, kind: ipVersionKind()},
				{name: "cidr", access: inPost | required, kind: cidrKind()},
				{name: "gateway_ip", access: inBoth, kind: orNull(addressKind(), netip.Addr{})},
				{name: "allocation_pools", access: inBoth, kind: rangesKind()},
				{name: "shared"},
				{name: "enable_dhcp", access: inBoth, kind: boolKind(), def: false, extra: true},
				{name: "dns_nameservers", access: inBoth, kind: opaqueKind(), def: []any{}, extra: true},
				{name: "host_routes", access: inBoth, kind: opaqueKind(), def: []any{}, extra: true},
				{name: "service_types", access: inBoth, kind: opaqueKind(), def: []any{}, extra: true},
			},
		},
		records: subnetRecords(),
		visible: func(v view, o *Subnet) (bool, error) {
			network, err := networkRecords().must(v.tx, o.NetworkID)
			return err == nil && (network.Shared || v.owns(&network.Header)), err
		},
		object:  showSubnet,
		create:  createSubnet,
		alter:   alterSubnet,
		destroy: destroySubnet,
	}
}

// ipVersionKind reads an address family, an int64. Without one it is the CIDR's.
func ipVersionKind() kind {
	return kind{filter: filterInt, parse: func(attr string, v any) (any, error) {
		n, err := coerceInt(attr, v)
		if err == nil && n != 4 && n != 6 {
			err = invalid(errBadRequest, attr, "%d is not one of 4, 6", n)
		}
		return orError(n, err)
	}}
}

func showSubnet(v view, o *Subnet) (Object, error) {
	network, err := networkRecords().must(v.tx, o.NetworkID)
	if err != nil {
		return nil, err
	}
	pools := []Object{}
	for _, r := range o.AllocationPools {
		pools = append(pools, Object{"start": r.Start.String(), "end": r.End.String()})
	}
	shown := Object{
		"id": o.ID, "tenant_id": o.TenantID, "name": o.Name, "description": o.Description,
		"network_id": o.NetworkID, "ip_version": o.IPVersion, "cidr": o.CIDR.String(),
		"gateway_ip": nil, "allocation_pools": pools, "shared": network.Shared,
	}
	if o.GatewayIP.IsValid() {
		shown["gateway_ip"] = o.GatewayIP.String()
	}
	return subnetResource().showExtra(shown, o.Extra), nil
}

func (o *Subnet) apply(in values) {
	take(in, "name", &o.Name)
	take(in, "description", &o.Description)
	take(in, "gateway_ip", &o.GatewayIP)
	take(in, "allocation_pools", &o.AllocationPools)
	o.Extra = subnetResource().takeExtra(in, o.Extra)
}

func createSubnet(m *change, h Header, in values) (*Subnet, error) {
	o := &Subnet{Header: h}
	take(in, "network_id", &o.NetworkID)
	take(in, "cidr", &o.CIDR)
	o.IPVersion = versionOf(o.CIDR)
	take(in, "ip_version", &o.IPVersion)
	if o.IPVersion != versionOf(o.CIDR) {
		return nil, invalid(errInvalidInput, "cidr", "%s is not of ip_version %d", o.CIDR, o.IPVersion)
	}
	o.GatewayIP = o.CIDR.Addr().Next()
	o.apply(in)
	if _, ok := in["allocation_pools"]; !ok {
		o.AllocationPools = allHosts(o.CIDR, o.GatewayIP)
	}
	network, err := networkResource().findOwn(m, o.NetworkID)
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	for id := range under(m.tx, bucketSubnetsByNetwork, network.ID) {
		other, err := subnetRecords().must(m.tx, id)
		if err != nil {
			return nil, err
		}
		if other.CIDR.Overlaps(o.CIDR) {
			return nil, refuse(errInvalidInput, "Invalid input for cidr: %s overlaps with %s of subnet %s",
				o.CIDR, other.CIDR, other.ID)
		}
	}
	if err := m.tx.Put(bucketSubnetsByNetwork, network.ID+"/"+o.ID, []byte{}); err != nil {
		return nil, err
	}
	return o, subnetRecords().insert(m.tx, o)
}

func versionOf(cidr netip.Prefix) int64 {
	if cidr.Addr().Is4() {
		return 4
	}
	return 6
}

// allHosts returns the hosts of a subnet but for its gateway.
func allHosts(cidr netip.Prefix, gateway netip.Addr) []AddressRange {
	first, last := cidr.Addr().Next(), lastAddr(cidr)
	if cidr.Addr().Is4() {
		last = last.Prev()
	}
	if !isHost(cidr, gateway) {
		return []AddressRange{{first, last}}
	}
	var ranges []AddressRange
	if first.Less(gateway) {
		ranges = append(ranges, AddressRange{first, gateway.Prev()})
	}
	if gateway.Less(last) {
		ranges = append(ranges, AddressRange{gateway.Next(), last})
	}
	return ranges
}

// check refuses a gateway or ranges that contradict the subnet or each other.
func (o *Subnet) check() error {
	if o.GatewayIP.IsValid() && !isHost(o.CIDR, o.GatewayIP) {
		return invalid(errInvalidInput, "gateway_ip", "%s is not a host of the subnet %s", o.GatewayIP, o.CIDR)
	}
	for _, r := range o.AllocationPools {
		if !isHost(o.CIDR, r.Start) || !isHost(o.CIDR, r.End) {
			return invalid(errInvalidInput, "allocation_pools", "%s to %s are not hosts of the subnet %s",
				r.Start, r.End, o.CIDR)
		}
		if r.contains(o.GatewayIP) {
			return refuse(errGatewayConflict, "Gateway %s conflicts with the allocation pool from %s to %s",
				o.GatewayIP, r.Start, r.End)
		}
	}
	return nil
}

func (r AddressRange) contains(a netip.Addr) bool {
	return a.IsValid() && !a.Less(r.Start) && !r.End.Less(a)
}

// alterSubnet tells the pools whose VIPs go out by the subnet's gateway.
func alterSubnet(m *change, o *Subnet, in values) error {
	gateway, ranges := o.GatewayIP, o.AllocationPools
	o.apply(in)
	if err := o.check(); err != nil {
		return err
	}
	if !slices.Equal(ranges, o.AllocationPools) {
		o.NextFresh = netip.Addr{}
	}
	if gateway != o.GatewayIP {
		if err := m.leaveGateway(o, gateway); err != nil {
			return err
		}
		if o.GatewayIP.IsValid() {
			if used, err := m.user(o, o.GatewayIP); err != nil {
				return err
			} else if used != "" {
				return refuse(errAddressInUse, "Address %s is in use by port %s", o.GatewayIP, used)
			}
		}
		if err := m.touchSubnet(o); err != nil {
			return err
		}
	}
	o.Generation = m.revision
	return subnetRecords().save(m.tx, o)
}

// leaveGateway refuses to take the subnet's gateway from a router that has its address.
func (m *change) leaveGateway(o *Subnet, gateway netip.Addr) error {
	used, err := m.user(o, gateway)
	if err != nil {
		return err
	}
	if used != "" {
		return refuse(errGatewayIPInUse, "Current gateway ip %s already in use by port %s. Unable to update", gateway, used)
	}
	return nil
}

// touchSubnet touches the pools whose VIP is on the subnet, and the routers that have
// a port there.
func (m *change) touchSubnet(o *Subnet) error {
	m.touchLegs(o)
	for vip, err := range vipRecords().all(m.tx) {
		if err != nil {
			return err
		}
		if vip.SubnetID == o.ID {
			m.touch(vip.PoolID)
		}
	}
	return nil
}

func destroySubnet(m *change, o *Subnet) error {
	for id := range under(m.tx, bucketPoolsBySubnet, o.ID) {
		return refuse(errSubnetInUse, "Subnet %s is still in use by pool %s", o.ID, id)
	}
	if err := m.forgetAddresses(o); err != nil {
		return err
	}
	if err := m.tx.Delete(bucketSubnetsByNetwork, o.NetworkID+"/"+o.ID); err != nil {
		return err
	}
	return subnetRecords().erase(m.tx, o)
}
