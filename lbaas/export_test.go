package lbaas

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
)

// CheckStore compares every index, count and reference with the objects that
// they are made from.
func CheckStore(tx Tx) error {
	want := map[string]map[string]string{}
	add := func(bucket, key, value string) {
		if want[bucket] == nil {
			want[bucket] = map[string]string{}
		}
		want[bucket][key] = value
	}
	counts := map[string]int64{}
	for _, check := range []func(Tx, func(bucket, key, value string), map[string]int64) error{
		checkPools, checkMembers, checkNetworks, checkPorts, checkMonitors, checkRouters, checkFloatingIPs,
	} {
		if err := check(tx, add, counts); err != nil {
			return err
		}
	}
	for key, n := range counts {
		add(bucketCounts, key, fmt.Sprint(n))
	}
	for _, bucket := range []string{bucketMembersByPool, bucketPoolsBySubnet, bucketAssocByMonitor,
		bucketSubnetsByNetwork, bucketPortsByNetwork, bucketMACs, bucketCounts,
		bucketPortsByRouter, bucketLegsBySubnet, bucketFloatingByPort, bucketFloatingByRouter} {
		got := map[string]string{}
		for key, value := range tx.Scan(bucket, "") {
			got[key] = string(value)
		}
		if !reflect.DeepEqual(got, want[bucket]) && len(got)+len(want[bucket]) > 0 {
			return fmt.Errorf("index %s is %v, want %v", bucket, got, want[bucket])
		}
	}
	return checkAddresses(tx)
}

func checkPools(tx Tx, add func(bucket, key, value string), counts map[string]int64) error {
	for p, err := range poolRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["pool/"+p.TenantID]++
		add(bucketPoolsBySubnet, p.SubnetID+"/"+p.ID, "")
		if p.VIPID == "" {
			continue
		}
		if v, err := vipRecords().must(tx, p.VIPID); err != nil || v.PoolID != p.ID {
			return fmt.Errorf("pool %s has vip %s: %v %w", p.ID, p.VIPID, v, err)
		}
	}
	for v, err := range vipRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["vip/"+v.TenantID]++
		p, err := poolRecords().must(tx, v.PoolID)
		if err != nil || p.VIPID != v.ID || p.TenantID != v.TenantID || p.Protocol != v.Protocol {
			return fmt.Errorf("vip %s has pool %s: %v %w", v.ID, v.PoolID, p, err)
		}
		port, err := portRecords().must(tx, v.PortID)
		if err != nil || port.DeviceID != v.ID || port.FixedIPs[0].IPAddress != v.Address ||
			len(port.FixedIPs) != 1+len(v.SNATAddresses) {
			return fmt.Errorf("vip %s has port %s: %v %w", v.ID, v.PortID, port, err)
		}
	}
	return nil
}

func checkMembers(tx Tx, add func(bucket, key, value string), counts map[string]int64) error {
	for e, err := range memberRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["member/"+e.TenantID]++
		add(bucketMembersByPool, memberKey(e), e.ID)
		p, err := poolRecords().must(tx, e.PoolID)
		if err != nil || p.TenantID != e.TenantID {
			return fmt.Errorf("member %s has pool %s: %v %w", e.ID, e.PoolID, p, err)
		}
		if p.VIPID != "" {
			if v, err := vipRecords().must(tx, p.VIPID); err != nil || v.Address == e.Address {
				return fmt.Errorf("member %s at %s of vip %v: %w", e.ID, e.Address, v, err)
			}
		}
	}
	return nil
}

func checkMonitors(tx Tx, add func(bucket, key, value string), counts map[string]int64) error {
	for o, err := range monitorRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["health_monitor/"+o.TenantID]++
	}
	for a, err := range associationRecords().all(tx) {
		if err != nil {
			return err
		}
		add(bucketAssocByMonitor, a.MonitorID+"/"+a.PoolID, "")
		if _, err := poolRecords().must(tx, a.PoolID); err != nil {
			return err
		}
		if _, err := monitorRecords().must(tx, a.MonitorID); err != nil {
			return err
		}
	}
	return nil
}

func checkNetworks(tx Tx, add func(bucket, key, value string), counts map[string]int64) error {
	for o, err := range networkRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["network/"+o.TenantID]++
	}
	for o, err := range subnetRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["subnet/"+o.TenantID]++
		add(bucketSubnetsByNetwork, o.NetworkID+"/"+o.ID, "")
		if _, err := networkRecords().must(tx, o.NetworkID); err != nil {
			return err
		}
	}
	return nil
}

func checkPorts(tx Tx, add func(bucket, key, value string), counts map[string]int64) error {
	for o, err := range portRecords().all(tx) {
		if err != nil {
			return err
		}
		counts["port/"+o.TenantID]++
		add(bucketPortsByNetwork, o.NetworkID+"/"+o.ID, "")
		add(bucketMACs, o.NetworkID+"/"+o.MACAddress, o.ID)
		if o.DeviceOwner == OwnerLoadBalancer {
			if _, err := vipRecords().must(tx, o.DeviceID); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkAddresses: an address record says "port" exactly for what ports have, and
// what it says was released is in the queue of released addresses.
func checkAddresses(tx Tx) error {
	used, released := map[string]string{}, map[string]bool{}
	for key, raw := range tx.Scan(bucketAddresses, "") {
		var rec addressRecord
		if err := json.Unmarshal(raw, &rec); err != nil {
			return err
		}
		if rec.Port != "" {
			used[key] = rec.Port
			continue
		}
		released[fmt.Sprintf("%s@%016x", key, rec.Released)] = true
	}
	want := map[string]string{}
	for o, err := range portRecords().all(tx) {
		if err != nil {
			return err
		}
		for _, ip := range o.FixedIPs {
			want[addressKey(ip.SubnetID, ip.IPAddress)] = o.ID
		}
	}
	if !maps.Equal(used, want) {
		return fmt.Errorf("addresses in use %v, ports have %v", used, want)
	}
	queue := map[string]bool{}
	for key := range tx.Scan(bucketReleased, "") {
		subnet, at, addr := key[:36], key[37:53], netip.MustParseAddr(key[54:])
		queue[addressKey(subnet, addr)+"@"+at] = true
	}
	if !maps.Equal(queue, released) {
		return fmt.Errorf("released addresses %v, the queue has %v", released, queue)
	}
	return nil
}
