package lbaas

import (
	"encoding/hex"
	"fmt"
	"net/netip"
)

// addressRecord says who has an address of a subnet, or when it was last given
// back. An address without a record has never been handed out.
type addressRecord struct {
	Port string `json:"port,omitempty"`
	// Released is the revision at which the last owner gave it back.
	Released uint64 `json:"released,omitempty"`
}

// addressKey orders the addresses of a subnet by number.
func addressKey(subnetID string, addr netip.Addr) string {
	return subnetID + "/" + hex.EncodeToString(addr.AsSlice())
}

// releasedKey orders given back addresses by age.
func releasedKey(subnetID string, revision uint64, addr netip.Addr) string {
	return fmt.Sprintf("%s/%016x/%s", subnetID, revision, addr)
}

// user returns the port that has addr, empty if none has.
func (m *change) user(subnet *Subnet, addr netip.Addr) (string, error) {
	var rec addressRecord
	_, err := getJSON(m.tx, bucketAddresses, addressKey(subnet.ID, addr), &rec)
	return rec.Port, err
}

// allocate gives the port an address: want, or if that is the zero Addr the
// lowest that was never used and is not taken, and when all have been used, the
// one that has rested longest. Rested addresses come last because neighbours may
// still have the former owner's hardware address in mind. It may save subnet.
func (m *change) allocate(subnet *Subnet, portID string, want netip.Addr,
	taken func(netip.Addr) bool) (netip.Addr, error) {
	if want.IsValid() {
		return want, m.claim(subnet, portID, want)
	}
	if taken == nil {
		taken = func(netip.Addr) bool { return false }
	}
	addr, err := m.fresh(subnet, taken)
	if err != nil {
		return addr, err
	}
	if !addr.IsValid() {
		addr = m.rested(subnet, taken)
	}
	if !addr.IsValid() {
		return addr, refuse(errNoAddressLeft, "No more IP addresses are available on subnet %s", subnet.ID)
	}
	return addr, m.claim(subnet, portID, addr)
}

// fresh returns the lowest address without a record, or the zero Addr, and
// remembers how far it looked.
func (m *change) fresh(subnet *Subnet, taken func(netip.Addr) bool) (netip.Addr, error) {
	next, passed := subnet.NextFresh, true
	for _, r := range subnet.AllocationPools {
		addr := r.Start
		if next.IsValid() && addr.Less(next) {
			addr = next
		}
		for ; r.contains(addr); addr = addr.Next() {
			if m.tx.Get(bucketAddresses, addressKey(subnet.ID, addr)) != nil {
				continue
			}
			if !taken(addr) {
				return addr, m.looked(subnet, addr, passed)
			}
			if passed {
				// The mark stays below an address that is skipped only this time.
				passed = false
				subnet.NextFresh = addr
			}
		}
	}
	if n := len(subnet.AllocationPools); n > 0 {
		return netip.Addr{}, m.looked(subnet, subnet.AllocationPools[n-1].End.Next(), passed)
	}
	return netip.Addr{}, nil
}

func (m *change) looked(subnet *Subnet, addr netip.Addr, passed bool) error {
	if passed {
		subnet.NextFresh = addr
	}
	return subnetRecords().save(m.tx, subnet)
}

// rested returns the address that was given back longest ago, or the zero Addr.
func (m *change) rested(subnet *Subnet, taken func(netip.Addr) bool) netip.Addr {
	for key := range under(m.tx, bucketReleased, subnet.ID) {
		addr, err := netip.ParseAddr(key[17:])
		if err != nil || taken(addr) {
			continue
		}
		for _, r := range subnet.AllocationPools {
			if r.contains(addr) {
				return addr
			}
		}
	}
	return netip.Addr{}
}

// claim records that the port has addr, unless it can't have it.
func (m *change) claim(subnet *Subnet, portID string, addr netip.Addr) error {
	if !isHost(subnet.CIDR, addr) {
		return refuse(errInvalidIP, "IP address %s is not a valid host address of the subnet %s", addr, subnet.CIDR)
	}
	if what := unreachable(addr); what != "" {
		return refuse(errInvalidIP, "IP address %s is %s, which no host has", addr, what)
	}
	if addr == subnet.GatewayIP {
		return refuse(errAddressInUse, "IP address %s is the gateway of subnet %s", addr, subnet.ID)
	}
	return m.occupy(subnet, portID, addr)
}

// occupy records that the port has addr, unless another one has it.
func (m *change) occupy(subnet *Subnet, portID string, addr netip.Addr) error {
	key := addressKey(subnet.ID, addr)
	var rec addressRecord
	found, err := getJSON(m.tx, bucketAddresses, key, &rec)
	if err != nil {
		return err
	}
	if rec.Port != "" {
		return refuse(errAddressInUse, "IP address %s of subnet %s is in use by port %s", addr, subnet.ID, rec.Port)
	}
	if found {
		if err := m.tx.Delete(bucketReleased, releasedKey(subnet.ID, rec.Released, addr)); err != nil {
			return err
		}
	}
	return putJSON(m.tx, bucketAddresses, key, addressRecord{Port: portID})
}

// release gives an address back, to rest.
func (m *change) release(ip FixedIP) error {
	key := addressKey(ip.SubnetID, ip.IPAddress)
	if err := m.tx.Put(bucketReleased, releasedKey(ip.SubnetID, m.revision, ip.IPAddress), []byte{}); err != nil {
		return err
	}
	return putJSON(m.tx, bucketAddresses, key, addressRecord{Released: m.revision})
}

// forgetAddresses removes the records of a subnet that nobody uses any more.
func (m *change) forgetAddresses(o *Subnet) error {
	for _, key := range keysUnder(m.tx, bucketAddresses, o.ID) {
		var rec addressRecord
		if _, err := getJSON(m.tx, bucketAddresses, o.ID+"/"+key, &rec); err != nil {
			return err
		}
		if rec.Port != "" {
			return refuse(errSubnetInUse, "Subnet %s is still in use by port %s", o.ID, rec.Port)
		}
		if err := m.tx.Delete(bucketAddresses, o.ID+"/"+key); err != nil {
			return err
		}
	}
	for _, key := range keysUnder(m.tx, bucketReleased, o.ID) {
		if err := m.tx.Delete(bucketReleased, o.ID+"/"+key); err != nil {
			return err
		}
	}
	return nil
}
