package tests

import (
	"net"
	"net/netip"
	"runtime"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/flood"
)

// spoofed is where a flood pretends to come from.
var spoofed = netip.MustParsePrefix("10.128.0.0/9")

// flood starts a flood at the balancer, from a host of its own beside the router.
func (b *balancer) flood(o flood.Options) *flood.Flood {
	b.w.t.Helper()
	host, err := b.w.Lab.Host("flood")
	if err != nil {
		b.w.t.Fatal(err)
	}
	err = b.w.Lab.Link(lab.End{Host: host, Device: lab.Uplink},
		lab.End{Host: b.w.Node, Device: "port-flood", Bridge: lab.BridgeName}, 0)
	if err != nil {
		b.w.t.Fatal(err)
	}
	err = lab.Within(b.netns(), func() error {
		inside, err := net.InterfaceByName(b.inside())
		if err == nil {
			o.MAC = inside.HardwareAddr
		}
		return err
	})
	if err != nil {
		b.w.t.Fatal(err)
	}
	o.Device, o.Target, o.Sources, o.CPU = lab.Uplink, b.at, spoofed, runtime.NumCPU()-1
	f, err := flood.Start(host, o)
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.w.t.Cleanup(func() { f.Stop() })
	return f
}
