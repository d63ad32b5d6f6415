package lbaas

import (
	"net/netip"
	"slices"
	"strings"
)

func portResource() *typed[Port] {
	return &typed[Port]{
		desc: desc{
			collection: Ports, kind: "port", missing: errPortNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "name", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "description", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "network_id", access: inPost | required, kind: uuidKind()},
				{name: "mac_address", access: inPost, kind: macKind()},
				{name: "fixed_ips", access: inBoth, kind: fixedIPsKind()},
				{name: "admin_state_up", access: inBoth, kind: boolKind(), def: true},
				{name: "device_id", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "device_owner", access: inBoth, kind: stringKind(checkOwner), def: ""},
				{name: "status"},
				{name: "security_groups", access: inBoth, kind: orNull(opaqueKind(), []any{}), def: []any{}, extra: true},
				{name: "port_security_enabled", access: inBoth, kind: boolKind(), def: false, extra: true},
				{name: "allowed_address_pairs", access: inBoth, kind: opaqueKind(), def: []any{}, extra: true},
				{name: "extra_dhcp_opts", access: inBoth, kind: opaqueKind(), def: []any{}, extra: true},
				{name: "dns_name", access: inBoth, kind: textKind(maxText), def: "", extra: true},
				{name: "binding:host_id", access: inBoth | adminSets | adminSees, kind: textKind(maxText), def: "", extra: true},
				{name: "binding:vnic_type", access: inBoth, kind: textKind(maxText), def: "normal", extra: true},
			},
		},
		records: portRecords(),
		object:  showPort,
		create:  createPort,
		alter:   alterPort,
		destroy: func(m *change, o *Port) error {
			if err := o.mustBeFree("deleted"); err != nil {
				return err
			}
			return m.erasePort(o)
		},
	}
}

// isOwned tells whether the device owner is one that makes and removes its
// ports itself.
func isOwned(owner string) bool {
	return owner == OwnerLoadBalancer || strings.HasPrefix(owner, "network:")
}

// checkOwner keeps users from claiming what the service owns.
func checkOwner(attr, s string) error {
	if isOwned(s) {
		return invalid(errBadRequest, attr, "%s is set by the service only", quote(s))
	}
	return checkText(attr, s, maxText)
}

func (o *Port) mustBeFree(done string) error {
	if isOwned(o.DeviceOwner) {
		typ := errServicePort
		if o.DeviceOwner != OwnerLoadBalancer {
			typ = errL3PortInUse
		}
		return refuse(typ, "Port %s cannot be %s directly: it is owned by %s %s",
			o.ID, done, o.DeviceOwner, o.DeviceID)
	}
	return nil
}

// showPort answers what is plugged: a VIP's port follows its VIP, a port that
// only reserves an address is down.
func showPort(v view, o *Port) (Object, error) {
	up, status := o.AdminStateUp, StatusDown
	if o.DeviceOwner == OwnerLoadBalancer {
		vip, err := vipRecords().get(v.tx, o.DeviceID)
		if err != nil {
			return nil, err
		}
		up = vip != nil && vip.AdminStateUp
		if up && (vip.Status == StatusActive || vip.Status == StatusPendingUpdate) {
			status = StatusActive
		}
	} else if isOwned(o.DeviceOwner) {
		var err error
		if status, err = l3PortStatus(v.tx, o); err != nil {
			return nil, err
		}
	}
	ips := showFixedIPs(o)
	shown := Object{
		"id": o.ID, "tenant_id": o.TenantID, "name": o.Name, "description": o.Description,
		"network_id": o.NetworkID, "mac_address": o.MACAddress, "fixed_ips": ips,
		"admin_state_up": up, "device_id": o.DeviceID, "device_owner": o.DeviceOwner, "status": string(status),
	}
	return portResource().showExtra(shown, o.Extra), nil
}

func showFixedIPs(o *Port) []Object {
	ips := []Object{}
	for _, ip := range o.FixedIPs {
		ips = append(ips, Object{"subnet_id": ip.SubnetID, "ip_address": ip.IPAddress.String()})
	}
	return ips
}

// newPortID returns an id whose first 11 characters, which name the port's
// devices, no other port has.
func (m *change) newPortID() string {
	for {
		id, used := newUUID(), false
		for range m.tx.Scan(bucketPorts, id[:11]) {
			used = true
		}
		if !used {
			return id
		}
	}
}

func (o *Port) apply(in values) {
	take(in, "name", &o.Name)
	take(in, "description", &o.Description)
	take(in, "admin_state_up", &o.AdminStateUp)
	take(in, "device_id", &o.DeviceID)
	take(in, "device_owner", &o.DeviceOwner)
	o.Extra = portResource().takeExtra(in, o.Extra)
}

func createPort(m *change, h Header, in values) (*Port, error) {
	o := &Port{Header: h}
	o.ID = m.newPortID()
	o.apply(in)
	take(in, "network_id", &o.NetworkID)
	take(in, "mac_address", &o.MACAddress)
	network, err := m.usable(o.NetworkID)
	if err != nil {
		return nil, err
	}
	wanted, err := m.wantedIPs(network, in)
	if err != nil {
		return nil, err
	}
	for _, ip := range wanted {
		if err := m.addAddress(o, network, ip); err != nil {
			return nil, err
		}
	}
	return o, m.insertPort(o)
}

