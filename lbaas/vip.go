package lbaas

import (
	"net/netip"
	"slices"
)

// Ranges and defaults of a VIP's attributes beyond v1; times in seconds.
const (
	maxPersistenceTimeout, defaultPersistenceTimeout = 604800, 10800
	minIdle, maxIdle, defaultIdle, defaultIdleUDP    = 10, 604800, 7440, 120
	minFlows, maxFlows, defaultFlows                 = 64, 4194304, 16384
	maxSNATAddresses                                 = 15
)

func vipResource() *typed[VIP] {
	return &typed[VIP]{
		desc: desc{
			collection: VIPs, kind: "vip", missing: errVIPNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "name", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "description", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "subnet_id", access: inPost | required, kind: uuidKind()},
				{name: "address", access: inPost, kind: orNull(addressKind(), netip.Addr{})},
				{name: "port_id"},
				{name: "protocol_port", access: inPost | required, kind: intKind(1, 65535)},
				{name: "protocol", access: inPost | required, kind: enumKind(protocols()...)},
				{name: "pool_id", access: inBoth | required, kind: uuidKind()},
				{name: "session_persistence", access: inBoth, kind: persistenceKind()},
				{name: "connection_limit", access: inBoth, kind: intKind(-1, 1<<31-1), def: int64(-1)},
				{name: "admin_state_up", access: inBoth, kind: boolKind(), def: true},
				{name: "persistence_timeout", access: inBoth, kind: intKind(0, maxPersistenceTimeout),
					def: int64(defaultPersistenceTimeout)},
				{name: "idle_timeout", access: inBoth, kind: intKind(minIdle, maxIdle)},
				{name: "flow_limit", access: inBoth, kind: intKind(minFlows, maxFlows), def: int64(defaultFlows)},
				{name: "snat_addresses", access: inBoth, kind: addressListKind(maxSNATAddresses)},
				{name: "status"},
				{name: "status_description"},
			},
		},
		records: vipRecords(),
		object:  showVIP,
		create:  createVIP,
		alter:   alterVIP,
		destroy: destroyVIP,
	}
}

func showVIP(_ view, o *VIP) (Object, error) {
	return Object{
		"id": o.ID, "tenant_id": o.TenantID, "name": o.Name, "description": o.Description,
		"subnet_id": o.SubnetID, "address": o.Address.String(), "port_id": o.PortID,
		"protocol_port": int64(o.ProtocolPort), "protocol": string(o.Protocol), "pool_id": o.PoolID,
		"session_persistence": showPersistence(o.SessionPersistence), "connection_limit": o.ConnectionLimit,
		"admin_state_up": o.AdminStateUp, "persistence_timeout": o.PersistenceTimeout,
		"idle_timeout": o.IdleTimeout, "flow_limit": o.FlowLimit, "snat_addresses": texts(o.SNATAddresses),
		"status": string(o.Status), "status_description": orNil(o.StatusDescription),
	}, nil
}

func texts(addrs []netip.Addr) []string {
	list := make([]string, 0, len(addrs))
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return list
}

func (o *VIP) apply(in values) {
	take(in, "name", &o.Name)
	take(in, "description", &o.Description)
	take(in, "session_persistence", &o.SessionPersistence)
	take(in, "connection_limit", &o.ConnectionLimit)
	take(in, "admin_state_up", &o.AdminStateUp)
	take(in, "persistence_timeout", &o.PersistenceTimeout)
	take(in, "idle_timeout", &o.IdleTimeout)
	take(in, "flow_limit", &o.FlowLimit)
	take(in, "snat_addresses", &o.SNATAddresses)
}

func createVIP(m *change, h Header, in values) (*VIP, error) {
	o := &VIP{Header: h, State: State{Status: StatusPendingCreate}}
	take(in, "subnet_id", &o.SubnetID)
	take(in, "protocol", &o.Protocol)
	if o.IdleTimeout = defaultIdle; o.Protocol == ProtocolUDP {
		o.IdleTimeout = defaultIdleUDP
	}
	o.apply(in)
	take(in, "pool_id", &o.PoolID)
	o.ProtocolPort = uint16(in["protocol_port"].(int64))
	pool, err := m.freePool(o)
	if err != nil {
		return nil, err
	}
	if err := checkPersistence(o.SessionPersistence, o.Protocol); err != nil {
		return nil, err
	}
	subnet, err := subnetResource().find(m.view, o.SubnetID)
	if err != nil {
		return nil, err
	}
	var want netip.Addr
	take(in, "address", &want)
	if err := m.plugVIP(o, subnet, want); err != nil {
		return nil, err
	}
	if err := m.checkMembers(o, subnet); err != nil {
		return nil, err
	}
	if err := m.admit(o); err != nil {
		return nil, err
	}
	pool.VIPID = o.ID
	pool.ensureCookieKey(o)
	m.touch(pool.ID)
	if err := poolRecords().save(m.tx, pool); err != nil {
		return nil, err
	}
	return o, vipRecords().insert(m.tx, o)
}

