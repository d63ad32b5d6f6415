package lbaas

import (
	"cmp"
	"errors"
	"slices"
)

// gatewayInfo is the external_gateway_info of a request. Without entries in fixedIPs
// the network's first subnet with room gives the address.
type gatewayInfo struct {
	networkID string
	fixedIPs  []FixedIP
	snat      bool
	// snatGiven: the request names enable_snat.
	snatGiven bool
}

// gatewayKind reads a *gatewayInfo; null and the empty object are nil.
func gatewayKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		if v == nil {
			return (*gatewayInfo)(nil), nil
		}
		fields, err := fieldsOf(attr, v, "network_id", "enable_snat", "external_fixed_ips")
		if err != nil {
			return nil, err
		}
		if len(fields) == 0 {
			return (*gatewayInfo)(nil), nil
		}
		return orError(parseGateway(attr, fields))
	}}
}

func parseGateway(attr string, fields map[string]any) (*gatewayInfo, error) {
	info := &gatewayInfo{snat: true}
	raw, ok := fields["network_id"]
	if !ok {
		return nil, invalid(errInvalidInput, attr, "network_id is missing")
	}
	id, err := uuidKind().parse(attr, raw)
	if err != nil {
		return nil, err
	}
	info.networkID = id.(string)
	if raw, ok := fields["enable_snat"]; ok {
		info.snatGiven = true
		if info.snat, err = coerceBool(attr, raw); err != nil {
			return nil, err
		}
	}
	raw, ok = fields["external_fixed_ips"]
	if !ok {
		return info, nil
	}
	ips, err := fixedIPsKind().parse(attr, raw)
	if err != nil {
		return nil, err
	}
	if info.fixedIPs = ips.([]FixedIP); len(info.fixedIPs) > 1 {
		return nil, invalid(errInvalidInput, attr, "external_fixed_ips has %d entries, a gateway has one address",
			len(info.fixedIPs))
	}
	return info, nil
}

func showGateway(v view, o *Router) (any, error) {
	if o.GatewayPortID == "" {
		return nil, nil
	}
	port, err := portRecords().must(v.tx, o.GatewayPortID)
	if err != nil {
		return nil, err
	}
	return Object{
		"network_id": port.NetworkID, "enable_snat": o.EnableSNAT, "external_fixed_ips": showFixedIPs(port),
	}, nil
}

// setGateway gives the router the gateway that a request wants, nil for none.
func (m *change) setGateway(o *Router, info *gatewayInfo) error {
	if info == nil {
		return m.clearGateway(o)
	}
	if !m.caller.Admin && (info.snatGiven || len(info.fixedIPs) > 0) {
		return refuse(errPolicy, "Only an administrator may set enable_snat and external_fixed_ips")
	}
	network, err := m.external(info.networkID, "Network %s is not an external network")
	if err != nil {
		return err
	}
	o.EnableSNAT = info.snat
	if o.GatewayPortID != "" {
		port, err := portRecords().must(m.tx, o.GatewayPortID)
		if err != nil {
			return err
		}
		if port.NetworkID == network.ID {
			return m.moveGateway(o, port, network, info)
		}
		if err := m.clearGateway(o); err != nil {
			return err
		}
		o.EnableSNAT = info.snat
	}
	port := m.newLeg(o, OwnerRouterGateway, "", network.ID)
	if err := m.addressLeg(o, port, network, info.fixedIPs); err != nil {
		return err
	}
	o.GatewayPortID = port.ID
	if err := m.joinLeg(o, port); err != nil {
		return err
	}
	return m.insertPort(port)
}

// external returns an external network that the caller sees; why says of another one
// that it is not.
func (m *change) external(id, why string) (*Network, error) {
	network, err := networkResource().find(m.view, id)
	if err == nil && !network.External {
		err = refuse(errL3BadRequest, why, id)
	}
	return network, err
}

// moveGateway gives the gateway another address on the same network, if one is wanted.
func (m *change) moveGateway(o *Router, port *Port, network *Network, info *gatewayInfo) error {
	if len(info.fixedIPs) == 0 {
		return nil
	}
	want, has := info.fixedIPs[0], port.FixedIPs[0]
	if (want.SubnetID == "" || want.SubnetID == has.SubnetID) &&
		(!want.IPAddress.IsValid() || want.IPAddress == has.IPAddress) {
		return nil
	}
	if err := m.leaveLeg(o, port); err != nil {
		return err
	}
	if err := m.release(has); err != nil {
		return err
	}
	if err := m.addressLeg(o, port, network, info.fixedIPs); err != nil {
		return err
	}
	if err := m.joinLeg(o, port); err != nil {
		return err
	}
	port.Generation = m.revision
	return portRecords().save(m.tx, port)
}

// addressLeg gives a gateway its address.
func (m *change) addressLeg(o *Router, port *Port, network *Network, wanted []FixedIP) error {
	want := FixedIP{}
	if len(wanted) > 0 {
		want = wanted[0]
	}
	ip, subnet, err := m.addressOn(network, port.ID, want)
	if err != nil {
		return err
	}
	port.FixedIPs = []FixedIP{ip}
	return m.checkLeg(o, subnet)
}

// addressOn allocates an IPv4 address of the network: the wanted one, or one of the
// wanted subnet, or one of the oldest subnet that has any left.
func (m *change) addressOn(network *Network, portID string, want FixedIP) (FixedIP, *Subnet, error) {
	subnets, err := m.subnetsOf(network)
	if err != nil {
		return FixedIP{}, nil, err
	}
	if want != (FixedIP{}) {
		subnet, err := m.subnetFor(network, want)
		if err != nil {
			return FixedIP{}, nil, err
		}
		subnets = []*Subnet{subnet}
	}
	err = refuse(errL3BadRequest, "Network %s does not contain any IPv4 subnet", network.ID)
	for _, subnet := range subnets {
		if subnet.IPVersion != 4 {
			continue
		}
		addr, failed := m.allocate(subnet, portID, want.IPAddress, nil)
		if failed == nil {
			return FixedIP{SubnetID: subnet.ID, IPAddress: addr}, subnet, nil
		}
		err = failed
		if full := (*Error)(nil); !errors.As(failed, &full) || full.Type != errNoAddressLeft {
			break
		}
	}
	return FixedIP{}, nil, err
}

// subnetsOf returns the network's subnets, oldest first.
func (m *change) subnetsOf(network *Network) ([]*Subnet, error) {
	var subnets []*Subnet
	for id := range under(m.tx, bucketSubnetsByNetwork, network.ID) {
		subnet, err := subnetRecords().must(m.tx, id)
		if err != nil {
			return nil, err
		}
		subnets = append(subnets, subnet)
	}
	slices.SortFunc(subnets, func(a, b *Subnet) int { return cmp.Compare(a.Created, b.Created) })
	return subnets, nil
}

// clearGateway takes the gateway away, unless a floating IP needs it.
func (m *change) clearGateway(o *Router) error {
	if o.GatewayPortID == "" {
		return nil
	}
	for id := range under(m.tx, bucketFloatingByRouter, o.ID) {
		return refuse(errGatewayInUse, "Gateway of router %s cannot be taken away, it is needed by floating IP %s", o.ID, id)
	}
	port, err := portRecords().must(m.tx, o.GatewayPortID)
	if err != nil {
		return err
	}
	o.GatewayPortID, o.EnableSNAT = "", true
	if err := m.leaveLeg(o, port); err != nil {
		return err
	}
	return m.erasePort(port)
}
