package lbaas

import (
	"cmp"
	"net/netip"
	"slices"
)

// bind lets a floating IP stand for an address of a port.
func (m *change) bind(o *FloatingIP, portID string, fixed netip.Addr) error {
	port, err := portResource().find(m.view, portID)
	if err != nil {
		return err
	}
	target, err := m.targetOf(port, fixed)
	if err != nil {
		return err
	}
	for id := range under(m.tx, bucketFloatingByPort, port.ID) {
		other, err := floatingRecords().must(m.tx, id)
		if err != nil {
			return err
		}
		if id != o.ID && other.FixedAddress == target.IPAddress && other.NetworkID == o.NetworkID {
			return refuse(errFloatingBound, "Cannot associate floating IP %s (%s) with port %s using fixed IP %s, "+
				"as that fixed IP already has a floating IP on external network %s",
				o.Address, o.ID, port.ID, target.IPAddress, o.NetworkID)
		}
	}
	router, err := m.routerFor(o, port, target)
	if err != nil {
		return err
	}
	if o.PortID == port.ID && o.FixedAddress == target.IPAddress && o.RouterID == router.ID {
		return nil
	}
	// The router that lets go comes first: only one may answer for the address.
	if err := m.unbind(o); err != nil {
		return err
	}
	o.PortID, o.FixedAddress, o.RouterID = port.ID, target.IPAddress, router.ID
	o.Generation = m.revision
	m.touchRouters(router.ID)
	if err := m.tx.Put(bucketFloatingByPort, port.ID+"/"+o.ID, []byte{}); err != nil {
		return err
	}
	return m.tx.Put(bucketFloatingByRouter, router.ID+"/"+o.ID, []byte{})
}

// targetOf returns the address of the port that a floating IP is to stand for. A VIP
// has one that is for clients, whatever other addresses its port has.
func (m *change) targetOf(port *Port, fixed netip.Addr) (FixedIP, error) {
	if isOwned(port.DeviceOwner) && port.DeviceOwner != OwnerLoadBalancer {
		return FixedIP{}, refuse(errL3BadRequest, "Port %s is the %s of %s and cannot have a floating IP",
			port.ID, port.DeviceOwner, port.DeviceID)
	}
	candidates := slices.DeleteFunc(slices.Clone(port.FixedIPs), func(ip FixedIP) bool { return !ip.IPAddress.Is4() })
	if port.DeviceOwner == OwnerLoadBalancer && len(candidates) > 0 {
		candidates = candidates[:1]
	}
	if fixed.IsValid() {
		for _, ip := range candidates {
			if ip.IPAddress == fixed {
				return ip, nil
			}
		}
		return FixedIP{}, refuse(errL3BadRequest, "Port %s does not have fixed IP address %s for clients", port.ID, fixed)
	}
	switch len(candidates) {
	case 0:
		return FixedIP{}, refuse(errL3BadRequest,
			"Cannot add floating IP to port %s that has no fixed IPv4 addresses", port.ID)
	case 1:
		return candidates[0], nil
	}
	return FixedIP{}, refuse(errL3BadRequest, "Port %s has multiple fixed IPv4 addresses. "+
		"Must provide a specific IPv4 address when assigning a floating IP", port.ID)
}

// routerFor returns the router that joins the target's subnet with the floating
// network: one of the same project before the subnet owner's, the one that is the
// subnet's gateway before others, the older before the younger. Routers of third
// projects translate for administrators only.
func (m *change) routerFor(o *FloatingIP, port *Port, target FixedIP) (*Router, error) {
	subnet, err := subnetRecords().must(m.tx, target.SubnetID)
	if err != nil {
		return nil, err
	}
	type candidate struct {
		router *Router
		rank   int
	}
	var found []candidate
	for portID, routerID := range under(m.tx, bucketLegsBySubnet, subnet.ID) {
		router, err := routerRecords().must(m.tx, string(routerID))
		if err != nil {
			return nil, err
		}
		if portID == router.GatewayPortID || router.GatewayPortID == "" {
			continue
		}
		gateway, err := portRecords().must(m.tx, router.GatewayPortID)
		if err != nil {
			return nil, err
		}
		leg, err := portRecords().must(m.tx, portID)
		if err != nil {
			return nil, err
		}
		rank := rankOf(router, o.TenantID, subnet.TenantID)
		if gateway.NetworkID != o.NetworkID || rank > 2 && !m.caller.Admin {
			continue
		}
		if leg.FixedIPs[0].IPAddress != subnet.GatewayIP {
			rank++
		}
		found = append(found, candidate{router, rank})
	}
	if len(found) == 0 {
		return nil, refuse(errNoGateway, "External network %s is not reachable from subnet %s. "+
			"Therefore, cannot associate Port %s with a Floating IP", o.NetworkID, subnet.ID, port.ID)
	}
	return slices.MinFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.router.Created, b.router.Created))
	}).router, nil
}

// rankOf orders routers by whose they are, leaving room for one finer distinction.
func rankOf(router *Router, tenant, subnetTenant string) int {
	switch router.TenantID {
	case tenant:
		return 0
	case subnetTenant:
		return 2
	}
	return 4
}

// unbind lets a floating IP stand for nothing. The caller saves it.
func (m *change) unbind(o *FloatingIP) error {
	if o.PortID == "" {
		return nil
	}
	if err := m.tx.Delete(bucketFloatingByPort, o.PortID+"/"+o.ID); err != nil {
		return err
	}
	if err := m.tx.Delete(bucketFloatingByRouter, o.RouterID+"/"+o.ID); err != nil {
		return err
	}
	m.touchRouters(o.RouterID)
	o.PortID, o.FixedAddress, o.RouterID = "", netip.Addr{}, ""
	o.State = State{Status: StatusDown}
	// What the node says of the time before no longer counts.
	o.Generation = m.revision
	return nil
}

// unbindPort unbinds the floating IPs of a port that stand for an address that it loses.
func (m *change) unbindPort(port *Port, loses func(netip.Addr) bool) error {
	for _, id := range keysUnder(m.tx, bucketFloatingByPort, port.ID) {
		o, err := floatingRecords().must(m.tx, id)
		if err != nil {
			return err
		}
		if !loses(o.FixedAddress) {
			continue
		}
		if err := m.unbind(o); err != nil {
			return err
		}
		if err := floatingRecords().save(m.tx, o); err != nil {
			return err
		}
	}
	return nil
}
