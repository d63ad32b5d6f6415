package lbaas

import (
	"strings"
)

func networkResource() *typed[Network] {
	return &typed[Network]{
		desc: desc{
			collection: Networks, kind: "network", missing: errNetworkNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "name", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "description", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "admin_state_up", access: inBoth, kind: boolKind(), def: true},
				{name: "shared", access: inBoth | adminSets, kind: boolKind()},
				{name: "router:external", access: inBoth | adminSets, kind: boolKind()},
				{name: "provider:network_type", access: inPost | adminSets | adminSees, kind: enumKind("flat", "vlan")},
				{name: "provider:physical_network", access: inPost | adminSets | adminSees, kind: orNull(deviceKind(), "")},
				{name: "provider:segmentation_id", access: inPost | adminSets | adminSees, kind: nullIntKind(1, 4094)},
				{name: "subnets"},
				{name: "status"},
				{name: "mtu", access: inBoth, kind: intKind(68, 65535), def: int64(1500), extra: true},
				{name: "port_security_enabled", access: inBoth, kind: boolKind(), def: false, extra: true},
				{name: "dns_domain", access: inBoth, kind: textKind(maxText), def: "", extra: true},
				{name: "availability_zone_hints", access: inPost, kind: opaqueKind(), def: []any{}, extra: true},
			},
		},
		records: networkRecords(),
		visible: func(_ view, o *Network) (bool, error) { return o.Shared || o.External, nil },
		object:  showNetwork,
		create:  createNetwork,
		alter:   alterNetwork,
		destroy: destroyNetwork,
	}
}

func showNetwork(v view, o *Network) (Object, error) {
	subnets := []string{}
	for id := range under(v.tx, bucketSubnetsByNetwork, o.ID) {
		subnets = append(subnets, id)
	}
	shown := Object{
		"id": o.ID, "tenant_id": o.TenantID, "name": o.Name, "description": o.Description,
		"admin_state_up": o.AdminStateUp, "shared": o.Shared, "router:external": o.External,
		"provider:network_type": o.NetworkType, "provider:physical_network": orNil(o.PhysicalNetwork),
		"provider:segmentation_id": nil, "subnets": subnets, "status": string(StatusActive),
	}
	if o.SegmentationID != 0 {
		shown["provider:segmentation_id"] = o.SegmentationID
	}
	return networkResource().showExtra(shown, o.Extra), nil
}

func (o *Network) apply(in values) {
	take(in, "name", &o.Name)
	take(in, "description", &o.Description)
	take(in, "admin_state_up", &o.AdminStateUp)
	take(in, "shared", &o.Shared)
	take(in, "router:external", &o.External)
	o.Extra = networkResource().takeExtra(in, o.Extra)
}

func createNetwork(m *change, h Header, in values) (*Network, error) {
	o := &Network{Header: h, NetworkType: "flat"}
	o.apply(in)
	take(in, "provider:network_type", &o.NetworkType)
	take(in, "provider:physical_network", &o.PhysicalNetwork)
	take(in, "provider:segmentation_id", &o.SegmentationID)
	switch {
	case o.NetworkType == "vlan" && o.SegmentationID == 0:
		return nil, refuse(errInvalidInput, "provider:segmentation_id is required for a vlan network, 1 to 4094")
	case o.NetworkType == "flat" && o.SegmentationID != 0:
		return nil, refuse(errInvalidInput, "provider:segmentation_id is not allowed for a flat network")
	}
	return o, networkRecords().insert(m.tx, o)
}

func alterNetwork(m *change, o *Network, in values) error {
	wasShared, wasExternal := o.Shared, o.External
	o.apply(in)
	if wasShared && !o.Shared {
		if err := m.checkUnshared(o); err != nil {
			return err
		}
	}
	if wasExternal && !o.External {
		if err := m.checkInternal(o); err != nil {
			return err
		}
	}
	o.Generation = m.revision
	return networkRecords().save(m.tx, o)
}

// checkInternal refuses to make a network internal that routers go out by.
func (m *change) checkInternal(o *Network) error {
	for id := range under(m.tx, bucketPortsByNetwork, o.ID) {
		port, err := portRecords().must(m.tx, id)
		if err != nil {
			return err
		}
		if port.isExternal() {
			return refuse(errExternalInUse, "External network %s cannot be made internal: it is in use by port %s, "+
				"a %s", o.ID, id, port.DeviceOwner)
		}
	}
	return nil
}

// checkUnshared refuses to take a network away from other projects that use it.
func (m *change) checkUnshared(o *Network) error {
	for id := range under(m.tx, bucketPortsByNetwork, o.ID) {
		port, err := portRecords().must(m.tx, id)
		if err != nil {
			return err
		}
		if port.TenantID != o.TenantID && !port.isExternal() {
			return refuse(errInvalidShared, "Network %s is used by the project %s", o.ID, quote(port.TenantID))
		}
	}
	return nil
}

// destroyNetwork takes the subnets along, but no ports.
func destroyNetwork(m *change, o *Network) error {
	for id := range under(m.tx, bucketPortsByNetwork, o.ID) {
		return refuse(errNetworkInUse, "Network %s is still in use by port %s", o.ID, id)
	}
	for _, id := range keysUnder(m.tx, bucketSubnetsByNetwork, o.ID) {
		subnet, err := subnetRecords().must(m.tx, id)
		if err != nil {
			return err
		}
		if err := destroySubnet(m, subnet); err != nil {
			return err
		}
	}
	return networkRecords().erase(m.tx, o)
}

// usable returns a network on which the caller may make ports.
func (m *change) usable(id string) (*Network, error) {
	network, err := networkResource().find(m.view, id)
	if err == nil && !m.owns(&network.Header) && !network.Shared {
		err = refuse(errPolicy, "Network %s is not shared", id)
	}
	return network, err
}

// randomMAC returns a hardware address of the range that marks virtual ports.
func (m *change) randomMAC(networkID string) string {
	for {
		b := strings.ReplaceAll(newUUID(), "-", "")
		mac := "fa:16:3e:" + b[0:2] + ":" + b[2:4] + ":" + b[4:6]
		if m.tx.Get(bucketMACs, networkID+"/"+mac) == nil {
			return mac
		}
	}
}
