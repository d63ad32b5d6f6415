package reconcile

import (
	"net"
	"net/netip"

	"qlbaas/lbaas"
	"qlbaas/loader/router"
)

// plannedRouter translates a router into what the node is asked for. Its errors are
// errUnservable.
func plannedRouter(cfg lbaas.RouterConfig) (router.Router, error) {
	none := router.Router{}
	r := router.Router{ID: cfg.Router.ID, AdminUp: cfg.Router.AdminStateUp, SNAT: cfg.Router.EnableSNAT}
	if cfg.Gateway != nil {
		leg, err := plannedLeg(*cfg.Gateway)
		if err != nil {
			return none, err
		}
		leg.Gateway = cfg.Gateway.Subnet.GatewayIP
		r.External = &leg
	}
	for _, one := range cfg.Interfaces {
		leg, err := plannedLeg(one)
		if err != nil {
			return none, err
		}
		r.Inside = append(r.Inside, leg)
	}
	for _, f := range cfg.FloatingIPs {
		if !validID(f.ID) {
			return none, unservable("floating IP %q: not a UUID", f.ID)
		}
		r.Floating = append(r.Floating, router.Floating{ID: f.ID, Address: f.Address, Fixed: f.FixedAddress})
	}
	for _, route := range cfg.Router.Routes {
		r.Routes = append(r.Routes, router.Route{Destination: route.Destination, NextHop: route.NextHop})
	}
	return r, nil
}

func plannedLeg(leg lbaas.RouterLeg) (router.Leg, error) {
	none := router.Leg{}
	if !validID(leg.Port.ID) {
		return none, unservable("port %q: not a UUID", leg.Port.ID)
	}
	vlan, err := plannedNetwork(&leg.Network)
	if err != nil {
		return none, err
	}
	mac, err := net.ParseMAC(leg.Port.MACAddress)
	if err != nil {
		return none, unservable("port %s: %w", leg.Port.ID, err)
	}
	return router.Leg{
		PortID: leg.Port.ID, MAC: mac,
		Address: netip.PrefixFrom(leg.Port.FixedIPs[0].IPAddress, leg.Subnet.CIDR.Bits()),
		Bridge:  leg.Network.PhysicalNetwork, VLAN: vlan,
	}, nil
}
