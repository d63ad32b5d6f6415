package lbaas

import (
	"cmp"
	"context"
	"slices"
)

// The kinds of routed objects that have a status from the node.
const (
	KindRouter     Kind = "router"
	KindFloatingIP Kind = "floatingip"
)

// RouterConfig is everything that one router is made from, as of one revision of the
// store.
type RouterConfig struct {
	// Revision is the store's at the time of reading.
	Revision uint64
	Router   Router
	// Gateway is nil without one.
	Gateway *RouterLeg
	// Interfaces and FloatingIPs in the order of their creation.
	Interfaces  []RouterLeg
	FloatingIPs []FloatingIP
}

// RouterLeg is a router's port, with what its only address stands on.
type RouterLeg struct {
	Port    Port
	Subnet  Subnet
	Network Network
}

// RouterIDs returns the ids of all routers, oldest first.
func (s *Service) RouterIDs(ctx context.Context) ([]string, error) {
	var routers []Header
	err := s.opts.Store.View(ctx, func(tx Tx) error {
		routers = nil
		for o, err := range routerRecords().all(tx) {
			if err != nil {
				return err
			}
			routers = append(routers, o.Header)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(routers, func(a, b Header) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	ids := make([]string, len(routers))
	for i, o := range routers {
		ids[i] = o.ID
	}
	return ids, nil
}

// RouterConfig reads one router whole. The error of a router that is not (or no
// longer) there satisfies IsNotFound: whatever is on the node is to be removed.
func (s *Service) RouterConfig(ctx context.Context, id string) (RouterConfig, error) {
	var config RouterConfig
	err := s.opts.Store.View(ctx, func(tx Tx) (err error) {
		config, err = routerConfig(tx, id)
		return err
	})
	if err != nil {
		return RouterConfig{}, err
	}
	return config, nil
}

func routerConfig(tx Tx, id string) (RouterConfig, error) {
	var config RouterConfig
	router, err := routerRecords().get(tx, id)
	if err != nil {
		return config, err
	}
	if router == nil {
		return config, routerResource().notFound(id)
	}
	config.Router = *router
	if config.Revision, err = Revision(tx); err != nil {
		return config, err
	}
	ports, err := legsOf(tx, id)
	if err != nil {
		return config, err
	}
	for _, port := range ports {
		leg, err := routerLeg(tx, port)
		if err != nil {
			return config, err
		}
		if port.ID == router.GatewayPortID {
			config.Gateway = &leg
			continue
		}
		config.Interfaces = append(config.Interfaces, leg)
	}
	slices.SortFunc(config.Interfaces, func(a, b RouterLeg) int {
		return cmp.Or(cmp.Compare(a.Port.Created, b.Port.Created), cmp.Compare(a.Port.ID, b.Port.ID))
	})
	for id := range under(tx, bucketFloatingByRouter, id) {
		floating, err := floatingRecords().must(tx, id)
		if err != nil {
			return config, err
		}
		config.FloatingIPs = append(config.FloatingIPs, *floating)
	}
	slices.SortFunc(config.FloatingIPs, func(a, b FloatingIP) int { return cmp.Compare(a.Created, b.Created) })
	return config, nil
}

func routerLeg(tx Tx, port *Port) (RouterLeg, error) {
	leg := RouterLeg{Port: *port}
	subnet, err := subnetRecords().must(tx, port.FixedIPs[0].SubnetID)
	if err != nil {
		return leg, err
	}
	network, err := networkRecords().must(tx, port.NetworkID)
	if err != nil {
		return leg, err
	}
	leg.Subnet, leg.Network = *subnet, *network
	return leg, nil
}
