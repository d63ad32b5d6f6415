package lbaas

import "context"

// interfaceDesc is what the two operations on a router's interfaces take.
func interfaceDesc() *desc {
	return &desc{kind: "router interface", attrs: []attribute{
		{name: "subnet_id", access: inPut, kind: uuidKind()},
		{name: "port_id", access: inPut, kind: uuidKind()},
	}}
}

// AddRouterInterface plugs a router into a subnet (subnet_id), under the address that
// is the subnet's gateway, or into a port (port_id), whose address it takes.
func (s *Service) AddRouterInterface(ctx context.Context, c Caller, id string, body map[string]any) (Object, error) {
	return s.interfaces(ctx, c, id, body, (*change).addInterface)
}

// RemoveRouterInterface unplugs a router from the subnet or port that the body names,
// and removes the port.
func (s *Service) RemoveRouterInterface(ctx context.Context, c Caller, id string, body map[string]any) (Object, error) {
	return s.interfaces(ctx, c, id, body, (*change).removeInterface)
}

func (s *Service) interfaces(ctx context.Context, c Caller, id string, body map[string]any,
	do func(m *change, o *Router, subnetID, portID string) (*Port, error),
) (Object, error) {
	in, err := interfaceDesc().forUpdate(c, body)
	if err != nil {
		return nil, err
	}
	var subnetID, portID string
	take(in, "subnet_id", &subnetID)
	take(in, "port_id", &portID)
	if subnetID == "" && portID == "" {
		return nil, refuse(errL3BadRequest, "Either subnet_id or port_id must be specified")
	}
	var shown Object
	err = s.change(ctx, c, func(m *change) error {
		router, err := routerResource().findOwn(m, id)
		if err != nil {
			return err
		}
		port, err := do(m, router, subnetID, portID)
		if err != nil {
			return err
		}
		shown = showInterface(router, port)
		m.audit("update", "router", id, router.TenantID, nil, shown)
		return m.saveRouter(router)
	})
	return shown, err
}

func showInterface(o *Router, port *Port) Object {
	subnet := port.FixedIPs[0].SubnetID
	return Object{
		"id": o.ID, "tenant_id": o.TenantID, "port_id": port.ID, "network_id": port.NetworkID,
		"subnet_id": subnet, "subnet_ids": []string{subnet},
	}
}

func (m *change) addInterface(o *Router, subnetID, portID string) (*Port, error) {
	switch {
	case subnetID != "" && portID != "":
		return nil, refuse(errL3BadRequest, "Cannot specify both subnet_id and port_id")
	case portID != "":
		return m.adoptPort(o, portID)
	}
	subnet, err := subnetResource().find(m.view, subnetID)
	if err != nil {
		return nil, err
	}
	network, err := m.usable(subnet.NetworkID)
	if err != nil {
		return nil, err
	}
	if !subnet.GatewayIP.IsValid() {
		return nil, refuse(errL3BadRequest, "Subnet %s for a router interface must have a gateway IP", subnet.ID)
	}
	if err := m.checkLeg(o, subnet); err != nil {
		return nil, err
	}
	if err := m.charge("port", o.TenantID); err != nil {
		return nil, err
	}
	port := m.newLeg(o, OwnerRouterInterface, o.TenantID, network.ID)
	if err := m.occupy(subnet, port.ID, subnet.GatewayIP); err != nil {
		return nil, err
	}
	port.FixedIPs = []FixedIP{{SubnetID: subnet.ID, IPAddress: subnet.GatewayIP}}
	if err := m.joinLeg(o, port); err != nil {
		return nil, err
	}
	return port, m.insertPort(port)
}

// adoptPort makes an interface of a port that is there.
func (m *change) adoptPort(o *Router, id string) (*Port, error) {
	port, err := portResource().findOwn(m, id)
	if err != nil {
		return nil, err
	}
	if port.DeviceID != "" || isOwned(port.DeviceOwner) {
		return nil, refuse(errPortInUse, "Port %s on network %s is in use by the device %s",
			port.ID, port.NetworkID, quote(port.DeviceID))
	}
	for floating := range under(m.tx, bucketFloatingByPort, port.ID) {
		return nil, refuse(errPortInUse, "Port %s has the floating IP %s", port.ID, floating)
	}
	if len(port.FixedIPs) != 1 {
		return nil, refuse(errL3BadRequest, "Router port must have exactly one fixed IP, port %s has %d",
			port.ID, len(port.FixedIPs))
	}
	subnet, err := subnetRecords().must(m.tx, port.FixedIPs[0].SubnetID)
	if err != nil {
		return nil, err
	}
	if err := m.checkLeg(o, subnet); err != nil {
		return nil, err
	}
	port.DeviceOwner, port.DeviceID, port.Generation = OwnerRouterInterface, o.ID, m.revision
	if err := m.joinLeg(o, port); err != nil {
		return nil, err
	}
	return port, portRecords().save(m.tx, port)
}

func (m *change) removeInterface(o *Router, subnetID, portID string) (*Port, error) {
	port, err := m.interfaceOf(o, subnetID, portID)
	if err != nil {
		return nil, err
	}
	if err := m.checkFloating(o, port); err != nil {
		return nil, err
	}
	if err := m.leaveLeg(o, port); err != nil {
		return nil, err
	}
	if err := m.checkRoutes(o, errInterfaceInUseByRoute); err != nil {
		return nil, err
	}
	return port, m.erasePort(port)
}

// interfaceOf returns the interface that a request names.
func (m *change) interfaceOf(o *Router, subnetID, portID string) (*Port, error) {
	if portID == "" {
		if _, err := subnetResource().find(m.view, subnetID); err != nil {
			return nil, err
		}
	}
	ports, err := legsOf(m.tx, o.ID)
	if err != nil {
		return nil, err
	}
	for _, port := range ports {
		if port.DeviceOwner != OwnerRouterInterface {
			continue
		}
		subnet := port.FixedIPs[0].SubnetID
		switch {
		case portID == "" && subnet == subnetID:
			return port, nil
		case portID != port.ID:
		case subnetID != "" && subnet != subnetID:
			return nil, refuse(errSubnetMismatch, "Port %s is not on subnet %s", portID, subnetID)
		default:
			return port, nil
		}
	}
	if portID != "" {
		return nil, refuse(errNoInterface, "Router %s does not have an interface with id %s", o.ID, portID)
	}
	return nil, refuse(errNoInterfaceForSubnet, "Router %s has no interface on subnet %s", o.ID, subnetID)
}

// checkFloating refuses to unplug an interface by which a floating IP reaches its port.
func (m *change) checkFloating(o *Router, port *Port) error {
	for id := range under(m.tx, bucketFloatingByRouter, o.ID) {
		floating, err := floatingRecords().must(m.tx, id)
		if err != nil {
			return err
		}
		target, err := portRecords().must(m.tx, floating.PortID)
		if err != nil {
			return err
		}
		for _, ip := range target.FixedIPs {
			if ip.IPAddress == floating.FixedAddress && ip.SubnetID == port.FixedIPs[0].SubnetID {
				return refuse(errInterfaceInUse, "Router interface for subnet %s on router %s cannot be deleted, "+
					"as it is required by the floating IP %s", ip.SubnetID, o.ID, id)
			}
		}
	}
	return nil
}
