package lbaas

import (
	"net/netip"
	"slices"
)

// StatusBuild is a router's that the node has not made yet.
const StatusBuild Status = "BUILD"

// The owners of the ports that routers and floating IPs stand on.
const (
	OwnerRouterInterface = "network:router_interface"
	OwnerRouterGateway   = "network:router_gateway"
	OwnerFloatingIP      = "network:floatingip"
)

// Router joins networks with each other, and with an external one by its gateway.
type Router struct {
	Header
	State
	Name         string `json:"name"`
	Description  string `json:"description"`
	AdminStateUp bool   `json:"admin_state_up"`
	// GatewayPortID is the port on the external network, empty without a gateway.
	GatewayPortID string `json:"gateway_port_id"`
	// EnableSNAT lets hosts without a floating IP out by the gateway's address.
	EnableSNAT bool `json:"enable_snat"`
	// Routes are further ones, in the order of the request.
	Routes []StaticRoute  `json:"routes,omitempty"`
	Extra  map[string]any `json:"extra,omitempty"`
}

// StaticRoute leads to a network behind a host next to the router.
type StaticRoute struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nexthop"`
}

func routerResource() *typed[Router] {
	return &typed[Router]{
		desc: desc{
			collection: Routers, kind: "router", missing: errRouterNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "name", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "description", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "admin_state_up", access: inBoth, kind: boolKind(), def: true},
				{name: "external_gateway_info", access: inBoth, kind: gatewayKind()},
				{name: "routes", access: inPut, kind: routesKind()},
				{name: "status"},
				{name: "status_description"},
				{name: "availability_zone_hints", access: inPost, kind: opaqueKind(), def: []any{}, extra: true},
			},
		},
		records: routerRecords(),
		object:  showRouter,
		create:  createRouter,
		alter:   alterRouter,
		destroy: destroyRouter,
	}
}

func routerRecords() records[Router] {
	return records[Router]{bucket: bucketRouters, kind: "router", head: func(o *Router) *Header { return &o.Header }}
}

func showRouter(v view, o *Router) (Object, error) {
	gateway, err := showGateway(v, o)
	if err != nil {
		return nil, err
	}
	routes := []Object{}
	for _, r := range o.Routes {
		routes = append(routes, Object{"destination": r.Destination.String(), "nexthop": r.NextHop.String()})
	}
	shown := Object{
		"id": o.ID, "tenant_id": o.TenantID, "name": o.Name, "description": o.Description,
		"admin_state_up": o.AdminStateUp, "external_gateway_info": gateway, "routes": routes,
		"status": string(o.Status), "status_description": orNil(o.StatusDescription),
	}
	return routerResource().showExtra(shown, o.Extra), nil
}

func (o *Router) apply(in values) {
	take(in, "name", &o.Name)
	take(in, "description", &o.Description)
	take(in, "admin_state_up", &o.AdminStateUp)
	take(in, "routes", &o.Routes)
	o.Extra = routerResource().takeExtra(in, o.Extra)
}

func createRouter(m *change, h Header, in values) (*Router, error) {
	o := &Router{Header: h, State: State{Status: StatusBuild}, EnableSNAT: true}
	o.apply(in)
	var info *gatewayInfo
	take(in, "external_gateway_info", &info)
	if info != nil {
		if err := m.setGateway(o, info); err != nil {
			return nil, err
		}
	}
	m.touchRouters(o.ID)
	return o, routerRecords().insert(m.tx, o)
}

func alterRouter(m *change, o *Router, in values) error {
	o.apply(in)
	var info *gatewayInfo
	take(in, "external_gateway_info", &info)
	if _, ok := in["external_gateway_info"]; ok {
		if err := m.setGateway(o, info); err != nil {
			return err
		}
	}
	if err := m.checkRoutes(o, errInvalidRoutes); err != nil {
		return err
	}
	return m.saveRouter(o)
}

// saveRouter stores what a user changed, and lets the node act upon it. The status
// stays until the node says what became of it.
func (m *change) saveRouter(o *Router) error {
	o.Generation = m.revision
	m.touchRouters(o.ID)
	return routerRecords().save(m.tx, o)
}

func destroyRouter(m *change, o *Router) error {
	for id := range under(m.tx, bucketPortsByRouter, o.ID) {
		if id != o.GatewayPortID {
			return refuse(errRouterInUse, "Router %s still has the port %s", o.ID, id)
		}
	}
	if err := m.clearGateway(o); err != nil {
		return err
	}
	m.touchRouters(o.ID)
	return routerRecords().erase(m.tx, o)
}

// touchRouters says that the node has to look at these routers after the commit.
func (m *change) touchRouters(ids ...string) {
	for _, id := range ids {
		if id != "" && !slices.Contains(m.routers, id) {
			m.routers = append(m.routers, id)
		}
	}
}

// touchLegs touches the routers that have a port on the subnet.
func (m *change) touchLegs(subnet *Subnet) {
	for _, id := range under(m.tx, bucketLegsBySubnet, subnet.ID) {
		m.touchRouters(string(id))
	}
}

// newLeg begins a port for a router. A tenant owns its interfaces; what stands on an
// external network belongs to nobody, so that it is neither seen nor counted.
func (m *change) newLeg(o *Router, owner, tenant, networkID string) *Port {
	port := &Port{
		Header: m.newHeader(tenant), NetworkID: networkID, AdminStateUp: true, DeviceOwner: owner, DeviceID: o.ID,
	}
	port.ID = m.newPortID()
	return port
}

// joinLeg files a port under its router.
func (m *change) joinLeg(o *Router, port *Port) error {
	for _, ip := range port.FixedIPs {
		if err := m.tx.Put(bucketLegsBySubnet, ip.SubnetID+"/"+port.ID, []byte(o.ID)); err != nil {
			return err
		}
	}
	return m.tx.Put(bucketPortsByRouter, o.ID+"/"+port.ID, []byte{})
}

// leaveLeg undoes joinLeg.
func (m *change) leaveLeg(o *Router, port *Port) error {
	for _, ip := range port.FixedIPs {
		if err := m.tx.Delete(bucketLegsBySubnet, ip.SubnetID+"/"+port.ID); err != nil {
			return err
		}
	}
	return m.tx.Delete(bucketPortsByRouter, o.ID+"/"+port.ID)
}

// legsOf returns the router's ports.
func legsOf(tx Tx, routerID string) ([]*Port, error) {
	var ports []*Port
	for id := range under(tx, bucketPortsByRouter, routerID) {
		port, err := portRecords().must(tx, id)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// checkLeg refuses a subnet that the router cannot tell from one it is on already.
func (m *change) checkLeg(o *Router, subnet *Subnet) error {
	if subnet.IPVersion != 4 {
		return refuse(errL3BadRequest, "Subnet %s is an IPv6 subnet: routers join IPv4 subnets", subnet.ID)
	}
	ports, err := legsOf(m.tx, o.ID)
	if err != nil {
		return err
	}
	for _, port := range ports {
		for _, ip := range port.FixedIPs {
			if ip.SubnetID == subnet.ID {
				return refuse(errL3BadRequest, "Router %s already has a port on subnet %s", o.ID, subnet.ID)
			}
			other, err := subnetRecords().must(m.tx, ip.SubnetID)
			if err != nil {
				return err
			}
			if other.CIDR.Overlaps(subnet.CIDR) {
				return refuse(errL3BadRequest, "Cidr %s of subnet %s overlaps with cidr %s of subnet %s",
					subnet.CIDR, subnet.ID, other.CIDR, other.ID)
			}
		}
	}
	return nil
}
