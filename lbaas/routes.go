package lbaas

import (
	"net/netip"
	"slices"
)

// maxRoutes is how many further routes a router can have.
const maxRoutes = 30

// routesKind reads a []StaticRoute; null is none.
func routesKind() kind {
	return orNull(kind{parse: func(attr string, v any) (any, error) {
		list, err := listOf(attr, v, maxList)
		if err != nil {
			return nil, err
		}
		if len(list) > maxRoutes {
			return nil, refuse(errRoutesExhausted, "A router can have %d routes, not %d", maxRoutes, len(list))
		}
		routes := make([]StaticRoute, 0, len(list))
		for _, entry := range list {
			route, err := parseRoute(attr, entry)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(routes, func(r StaticRoute) bool { return r.Destination == route.Destination }) {
				return nil, invalid(errBadRequest, attr, "the destination %s is there twice", route.Destination)
			}
			routes = append(routes, route)
		}
		return routes, nil
	}}, []StaticRoute(nil))
}

func parseRoute(attr string, v any) (StaticRoute, error) {
	none := StaticRoute{}
	fields, err := fieldsOf(attr, v, "destination", "nexthop")
	if err != nil {
		return none, err
	}
	text, err := stringOf(attr, fields["destination"])
	if err != nil {
		return none, err
	}
	destination, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !destination.Addr().Is4():
		return none, invalid(errBadRequest, attr, "the destination %s is not an IPv4 subnet", quote(text))
	case destination.Masked() != destination:
		return none, invalid(errBadRequest, attr, "the destination %s has host bits set, %s is recommended",
			destination, destination.Masked())
	}
	hop, err := parseIP(attr, fields["nexthop"])
	return StaticRoute{Destination: destination, NextHop: hop}, err
}

// checkRoutes refuses, with the type typ, routes by hosts that are not next to the
// router, and such that contradict the routes that its ports and its gateway make.
func (m *change) checkRoutes(o *Router, typ string) error {
	if len(o.Routes) == 0 {
		return nil
	}
	ports, err := legsOf(m.tx, o.ID)
	if err != nil {
		return err
	}
	var own []netip.Addr
	var next []netip.Prefix
	for _, port := range ports {
		for _, ip := range port.FixedIPs {
			subnet, err := subnetRecords().must(m.tx, ip.SubnetID)
			if err != nil {
				return err
			}
			own, next = append(own, ip.IPAddress), append(next, subnet.CIDR)
		}
	}
	for _, route := range o.Routes {
		if why := contradiction(route, o, own, next); why != "" {
			return refuse(typ, "Route to %s by %s of router %s: %s", route.Destination, route.NextHop, o.ID, why)
		}
	}
	return nil
}

func contradiction(route StaticRoute, o *Router, own []netip.Addr, next []netip.Prefix) string {
	switch {
	case slices.Contains(own, route.NextHop):
		return "the nexthop is used by the router"
	case !slices.ContainsFunc(next, func(p netip.Prefix) bool { return isHost(p, route.NextHop) }):
		return "the nexthop is not connected with the router"
	case slices.Contains(next, route.Destination):
		return "the router has a port on the destination"
	case route.Destination.Bits() == 0 && o.GatewayPortID != "":
		return "the router's gateway is its default route"
	}
	return ""
}
