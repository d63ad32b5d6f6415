package traffic

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"qlbaas/loader"
)

// flowLimit of our pools does not bind either.
const flowLimit = 131_072

// addOurs deploys a pool for requests and one for bulk on every hook.
func (l *laboratory) addOurs(ctx context.Context) error {
	for _, o := range []struct {
		name string
		way  way
		loader.Options
	}{
		{oursTCX, byOutside, loader.Options{Hook: loader.HookTCX}},
		{oursInside, byInside, loader.Options{Hook: loader.HookTCX, NoOutside: true}},
		{oursXDP, byXDP, loader.Options{Hook: loader.HookXDP}},
		{oursClsact, byInside, loader.Options{Hook: loader.HookClsact}},
	} {
		n, err := l.openNode(ctx, o.name, o.Options)
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		l.nodes[o.name] = n
		s := &subject{name: o.name, way: o.way, ours: true}
		if s.requests, s.inspect, err = l.deploy(ctx, n, loader.RoundRobin, l.endpoints(port)); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		if s.bulk, s.inspectBulk, err = l.deploy(ctx, n, loader.RoundRobin, l.endpoints(bulkPort)); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		l.subjects = append(l.subjects, s)
	}
	return nil
}

// openNode opens what has pools of its own.
func (l *laboratory) openNode(ctx context.Context, name string, o loader.Options) (*loader.Node, error) {
	o.BPFFS = filepath.Join("/sys/fs/bpf", "bench-"+name) // of this private world
	o.RunDir, o.StateDir = filepath.Join(l.dir, name, "run"), filepath.Join(l.dir, name, "state")
	n, err := loader.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	l.onClose(n.Close)
	return n, nil
}

// endpoints are both members at a port.
func (l *laboratory) endpoints(port uint16) (all []netip.AddrPort) {
	for _, a := range l.memberAddresses() {
		all = append(all, netip.AddrPortFrom(a, port))
	}
	return all
}

// uuid is the n-th of a pool.
func uuid(pool, n int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", pool, n)
}

// deploy makes a pool; its VIP has the members' port.
func (l *laboratory) deploy(ctx context.Context, n *loader.Node, method loader.Method, members []netip.AddrPort) ([]netip.AddrPort, func() (counts, error), error) {
	l.pools++
	vip := netip.AddrPortFrom(l.nextVIP(), members[0].Port())
	b := loader.Balancer{
		PoolID: uuid(l.pools, 0), AdminUp: true, Method: method,
		VIP: loader.VIP{
			ID: uuid(l.pools, 1), PortID: uuid(l.pools, 2), AdminUp: true,
			MAC:     net.HardwareAddr{0xfa, 0x16, 0x3e, 0xb, byte(l.pools >> 8), byte(l.pools)},
			Address: netip.PrefixFrom(vip.Addr(), prefixBits), Port: vip.Port(), Bridge: bridgeName,
			ConnectionLimit: -1, FlowLimit: flowLimit,
		},
	}
	for i, m := range members {
		b.Members = append(b.Members, loader.Member{ID: uuid(l.pools, 3+i), Address: m, Weight: 1, AdminUp: true})
	}
	if err := n.Apply(ctx, b); err != nil {
		return nil, nil, err
	}
	l.onClose(func() error { return n.Remove(context.WithoutCancel(ctx), b.PoolID) })
	tap := "tap" + b.VIP.PortID[:11]
	where := place{
		tap: tap, inside: "ns-" + b.VIP.PortID[:11],
		enter: func(fn func() error) error { return n.Inside(b.PoolID, fn) },
		forwarded: func() (uint64, error) {
			s, err := n.Stats(b.PoolID)
			return s.PacketsIn + s.PacketsOut, err
		},
	}
	return []netip.AddrPort{vip}, where.inspect, awaitCarrier(ctx, tap)
}