// freePool returns the pool that o is to stand in front of, if it may.
func (m *change) freePool(o *VIP) (*Pool, error) {
	pool, err := poolResource().find(m.view, o.PoolID)
	if err != nil {
		return nil, err
	}
	switch {
	case pool.TenantID != o.TenantID:
		return nil, refuse(errNotAuthorized, "The vip's project %s is not the project of pool %s",
			quote(o.TenantID), pool.ID)
	case pool.Protocol != o.Protocol:
		return nil, refuse(errProtocolMismatch, "Protocol %s does not match the protocol %s of pool %s",
			o.Protocol, pool.Protocol, pool.ID)
	case pool.Status == StatusPendingDelete:
		return nil, refuse(errState, "pool %s is in state %s", pool.ID, pool.Status)
	case pool.VIPID != "" && pool.VIPID != o.ID:
		return nil, refuse(errVIPExists, "Pool %s has the vip %s already", pool.ID, pool.VIPID)
	}
	return pool, nil
}

// plugVIP makes the VIP's port with all its addresses.
func (m *change) plugVIP(o *VIP, subnet *Subnet, want netip.Addr) error {
	if err := m.charge("port", o.TenantID); err != nil {
		return err
	}
	port := &Port{
		Header: m.newHeader(o.TenantID), Name: "vip-" + o.ID, NetworkID: subnet.NetworkID,
		AdminStateUp: true, DeviceOwner: OwnerLoadBalancer, DeviceID: o.ID,
	}
	port.ID = m.newPortID()
	members, err := membersOf(m.tx, o.PoolID)
	if err != nil {
		return err
	}
	// An address that a member answers on is taken, even if no port says so.
	taken := func(addr netip.Addr) bool {
		return slices.Contains(o.SNATAddresses, addr) ||
			slices.ContainsFunc(members, func(e Member) bool { return e.Address == addr })
	}
	if o.Address, err = m.allocate(subnet, port.ID, want, taken); err != nil {
		return err
	}
	o.PortID = port.ID
	port.FixedIPs = []FixedIP{{SubnetID: subnet.ID, IPAddress: o.Address}}
	for _, addr := range o.SNATAddresses {
		if _, err := m.allocate(subnet, port.ID, addr, nil); err != nil {
			return err
		}
		port.FixedIPs = append(port.FixedIPs, FixedIP{SubnetID: subnet.ID, IPAddress: addr})
	}
	return m.insertPort(port)
}

// checkMembers refuses a VIP that members of its pool contradict.
func (m *change) checkMembers(o *VIP, subnet *Subnet) error {
	members, err := membersOf(m.tx, o.PoolID)
	if err != nil {
		return err
	}
	for _, e := range members {
		if why := clash(o, subnet, e.Address); why != "" {
			return refuse(errBadRequest, "Member %s of pool %s, %s, %s", e.ID, o.PoolID, e.Address, why)
		}
	}
	return nil
}

// clash says why a member behind the VIP cannot have addr; empty when it can.
func clash(o *VIP, subnet *Subnet, addr netip.Addr) string {
	switch {
	case addr.Is4() != o.Address.Is4():
		return "is of another address family than the vip's address " + o.Address.String()
	case addr == o.Address:
		return "is the vip's own address"
	case slices.Contains(o.SNATAddresses, addr):
		return "is one of the vip's snat_addresses"
	case subnet.CIDR.Contains(addr) && !isHost(subnet.CIDR, addr):
		return "is the network or broadcast address of the vip's subnet " + subnet.CIDR.String()
	}
	return ""
}

