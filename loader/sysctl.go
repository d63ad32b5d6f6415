package loader

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"qlbaas/loader/setting"
	"qlbaas/maps"
)

// sysctl is one setting of a network namespace.
type sysctl = setting.Sysctl

// The namespace's own sockets take their ports where the programs take none, so that
// neither ever meets the other: those of probes above the range of NAT ports, those of a
// sidecar in it.
const (
	probePortMin = 65024
	probePorts   = "65024\t65535"
	sidecarPorts = "1024\t65023"
)

// ownPorts is the range of the namespace's own sockets. A sidecar has few ports while
// connections that the kernel has balanced still have some of the others.
func (p *pool) ownPorts(b *Balancer) (string, error) {
	if b.Sidecar != SidecarServes {
		return probePorts, nil
	}
	if p.view == nil {
		return sidecarPorts, nil
	}
	used, err := p.natPortsUsed()
	if err != nil || used > 0 {
		return probePorts, err
	}
	return sidecarPorts, nil
}

// ensurePorts sets which ports the namespace's own sockets take: never the listener's.
func (n *Node) ensurePorts(ctx context.Context, p *pool, b *Balancer) error {
	ports, err := p.ownPorts(b)
	if err != nil {
		return err
	}
	var first, last uint16
	if _, err := fmt.Sscan(ports, &first, &last); err != nil {
		return fmt.Errorf("read range %q: %w", ports, err)
	}
	reserved := ""
	if first <= b.VIP.Port && b.VIP.Port <= last {
		reserved = strconv.Itoa(int(b.VIP.Port))
	}
	return p.ns.Do(func() error {
		return n.setSysctls(ctx, []sysctl{
			{Path: "ipv4/ip_local_reserved_ports", Value: reserved},
			{Path: "ipv4/ip_local_port_range", Value: ports},
		})
	})
}

// natPortsUsed is how many ports toward members the programs have.
func (p *pool) natPortsUsed() (n uint32, _ error) {
	for _, m := range p.membersNow() {
		holds, err := p.view.MemberState(m.slot)
		if errors.Is(err, maps.ErrNotFound) {
			continue // it has just gone with its last flow
		}
		if err != nil {
			return 0, err
		}
		n += holds.PortsUsed
	}
	return n, nil
}

// namespaceSysctls are the settings of a pool's namespace apart from its device and ports.
func namespaceSysctls(f family) []sysctl { return deviceSysctls(f, "all") }

// deviceSysctls are the settings of one device, or of "all". IPv4's are the same for
// both families: a pool without IPv4 address has nothing that they could spoil.
func deviceSysctls(f family, device string) []sysctl {
	v4 := "ipv4/conf/" + device + "/"
	settings := []sysctl{
		// Answers may come from where no route leads; the program has its own checks.
		{Path: v4 + "rp_filter", Value: "0"},
		// The stack looks at every packet before the guard does, and must not
		// teach hosts other ways nor learn any.
		{Path: v4 + "send_redirects", Value: "0"},
		{Path: v4 + "accept_redirects", Value: "0"},
		{Path: v4 + "accept_source_route", Value: "0"},
		// Only this device's own address is answered for and announced.
		{Path: v4 + "arp_ignore", Value: "1"},
		{Path: v4 + "arp_announce", Value: "2"},
	}
	if f == ipv6 {
		settings = append(settings, deviceSysctls6(device)...)
	} else {
		// The wanted state of the pool needs no IPv6, so nothing listens there.
		settings = append(settings,
			sysctl{Path: "ipv6/conf/" + device + "/disable_ipv6", Value: "1", Optional: true})
	}
	if device == "all" {
		return settings
	}
	neigh := "ipv4/neigh/" + device + "/"
	forwarding := v4 + "forwarding"
	if f == ipv6 {
		neigh, forwarding = "ipv6/neigh/"+device+"/", "ipv6/conf/"+device+"/forwarding"
	}
	return append(settings,
		// bpf_fib_lookup answers only for devices that may forward. The stack would
		// forward as well, so the guard drops whatever tries.
		sysctl{Path: forwarding, Value: "1"},
		// The kernel probes the members' addresses (device.ManageNeighbours). These
		// limits make it notice a member whose MAC changed without a word within some
		// 15 s, and ask everybody before it gives up on the old MAC.
		sysctl{Path: neigh + "base_reachable_time_ms", Value: "5000"},
		sysctl{Path: neigh + "delay_first_probe_time", Value: "1"},
		sysctl{Path: neigh + "retrans_time_ms", Value: "500"},
		sysctl{Path: neigh + "mcast_resolicit", Value: "3"},
	)
}

// deviceSysctls6 keep the network from configuring a device: its addresses and routes
// are the loader's to choose.
func deviceSysctls6(device string) []sysctl {
	v6 := "ipv6/conf/" + device + "/"
	settings := []sysctl{
		{Path: v6 + "disable_ipv6", Value: "0"},
		{Path: v6 + "accept_ra", Value: "0"},
		{Path: v6 + "autoconf", Value: "0"},
		{Path: v6 + "accept_redirects", Value: "0"},
		{Path: v6 + "accept_source_route", Value: "-1"},
	}
	if device == "all" {
		return settings
	}
	return append(settings,
		// The link-local address is ours to add (wantedAddresses), so that it can be
		// repaired as well.
		sysctl{Path: v6 + "addr_gen_mode", Value: "1"},
		// A VIP that is admin-down keeps its address as an IPv4 one does.
		sysctl{Path: v6 + "keep_addr_on_down", Value: "1"})
}

// setSysctls writes what differs. It must run on a thread inside the namespace.
func (n *Node) setSysctls(ctx context.Context, settings []sysctl) error {
	return setting.Write(ctx, n.steps(), settings)
}
