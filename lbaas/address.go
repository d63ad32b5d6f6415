package lbaas

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// parseIP reads an address of either family. IPv4 in the disguise of IPv6, which no
// wire has, and addresses with a zone are refused by their own words.
func parseIP(attr string, v any) (netip.Addr, error) {
	s, err := stringOf(attr, v)
	if err != nil {
		return netip.Addr{}, err
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, invalid(errBadRequest, attr, "%s is not a valid IP address", quote(s))
	}
	switch {
	case addr.Is4In6():
		return netip.Addr{}, invalid(errBadRequest, attr, "%s is an IPv4-mapped IPv6 address, write %s",
			quote(s), addr.Unmap())
	case addr.Zone() != "":
		return netip.Addr{}, invalid(errBadRequest, attr, "%s has a zone, which no other host knows", quote(s))
	}
	return addr, nil
}

// addressKind reads a netip.Addr.
func addressKind() kind {
	return kind{parse: func(attr string, v any) (any, error) { return orError(parseIP(attr, v)) }}
}

// orError keeps a value that came with an error out of an interface.
func orError[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

// endpointKind reads the netip.Addr of a member: one that a packet to it can
// reach over a network.
func endpointKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		addr, err := parseIP(attr, v)
		if err != nil {
			return nil, err
		}
		if what := unreachable(addr); what != "" {
			return nil, invalid(errBadRequest, attr, "%s is %s and cannot be a member's address", addr, what)
		}
		return addr, nil
	}}
}

// unreachable says why no other host can have addr, and is empty for others.
func unreachable(addr netip.Addr) string {
	switch {
	case addr.IsUnspecified():
		return "the unspecified address"
	case addr.IsLoopback():
		return "a loopback address"
	case addr.IsLinkLocalUnicast():
		return "a link-local address"
	case addr.IsMulticast():
		return "a multicast address"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	}
	return ""
}

// addressListKind reads []netip.Addr of at most max distinct addresses.
func addressListKind(max int) kind {
	return kind{parse: func(attr string, v any) (any, error) {
		list, err := listOf(attr, v, max)
		if err != nil {
			return nil, err
		}
		addrs := make([]netip.Addr, 0, len(list))
		for _, entry := range list {
			addr, err := parseIP(attr, entry)
			if err != nil {
				return nil, err
			}
			if slices.Contains(addrs, addr) {
				return nil, invalid(errBadRequest, attr, "%s is there twice", addr)
			}
			addrs = append(addrs, addr)
		}
		return addrs, nil
	}}
}

// cidrKind reads the netip.Prefix of a subnet: without host bits, with room for
// a gateway and a host, and none that hosts can't use.
func cidrKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		s, err := stringOf(attr, v)
		if err != nil {
			return nil, err
		}
		cidr, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, invalid(errBadRequest, attr, "%s is not a valid IP subnet", quote(s))
		}
		if cidr.Addr().Is4In6() {
			return nil, invalid(errBadRequest, attr, "%s is an IPv4-mapped IPv6 subnet", quote(s))
		}
		if cidr.Masked() != cidr {
			return nil, invalid(errBadRequest, attr, "%s has host bits set, %s is recommended", cidr, cidr.Masked())
		}
		if longest := cidr.Addr().BitLen() - 2; cidr.Bits() < 1 || cidr.Bits() > longest {
			return nil, invalid(errBadRequest, attr, "the prefix length %d is not in the range 1 to %d",
				cidr.Bits(), longest)
		}
		if what := unreachable(cidr.Addr()); what != "" {
			return nil, invalid(errBadRequest, attr, "%s is %s", cidr.Addr(), what)
		}
		return cidr, nil
	}}
}

// lastAddr returns the highest address of p; of an IPv4 subnet, its broadcast.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// isHost tells whether addr can be a host's in p: inside, and neither the network's
// own address (in IPv6 that of all its routers) nor the broadcast, which IPv6 has not.
func isHost(p netip.Prefix, addr netip.Addr) bool {
	return p.Contains(addr) && addr != p.Addr() && (addr.Is6() || addr != lastAddr(p))
}

