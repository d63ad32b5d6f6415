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
	pools     []*pool
}

func newNode() (_ *node, err error) {
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
	return n, nil
}

// use moves all pools to another hook, with the connections that they have.
func (n *node) use(ctx context.Context, hook string) (err error) {
	if n.Node != nil {
		if err := n.Close(); err != nil {
			return fmt.Errorf("close node: %w", err)
		}
	}
	n.Node, err = loader.Open(ctx, loader.Options{
		BPFFS: n.pins, RunDir: filepath.Join(n.dir, "run"), StateDir: filepath.Join(n.dir, "state"), Hook: hook,
	})
	if err != nil {
		return fmt.Errorf("open node: %w", err)
	}
	for _, p := range n.pools {
		if err := p.deploy(ctx); err != nil {
			return fmt.Errorf("deploy pool: %w", err)
		}
	}
	return nil
}

func (n *node) close() error {
	var errs []error
	for _, p := range n.pools {
		errs = append(errs, p.close())
	}
	if n.Node != nil {
		errs = append(errs, n.Close())
	}
	if link, err := netlink.LinkByName(bridge); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(append(errs, os.RemoveAll(n.pins), os.RemoveAll(n.dir))...)
}

// pool is one that package loader deploys, with its programs and maps.
type pool struct {
	node            *node
	wanted          loader.Balancer
	inside, outside int // indexes of its devices
	// programs are those that are attached now, by subject.
	programs map[string]*ebpf.Program
	sweep    *ebpf.Program
	table    *ebpf.Map // of flows
	flows    uint32    // that grow has opened
	first    ends      // of the first one
	// buckets is what the table took when it was empty, slabs how much all slabs have grown
	// while it was filled, in bytes.
	buckets, slabs float64
}

// add wants one more pool on the node: of so many members, and with room for so many flows.
func (n *node) add(method loader.Method, members int, flows uint32) *pool {
	number := len(n.pools) + 1
	id := func(kind int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", number, kind) }
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
	n.pools = append(n.pools, p)
	return p
}

// deploy makes the pool what is wanted, or moves it to the node's hook.
func (p *pool) deploy(ctx context.Context) error {
	if err := p.close(); err != nil {
		return err
	}
	if err := p.node.Apply(ctx, p.wanted); err != nil {
		return err
	}
	status, err := p.node.Status(p.wanted.PoolID)
	if err != nil || status.MembersUp != len(p.wanted.Members) {
		return errors.Join(err, fmt.Errorf("%d of %d members are up", status.MembersUp, len(p.wanted.Members)))
	}
	link, err := netlink.LinkByName("tap" + p.wanted.VIP.PortID[:11])
	if err != nil {
		return err
	}
	p.outside = link.Attrs().Index
	if err := p.within(p.know); err != nil {
		return err
	}
	return p.open()
}

// know makes the gateway a neighbour of the pool's that needs no asking.
func (p *pool) know() error {
	link, err := netlink.LinkByName("ns-" + p.wanted.VIP.PortID[:11])
	if err != nil {
		return err
	}
	p.inside = link.Attrs().Index
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: p.inside, IP: gateway.AsSlice(), HardwareAddr: gatewayMAC, State: netlink.NUD_PERMANENT,
	})
}

// open takes what the loader has pinned.
func (p *pool) open() (err error) {
	p.programs = map[string]*ebpf.Program{}
	for name, subject := range map[string]string{"xdp_lb": subjectXDP, "tc_lb": subjectTCX, "tap_lb": subjectOutside} {
		program, err := ebpf.LoadPinnedProgram(p.pin("programs", "*", name), nil)
		if err == nil {
			p.programs[subject] = program
		} else if !errors.Is(err, os.ErrNotExist) { // it is not attached with this hook
			return fmt.Errorf("open program %s: %w", name, err)
		}
	}
	if p.sweep, err = ebpf.LoadPinnedProgram(p.pin("programs", "*", "sweep_ports"), nil); err != nil {
		return fmt.Errorf("open the expiry: %w", err)
	}
	if p.table, err = ebpf.LoadPinnedMap(p.pin("maps", "flows"), nil); err != nil {
		return fmt.Errorf("open table of flows: %w", err)
	}
	if p.flows == 0 {
		p.buckets, err = memlock(p.table)
	}
	return err
}

// close lets go of programs and maps.
func (p *pool) close() error {
	all := []io.Closer{p.sweep, p.table}
	for _, program := range p.programs {
		all = append(all, program)
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// pin is the path of something of the pool's; "*" in it stands for what there is one of.
func (p *pool) pin(below ...string) string {
	pattern := filepath.Join(append([]string{p.node.pins, "pools", p.wanted.PoolID, "v*"}, below...)...)
	if found, err := filepath.Glob(pattern); err == nil && len(found) == 1 {
		return found[0]
	}
	return pattern // whoever opens it says that it is not there
}

// within calls fn in the pool's network namespace.
func (p *pool) within(fn func() error) error { return p.node.Inside(p.wanted.PoolID, fn) }

// counted is how many packets have come to that end so far.
func (p *pool) counted(verdict string) (uint64, error) {
	stats, err := p.node.Stats(p.wanted.PoolID)
	return stats.Verdicts[verdict], err
}
