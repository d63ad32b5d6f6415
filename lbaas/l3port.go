package lbaas

// isExternal tells the ports that routers and floating IPs have on external networks,
// for whoever uses them.
func (o *Port) isExternal() bool {
	return o.DeviceOwner == OwnerRouterGateway || o.DeviceOwner == OwnerFloatingIP
}

// l3PortStatus is what the router says, or the floating IP, that the port belongs to.
func l3PortStatus(tx Tx, o *Port) (Status, error) {
	if o.DeviceOwner == OwnerFloatingIP {
		floating, err := floatingRecords().get(tx, o.DeviceID)
		if err != nil || floating == nil || floating.Status != StatusActive {
			return StatusDown, err
		}
		return StatusActive, nil
	}
	router, err := routerRecords().get(tx, o.DeviceID)
	if err != nil || router == nil || !router.AdminStateUp || router.Status != StatusActive {
		return StatusDown, err
	}
	return StatusActive, nil
}