// rangesKind reads a []AddressRange, sorted.
func rangesKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		list, err := listOf(attr, v, maxList)
		if err != nil {
			return nil, err
		}
		ranges := make([]AddressRange, 0, len(list))
		for _, entry := range list {
			fields, err := fieldsOf(attr, entry, "start", "end")
			if err != nil {
				return nil, err
			}
			start, err := parseIP(attr, fields["start"])
			if err != nil {
				return nil, err
			}
			end, err := parseIP(attr, fields["end"])
			if err != nil {
				return nil, err
			}
			if start.Is4() != end.Is4() {
				return nil, invalid(errBadRequest, attr, "%s and %s are of different address families", start, end)
			}
			if end.Less(start) {
				return nil, invalid(errBadRequest, attr, "%s is after %s", start, end)
			}
			ranges = append(ranges, AddressRange{Start: start, End: end})
		}
		slices.SortFunc(ranges, func(a, b AddressRange) int { return a.Start.Compare(b.Start) })
		for i := 1; i < len(ranges); i++ {
			if !ranges[i-1].End.Less(ranges[i].Start) {
				return nil, invalid(errBadRequest, attr, "the ranges from %s and from %s overlap",
					ranges[i-1].Start, ranges[i].Start)
			}
		}
		return ranges, nil
	}}
}

// fieldsOf reads a JSON object that may have the given keys only.
func fieldsOf(attr string, v any, allowed ...string) (map[string]any, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, invalid(errBadRequest, attr, "%s is not an object", quote(v))
	}
	for key := range fields {
		if !slices.Contains(allowed, key) {
			return nil, invalid(errBadRequest, attr, "the key %s is not one of %s",
				quote(key), strings.Join(allowed, ", "))
		}
	}
	return fields, nil
}

// maxFixedIPs is how many addresses one port can have; a VIP's port carries the
// VIP's address and its SNAT addresses.
const maxFixedIPs = 64

// fixedIPsKind reads a []FixedIP in which either field can be missing, not both.
func fixedIPsKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		list, err := listOf(attr, v, maxFixedIPs)
		if err != nil {
			return nil, err
		}
		ips := make([]FixedIP, 0, len(list))
		for _, entry := range list {
			ip, err := parseFixedIP(attr, entry)
			if err != nil {
				return nil, err
			}
			ips = append(ips, ip)
		}
		return ips, nil
	}}
}

func parseFixedIP(attr string, v any) (FixedIP, error) {
	var ip FixedIP
	fields, err := fieldsOf(attr, v, "subnet_id", "ip_address")
	if err != nil {
		return ip, err
	}
	if len(fields) == 0 {
		return ip, invalid(errBadRequest, attr, "an entry needs subnet_id or ip_address")
	}
	if raw, ok := fields["subnet_id"]; ok {
		id, err := uuidKind().parse(attr, raw)
		if err != nil {
			return ip, err
		}
		ip.SubnetID = id.(string)
	}
	if raw, ok := fields["ip_address"]; ok {
		ip.IPAddress, err = parseIP(attr, raw)
	}
	return ip, err
}

// macKind reads the hardware address of a host, a string in lower case with colons.
func macKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		s, err := stringOf(attr, v)
		if err != nil {
			return nil, err
		}
		mac, err := net.ParseMAC(s)
		if err != nil || len(mac) != 6 || !strings.Contains(s, ":") {
			return nil, invalid(errBadRequest, attr, "%s is not a valid MAC address", quote(s))
		}
		if mac[0]&1 != 0 || strings.Trim(mac.String(), "0:") == "" {
			return nil, invalid(errBadRequest, attr, "%s is not the address of one host", mac)
		}
		return mac.String(), nil
	}}
}

// deviceKind reads the name of a network device, a string.
func deviceKind() kind {
	return stringKind(func(attr, s string) error {
		bad := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' || r == '%' }
		if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsFunc(s, bad) {
			return invalid(errBadRequest, attr,
				"%s is not the name of a network device (1 to 15 printable characters without / : %%)", quote(s))
		}
		return nil
	})
}
