package lbaas

import "net/netip"

// FloatingIP is an address of an external network that stands for one of a port.
type FloatingIP struct {
	Header
	// State is StatusActive while the node translates, else StatusDown or StatusError.
	State
	Description string `json:"description"`
	NetworkID   string `json:"floating_network_id"`
	// Address is the external one; AddressPortID is the port that has it.
	Address       netip.Addr `json:"floating_ip_address"`
	AddressPortID string     `json:"address_port_id"`
	// PortID, FixedAddress and RouterID are what it stands for and who translates;
	// all empty, or none.
	PortID       string         `json:"port_id"`
	FixedAddress netip.Addr     `json:"fixed_ip_address"`
	RouterID     string         `json:"router_id"`
	Extra        map[string]any `json:"extra,omitempty"`
}

func floatingResource() *typed[FloatingIP] {
	return &typed[FloatingIP]{
		desc: desc{
			collection: FloatingIPs, kind: "floatingip", missing: errFloatingNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "description", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "floating_network_id", access: inPost | required, kind: uuidKind()},
				{name: "floating_ip_address", access: inPost | adminSets, kind: orNull(addressKind(), netip.Addr{})},
				{name: "subnet_id", access: inPost | adminSets, kind: orNull(uuidKind(), "")},
				{name: "port_id", access: inBoth, kind: orNull(uuidKind(), "")},
				{name: "fixed_ip_address", access: inBoth, kind: orNull(addressKind(), netip.Addr{})},
				{name: "router_id"},
				{name: "status"},
				{name: "status_description"},
				{name: "dns_name", access: inPost, kind: textKind(maxText), def: "", extra: true},
				{name: "dns_domain", access: inPost, kind: textKind(maxText), def: "", extra: true},
			},
		},
		records: floatingRecords(),
		object:  showFloating,
		create:  createFloating,
		alter:   alterFloating,
		destroy: destroyFloating,
	}
}

func floatingRecords() records[FloatingIP] {
	return records[FloatingIP]{
		bucket: bucketFloatingIPs, kind: "floatingip", head: func(o *FloatingIP) *Header { return &o.Header },
	}
}

func showFloating(_ view, o *FloatingIP) (Object, error) {
	shown := Object{
		"id": o.ID, "tenant_id": o.TenantID, "description": o.Description,
		"floating_network_id": o.NetworkID, "floating_ip_address": o.Address.String(),
		"port_id": orNil(o.PortID), "fixed_ip_address": nil, "router_id": orNil(o.RouterID),
		"status": string(o.Status), "status_description": orNil(o.StatusDescription),
	}
	if o.FixedAddress.IsValid() {
		shown["fixed_ip_address"] = o.FixedAddress.String()
	}
	// subnet_id only says where to take the address from.
	return floatingResource().showExtra(shown, o.Extra), nil
}

func createFloating(m *change, h Header, in values) (*FloatingIP, error) {
	o := &FloatingIP{Header: h, State: State{Status: StatusDown}}
	take(in, "description", &o.Description)
	take(in, "floating_network_id", &o.NetworkID)
	o.Extra = floatingResource().takeExtra(in, o.Extra)
	network, err := m.external(o.NetworkID, "Network %s is not a valid external network")
	if err != nil {
		return nil, err
	}
	var want FixedIP
	take(in, "floating_ip_address", &want.IPAddress)
	take(in, "subnet_id", &want.SubnetID)
	port := &Port{
		Header: m.newHeader(""), NetworkID: network.ID, AdminStateUp: true,
		DeviceOwner: OwnerFloatingIP, DeviceID: o.ID,
	}
	port.ID = m.newPortID()
	ip, _, err := m.addressOn(network, port.ID, want)
	if err != nil {
		return nil, err
	}
	port.FixedIPs = []FixedIP{ip}
	if err := m.insertPort(port); err != nil {
		return nil, err
	}
	o.Address, o.AddressPortID = ip.IPAddress, port.ID
	if err := m.retarget(o, in); err != nil {
		return nil, err
	}
	return o, floatingRecords().insert(m.tx, o)
}

func alterFloating(m *change, o *FloatingIP, in values) error {
	take(in, "description", &o.Description)
	if err := m.retarget(o, in); err != nil {
		return err
	}
	// The node need not hear of a description, and the status stays true.
	return floatingRecords().save(m.tx, o)
}

// retarget follows port_id and fixed_ip_address of a request. A request that names
// neither leaves the floating IP where it is.
func (m *change) retarget(o *FloatingIP, in values) error {
	portID, fixed := o.PortID, netip.Addr{}
	take(in, "port_id", &portID)
	take(in, "fixed_ip_address", &fixed)
	_, named := in["port_id"]
	switch {
	case portID == "" && fixed.IsValid():
		return refuse(errL3BadRequest, "fixed_ip_address cannot be specified without a port_id")
	case portID == "":
		return m.unbind(o)
	case !named && !fixed.IsValid():
		return nil
	}
	return m.bind(o, portID, fixed)
}

func destroyFloating(m *change, o *FloatingIP) error {
	if err := m.unbind(o); err != nil {
		return err
	}
	port, err := portRecords().must(m.tx, o.AddressPortID)
	if err != nil {
		return err
	}
	if err := m.erasePort(port); err != nil {
		return err
	}
	return floatingRecords().erase(m.tx, o)
}