// wantedIPs returns what to allocate: what the body says, or one address on the
// network's first subnet if it has one.
func (m *change) wantedIPs(network *Network, in values) ([]FixedIP, error) {
	var wanted []FixedIP
	if _, ok := in["fixed_ips"]; ok {
		take(in, "fixed_ips", &wanted)
		return wanted, nil
	}
	var first *Subnet
	for id := range under(m.tx, bucketSubnetsByNetwork, network.ID) {
		subnet, err := subnetRecords().must(m.tx, id)
		if err != nil {
			return nil, err
		}
		if first == nil || subnet.Created < first.Created {
			first = subnet
		}
	}
	if first != nil {
		wanted = append(wanted, FixedIP{SubnetID: first.ID})
	}
	return wanted, nil
}

// addAddress allocates one address that the body of a port asks for.
func (m *change) addAddress(o *Port, network *Network, ip FixedIP) error {
	subnet, err := m.subnetFor(network, ip)
	if err != nil {
		return err
	}
	addr, err := m.allocate(subnet, o.ID, ip.IPAddress, nil)
	if err != nil {
		return err
	}
	o.FixedIPs = append(o.FixedIPs, FixedIP{SubnetID: subnet.ID, IPAddress: addr})
	return nil
}

// subnetFor returns the subnet of the network that an address is to come from.
func (m *change) subnetFor(network *Network, ip FixedIP) (*Subnet, error) {
	for id := range under(m.tx, bucketSubnetsByNetwork, network.ID) {
		if ip.SubnetID != "" && ip.SubnetID != id {
			continue
		}
		subnet, err := subnetRecords().must(m.tx, id)
		if err != nil {
			return nil, err
		}
		if ip.SubnetID == id || subnet.CIDR.Contains(ip.IPAddress) {
			return subnet, nil
		}
	}
	if ip.SubnetID != "" {
		return nil, refuse(errInvalidInput, "Invalid input for fixed_ips: subnet %s is not on network %s",
			ip.SubnetID, network.ID)
	}
	return nil, refuse(errInvalidNetworkIP, "IP address %s is not on a subnet of network %s", ip.IPAddress, network.ID)
}

// insertPort stores a new port whose addresses are allocated already.
func (m *change) insertPort(o *Port) error {
	if o.MACAddress == "" {
		o.MACAddress = m.randomMAC(o.NetworkID)
	}
	key := o.NetworkID + "/" + o.MACAddress
	if other := m.tx.Get(bucketMACs, key); other != nil {
		return refuse(errMACInUse, "MAC address %s is in use on network %s by port %s", o.MACAddress, o.NetworkID, other)
	}
	if err := m.tx.Put(bucketMACs, key, []byte(o.ID)); err != nil {
		return err
	}
	if err := m.tx.Put(bucketPortsByNetwork, o.NetworkID+"/"+o.ID, []byte{}); err != nil {
		return err
	}
	return portRecords().insert(m.tx, o)
}

func alterPort(m *change, o *Port, in values) error {
	for _, name := range []string{"fixed_ips", "admin_state_up", "device_id", "device_owner"} {
		if _, ok := in[name]; ok {
			if err := o.mustBeFree("given another " + name); err != nil {
				return err
			}
		}
	}
	o.apply(in)
	var wanted []FixedIP
	take(in, "fixed_ips", &wanted)
	if _, ok := in["fixed_ips"]; ok {
		if err := m.replaceAddresses(o, wanted); err != nil {
			return err
		}
	}
	o.Generation = m.revision
	return portRecords().save(m.tx, o)
}

// replaceAddresses gives the port the wanted addresses in place of those it has.
// What it keeps it never lets go, so that nobody else can get it in between.
func (m *change) replaceAddresses(o *Port, wanted []FixedIP) error {
	network, err := networkRecords().must(m.tx, o.NetworkID)
	if err != nil {
		return err
	}
	had := o.FixedIPs
	o.FixedIPs = nil
	kept := func(addr netip.Addr, in []FixedIP) bool {
		return slices.ContainsFunc(in, func(ip FixedIP) bool { return ip.IPAddress == addr })
	}
	lost := func(addr netip.Addr) bool { return !kept(addr, wanted) }
	if err := m.unbindPort(o, lost); err != nil {
		return err
	}
	for _, ip := range had {
		if !kept(ip.IPAddress, wanted) {
			if err := m.release(ip); err != nil {
				return err
			}
		}
	}
	for _, ip := range wanted {
		i := slices.IndexFunc(had, func(h FixedIP) bool {
			return h.IPAddress == ip.IPAddress && (ip.SubnetID == "" || ip.SubnetID == h.SubnetID)
		})
		if i >= 0 && !kept(ip.IPAddress, o.FixedIPs) {
			o.FixedIPs = append(o.FixedIPs, had[i])
			continue
		}
		if err := m.addAddress(o, network, ip); err != nil {
			return err
		}
	}
	return nil
}

// erasePort gives everything back that the port has.
func (m *change) erasePort(o *Port) error {
	if err := m.unbindPort(o, func(netip.Addr) bool { return true }); err != nil {
		return err
	}
	for _, ip := range o.FixedIPs {
		if err := m.release(ip); err != nil {
			return err
		}
	}
	if err := m.tx.Delete(bucketMACs, o.NetworkID+"/"+o.MACAddress); err != nil {
		return err
	}
	if err := m.tx.Delete(bucketPortsByNetwork, o.NetworkID+"/"+o.ID); err != nil {
		return err
	}
	return portRecords().erase(m.tx, o)
}
