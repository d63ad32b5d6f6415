package rtnl_test

import (
	"net"
	"net/netip"
	"testing"

	"qlbaas/loader/rtnl"
)

func TestPrefix(t *testing.T) {
	for _, text := range []string{"0.0.0.0/0", "172.16.100.11/24", "10.0.0.1/32", "::/0", "2001:db8::11/64", "fe80::1/128"} {
		p := netip.MustParsePrefix(text)
		n := rtnl.IPNet(p)
		if n.String() != text {
			t.Errorf("%s is %s to netlink", p, n)
		}
		if back := rtnl.Prefix(n); back != p {
			t.Errorf("%s comes back as %s", p, back)
		}
		n.IP = n.IP.To16() // as netlink gives some IPv4 addresses
		if back := rtnl.Prefix(n); back != p {
			t.Errorf("%s of 16 bytes comes back as %s", p, back)
		}
	}
	for _, none := range []*net.IPNet{nil, {}, {IP: net.IP{1, 2, 3}}} {
		if p := rtnl.Prefix(none); p.IsValid() {
			t.Errorf("%v is %s", none, p)
		}
	}
}
