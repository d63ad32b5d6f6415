package cost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"qlbaas/loader"
)

const bridge = "br-cost"

var (
	vip     = netip.MustParseAddrPort("172.16.100.11:80")
	other   = netip.MustParseAddrPort("172.16.100.12:80") // in the VIP's subnet, and nobody's
	gateway = netip.MustParseAddr("172.16.100.1")

	ownMAC     = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 1}
	gatewayMAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 2}
)

// memberAddress is where the n-th member lives: behind the gateway, as clients do.
func memberAddress(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, byte(n >> 8), byte(n)}), 80)
}

// node is the machine on which pools are deployed: a bridge with nobody else on it.
type node struct {
	*loader.Node
	dir, pins string
	pools     int
}

func openNode(ctx context.Context) (_ *node, err error) {
	n := &node{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.dir, err = os.MkdirTemp("", "cost"); err != nil {
		return n, err
	}
	n.pins = filepath.Join("/sys/fs/bpf", filepath.Base(n.dir))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	if err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return n, fmt.Errorf("add bridge: %w", err)
	}
	link, err := netlink.LinkByName(bridge)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return n, fmt.Errorf("set bridge up: %w", err)
	}
	// XDP brings the tc program along, on the same maps.
	n.Node, err = loader.Open(ctx, loader.Options{
		BPFFS: n.pins, RunDir: filepath.Join(n.dir, "run"), StateDir: filepath.Join(n.dir, "state"), Hook: loader.HookXDP,
	})
	return n, err
}

func (n *node) close() error {
	var errs []error
	if n.Node != nil {
		errs = append(errs, n.Close())
	}
	if link, err := netlink.LinkByName(bridge); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(append(errs, os.RemoveAll(n.pins), os.RemoveAll(n.dir))...)
}

// pool is one that package loader has deployed, with its programs and maps.
type pool struct {
	node           *node
	wanted         loader.Balancer
	ifindex        int
	xdp, tc, sweep *ebpf.Program
	table          *ebpf.Map // of flows
	flows          uint32    // that grow has opened
	// buckets is what the table took when it was empty, slabs how much all slabs have grown
	// while it was filled, in bytes.
	buckets, slabs float64
}

// deploy makes a pool of so many members that are all up, whose neighbours are known.
func (n *node) deploy(ctx context.Context, method loader.Method, members int, flows uint32) (*pool, error) {
	n.pools++
	id := func(kind int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", n.pools, kind) }
	p := &pool{node: n, wanted: loader.Balancer{
		PoolID: id(0), AdminUp: true, Method: method,
		VIP: loader.VIP{
			ID: id(1), PortID: id(2), MAC: ownMAC, AdminUp: true, Address: netip.PrefixFrom(vip.Addr(), 24), Gateway: gateway,
			Port: vip.Port(), Bridge: bridge, ConnectionLimit: -1, FlowLimit: flows,
		},
	}}
	for m := range members {
		p.wanted.Members = append(p.wanted.Members, loader.Member{ID: id(1000 + m), Address: memberAddress(m), Weight: 1, AdminUp: true})
	}
	if err := n.Apply(ctx, p.wanted); err != nil {
		return nil, fmt.Errorf("deploy pool: %w", err)
	}
	if status, err := n.Status(p.wanted.PoolID); err != nil || status.MembersUp != members {
		return nil, fmt.Errorf("%d of %d members are up, %w", status.MembersUp, members, err)
	}
	if err := n.Inside(p.wanted.PoolID, p.know); err != nil {
		return nil, fmt.Errorf("prepare pool's namespace: %w", err)
	}
	return p, p.open()
}

// know makes the gateway a neighbour of the pool's that needs no asking.
func (p *pool) know() error {
	link, err := netlink.LinkByName("ns-" + p.wanted.VIP.PortID[:11])
	if err != nil {
		return err
	}
	p.ifindex = link.Attrs().Index
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: p.ifindex, IP: gateway.AsSlice(), HardwareAddr: gatewayMAC, State: netlink.NUD_PERMANENT,
	})
}

// open takes what the loader has pinned.
func (p *pool) open() error {
	for name, to := range map[string]**ebpf.Program{"xdp_lb": &p.xdp, "tc_lb": &p.tc, "sweep_ports": &p.sweep} {
		var err error
		if *to, err = ebpf.LoadPinnedProgram(p.pin("programs", "*", name), nil); err != nil {
			return fmt.Errorf("open program %s: %w", name, err)
		}
	}
	var err error
	if p.table, err = ebpf.LoadPinnedMap(p.pin("maps", "flows"), nil); err != nil {
		return fmt.Errorf("open table of flows: %w", err)
	}
	p.buckets, err = memlock(p.table)
	return err
}

// pin is the path of something of the pool's; "*" in it stands for what there is one of.
func (p *pool) pin(below ...string) string {
	pattern := filepath.Join(append([]string{p.node.pins, "pools", p.wanted.PoolID, "v*"}, below...)...)
	if found, err := filepath.Glob(pattern); err == nil && len(found) == 1 {
		return found[0]
	}
	return pattern // whoever opens it says that it is not there
}

// inside calls fn in the pool's network namespace.
func (p *pool) inside(fn func() error) error { return p.node.Inside(p.wanted.PoolID, fn) }

// stats is what the pool has counted so far.
func (p *pool) stats() (loader.Stats, error) { return p.node.Stats(p.wanted.PoolID) }

// remove takes the pool away.
func (p *pool) remove(ctx context.Context) error {
	for _, c := range []io.Closer{p.xdp, p.tc, p.sweep, p.table} {
		if err := c.Close(); err != nil {
			return err
		}
	}
	return p.node.Remove(ctx, p.wanted.PoolID)
}
