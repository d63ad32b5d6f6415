package router

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stale matches connections of the stack that are translated in another way than they would
// be now.
type stale struct {
	floating, fixed map[netip.Addr]netip.Addr
	external        netip.Addr
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	source, destination := addrOf(flow.Forward.SrcIP), addrOf(flow.Forward.DstIP)
	// The answer's addresses are those that the packet left with.
	to, from := addrOf(flow.Reverse.SrcIP), addrOf(flow.Reverse.DstIP)
	if destination != to && s.floating[destination] != to {
		return true
	}
	if destination == to && s.floating[destination].IsValid() {
		return true // it reached nobody
	}
	return source != from && s.fixed[source] != from && (s.fixed[source].IsValid() || from != s.external)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// endStale makes the stack forget connections of floating IPs that lead elsewhere now. It
// must run on a thread inside the namespace.
func endStale(w *Router) error {
	s := stale{map[netip.Addr]netip.Addr{}, map[netip.Addr]netip.Addr{}, netip.Addr{}}
	for _, f := range w.floating() {
		s.floating[f.Address], s.fixed[f.Fixed] = f.Fixed, f.Address
	}
	if w.External != nil {
		s.external = w.External.Address.Addr()
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, s); err != nil {
		return fmt.Errorf("end connections of the stack: %w", err)
	}
	return nil
}
