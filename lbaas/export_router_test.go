package lbaas

import (
	"fmt"
	"slices"
)

// checkRouters: a router has exactly the ports that say so, and their index.
func checkRouters(tx Tx, add func(bucket, key, value string), counts map[string]int64) error {
	for o, err := range routerRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["router/"+o.TenantID]++
		if o.GatewayPortID == "" {
			continue
		}
		port, err := portRecords().must(tx, o.GatewayPortID)
		if err != nil || port.DeviceOwner != OwnerRouterGateway || port.DeviceID != o.ID || port.TenantID != "" {
			return fmt.Errorf("router %s has gateway %v: %w", o.ID, port, err)
		}
	}
	for port, err := range portRecords().all(tx) {
		if err != nil {
			return err
		}
		if port.DeviceOwner != OwnerRouterGateway && port.DeviceOwner != OwnerRouterInterface {
			continue
		}
		router, err := routerRecords().must(tx, port.DeviceID)
		if err != nil || len(port.FixedIPs) != 1 ||
			(port.DeviceOwner == OwnerRouterGateway) != (router.GatewayPortID == port.ID) {
			return fmt.Errorf("port %v of router %v: %w", port, router, err)
		}
		add(bucketPortsByRouter, router.ID+"/"+port.ID, "")
		add(bucketLegsBySubnet, port.FixedIPs[0].SubnetID+"/"+port.ID, router.ID)
	}
	return nil
}

// checkFloatingIPs: what stands for a port stands for an address that it has, once, by
// a router that joins both networks.
func checkFloatingIPs(tx Tx, add func(bucket, key, value string), counts map[string]int64) error {
	bound := map[string]bool{}
	for o, err := range floatingRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["floatingip/"+o.TenantID]++
		port, err := portRecords().must(tx, o.AddressPortID)
		if err != nil || port.DeviceID != o.ID || port.NetworkID != o.NetworkID || port.FixedIPs[0].IPAddress != o.Address {
			return fmt.Errorf("floating IP %v has port %v: %w", o, port, err)
		}
		if o.PortID == "" {
			if o.RouterID != "" || o.FixedAddress.IsValid() || o.Status != StatusDown {
				return fmt.Errorf("floating IP %v stands for nothing", o)
			}
			continue
		}
		add(bucketFloatingByPort, o.PortID+"/"+o.ID, "")
		add(bucketFloatingByRouter, o.RouterID+"/"+o.ID, "")
		key := o.PortID + o.FixedAddress.String() + o.NetworkID
		if bound[key] {
			return fmt.Errorf("floating IP %v is the second one of its fixed address", o)
		}
		bound[key] = true
		if err := checkBinding(tx, o); err != nil {
			return err
		}
	}
	return nil
}

func checkBinding(tx Tx, o *FloatingIP) error {
	config, err := routerConfig(tx, o.RouterID)
	if err != nil {
		return err
	}
	if config.Gateway == nil || config.Gateway.Port.NetworkID != o.NetworkID {
		return fmt.Errorf("floating IP %v by router %v", o, config)
	}
	target, err := portRecords().must(tx, o.PortID)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(target.FixedIPs, func(ip FixedIP) bool { return ip.IPAddress == o.FixedAddress })
	if at < 0 || !slices.ContainsFunc(config.Interfaces, func(leg RouterLeg) bool {
		return leg.Subnet.ID == target.FixedIPs[at].SubnetID
	}) {
		return fmt.Errorf("floating IP %v of port %v by router %v", o, target, config)
	}
	return nil
}
