package loader

import (
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"qlbaas/maps"
)

// family is the address family of a pool: its VIP's and its members'. A pool has one
// only, and programs and maps of their own go with it; devices, guard and everything
// else differ in values.
type family uint8

const (
	ipv4 family = iota
	ipv6
	families // how many there are
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

func (b *Balancer) family() family { return familyOf(b.VIP.Address.Addr()) }

func (f family) String() string {
	if f == ipv4 {
		return "IPv4"
	}
	return "IPv6"
}

// number is the kernel's, as netlink wants it.
func (f family) number() int {
	if f == ipv4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// everywhere is the destination of a default route.
func (f family) everywhere() netip.Prefix {
	if f == ipv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// sameKeys tells whether a map has the keys of this object's map of that name; the
// families differ in them.
func (o *objects) sameKeys(name string, m *ebpf.Map) bool {
	return m != nil && m.KeySize() == o.tc.Maps[name].KeySize
}

// familyOfMaps knows a pool's family by its flows.
func (n *Node) familyOfMaps(own *maps.PoolMaps) (f family, known bool) {
	for f = range families {
		if n.objects[f].sameKeys("flows", own.Flows) {
			return f, true
		}
	}
	return ipv4, false
}

// builds are those of this binary, of all families.
func (n *Node) builds() []string {
	var all []string
	for f := range families {
		all = append(all, n.objects[f].build)
	}
	return all
}