// alterVIP also moves a VIP to another pool, in the same transaction for both.
func alterVIP(m *change, o *VIP, in values) error {
	was := *o
	if err := m.updated("vip", &o.Header, &o.State); err != nil {
		return err
	}
	o.apply(in)
	take(in, "pool_id", &o.PoolID)
	if o.PoolID != was.PoolID {
		if err := m.moveVIP(o, was.PoolID); err != nil {
			return err
		}
	}
	if err := m.persist(o); err != nil {
		return err
	}
	subnet, err := subnetRecords().must(m.tx, o.SubnetID)
	if err != nil {
		return err
	}
	if err := m.replugVIP(o, &was, subnet); err != nil {
		return err
	}
	if err := m.checkMembers(o, subnet); err != nil {
		return err
	}
	if o.PoolID != was.PoolID || sizesOf(o) != sizesOf(&was) {
		if err := m.admit(o); err != nil {
			return err
		}
	}
	m.touch(was.PoolID, o.PoolID)
	return vipRecords().save(m.tx, o)
}

// persist checks a changed VIP's persistence, and gives its pool what that needs.
func (m *change) persist(o *VIP) error {
	if err := checkPersistence(o.SessionPersistence, o.Protocol); err != nil {
		return err
	}
	pool, err := poolRecords().must(m.tx, o.PoolID)
	if err != nil || !pool.ensureCookieKey(o) {
		return err
	}
	return poolRecords().save(m.tx, pool)
}

func (m *change) moveVIP(o *VIP, from string) error {
	pool, err := m.freePool(o)
	if err != nil {
		return err
	}
	old, err := poolRecords().must(m.tx, from)
	if err != nil {
		return err
	}
	pool.VIPID, old.VIPID = o.ID, ""
	if err := poolRecords().save(m.tx, old); err != nil {
		return err
	}
	return poolRecords().save(m.tx, pool)
}

// replugVIP follows a change of snat_addresses on the VIP's port.
func (m *change) replugVIP(o, was *VIP, subnet *Subnet) error {
	if slices.Equal(o.SNATAddresses, was.SNATAddresses) {
		return nil
	}
	port, err := portRecords().must(m.tx, o.PortID)
	if err != nil {
		return err
	}
	if slices.Contains(o.SNATAddresses, o.Address) {
		return refuse(errAddressInUse, "%s is the vip's own address", o.Address)
	}
	ips := []FixedIP{{SubnetID: o.SubnetID, IPAddress: o.Address}}
	for _, addr := range o.SNATAddresses {
		ips = append(ips, FixedIP{SubnetID: subnet.ID, IPAddress: addr})
	}
	if err := m.replaceAddresses(port, ips); err != nil {
		return err
	}
	port.Generation = m.revision
	return portRecords().save(m.tx, port)
}

func destroyVIP(m *change, o *VIP) error {
	pool, err := poolRecords().must(m.tx, o.PoolID)
	if err != nil {
		return err
	}
	pool.VIPID = ""
	if err := poolRecords().save(m.tx, pool); err != nil {
		return err
	}
	port, err := portRecords().must(m.tx, o.PortID)
	if err != nil {
		return err
	}
	if err := m.erasePort(port); err != nil {
		return err
	}
	m.touch(pool.ID)
	return vipRecords().erase(m.tx, o)
}

// sizesOf says what the VIP's tables will have to hold.
func sizesOf(o *VIP) Sizes {
	p := o.SessionPersistence
	return Sizes{
		Flows: uint32(o.FlowLimit), Affinity: p != nil && p.Type == PersistenceSourceIP, IPv6: o.Address.Is6(),
		Sources: 1 + len(o.SNATAddresses),
	}
}

// admit asks whether the node has room for the VIP's tables beside all others.
func (m *change) admit(o *VIP) error {
	if m.opts.Admission == nil {
		return nil
	}
	others := map[string]Sizes{}
	for other, err := range vipRecords().all(m.tx) {
		if err != nil {
			return err
		}
		if other.ID != o.ID {
			others[other.PoolID] = sizesOf(other)
		}
	}
	members, err := membersOf(m.tx, o.PoolID)
	if err != nil {
		return err
	}
	want := sizesOf(o)
	want.Members = len(members)
	if err := m.opts.Admission.Admit(m.ctx, o.PoolID, want, others); err != nil {
		return refuse(errOverQuota, "The node has no room for the tables of pool %s: %s", o.PoolID, err)
	}
	return nil
}
