package router

import (
	"context"

	"qlbaas/loader/setting"
)

// ensureSettings writes the sysctls of the namespace and of the legs.
func (n *Node) ensureSettings(ctx context.Context, r *router, wires []*wire) error {
	return r.ns.Do(func() error {
		if err := setting.Write(ctx, n.steps(), namespaceSettings()); err != nil {
			return err
		}
		for _, w := range wires {
			if err := setting.Write(ctx, n.steps(), deviceSettings(w.inside.Attrs().Name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func namespaceSettings() []setting.Sysctl {
	return append(commonSettings("all"),
		// First of all: it sets those of the devices as well.
		setting.Sysctl{Path: "ipv4/conf/all/forwarding", Value: "1"},
		setting.Sysctl{Path: "ipv4/conf/all/rp_filter", Value: "0"},
		// The stack's NAT sees single packets of connections that programs carry.
		setting.Sysctl{Path: "netfilter/nf_conntrack_tcp_be_liberal", Value: "1", Optional: true},
		setting.Sysctl{Path: "netfilter/nf_conntrack_tcp_loose", Value: "1", Optional: true})
}

func deviceSettings(device string) []setting.Sysctl {
	neigh := "ipv4/neigh/" + device + "/"
	return append(commonSettings(device),
		setting.Sysctl{Path: "ipv4/conf/" + device + "/forwarding", Value: "1"},
		// Whoever uses an address that is behind another leg is not forwarded.
		setting.Sysctl{Path: "ipv4/conf/" + device + "/rp_filter", Value: "1"},
		// As a pool's device: the kernel probes the neighbours that programs send to.
		setting.Sysctl{Path: neigh + "base_reachable_time_ms", Value: "5000"},
		setting.Sysctl{Path: neigh + "delay_first_probe_time", Value: "1"},
		setting.Sysctl{Path: neigh + "retrans_time_ms", Value: "500"},
		setting.Sysctl{Path: neigh + "mcast_resolicit", Value: "3"})
}

func commonSettings(device string) []setting.Sysctl {
	v4 := "ipv4/conf/" + device + "/"
	return []setting.Sysctl{
		{Path: v4 + "send_redirects", Value: "0"},
		{Path: v4 + "accept_redirects", Value: "0"},
		{Path: v4 + "accept_source_route", Value: "0"},
		// A leg answers for its own addresses only.
		{Path: v4 + "arp_ignore", Value: "1"},
		{Path: v4 + "arp_announce", Value: "2"},
		// Floating IPs, and the networks here, are IPv4.
		{Path: "ipv6/conf/" + device + "/disable_ipv6", Value: "1", Optional: true},
	}
}
