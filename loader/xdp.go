package loader

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// offloads are what a sender may leave to the device: a checksum, and the frame's VLAN
// tags. XDP on a veth device sees such a frame as it is, with no way to know: the receiver
// of a wrong sum would, and drop it; and a frame of another VLAN would look like one of
// ours. So with XDP both ends do that work themselves.
var offloads = []string{"tx-checksum-ip-generic", "tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"}

// ensureXDP attaches the fast path to the inside device. A veth device delivers
// what was sent by XDP_TX only if its peer polls, which a program on the peer
// makes it do; so that program comes first.
func (n *Node) ensureXDP(ctx context.Context, p *pool, ps *programs, w wiring) error {
	if err := n.offload(ctx, p, w, false); err != nil {
		return err
	}
	peer := xdpLink(linkPeer, ps.pass, w.outside, func(fn func() error) error { return fn() })
	if err := n.ensureLink(ctx, p, peer); err != nil {
		return err
	}
	return n.ensureLink(ctx, p, xdpLink(linkXDP, ps.xdp, w.inside, p.ns.do))
}

// dropXDP takes the fast path away, if it is there, in the reverse order.
func (n *Node) dropXDP(ctx context.Context, p *pool, w wiring) error {
	if p.attached.xdp == nil && p.attached.peer == nil {
		return nil
	}
	if err := n.dropLink(ctx, p, linkXDP); err != nil {
		return err
	}
	if err := n.offload(ctx, p, w, true); err != nil {
		return err
	}
	return n.dropLink(ctx, p, linkPeer)
}

// xdpLink attaches a program to a device; enter runs a function where the device is.
func xdpLink(name string, program *ebpf.Program, device netlink.Link, enter func(func() error) error) wantedLink {
	return wantedLink{
		name: name, program: program,
		attached: func(l link.Link) (bool, error) {
			info, err := l.Info()
			if err != nil {
				return false, fmt.Errorf("look at link %s: %w", name, err)
			}
			xdp := device.Attrs().Xdp
			return xdp != nil && xdp.Attached && xdp.ProgId == uint32(info.Program) &&
				info.XDP() != nil && info.XDP().Ifindex == uint32(device.Attrs().Index), nil
		},
		attach: func() (l link.Link, err error) {
			err = enter(func() error {
				l, err = link.AttachXDP(link.XDPOptions{
					Interface: device.Attrs().Index, Program: program, Flags: link.XDPDriverMode,
				})
				return err
			})
			if errors.Is(err, unix.ERANGE) {
				err = fmt.Errorf("the bridge's MTU of %d is too large for XDP: %w", device.Attrs().MTU, err)
			}
			return l, err
		},
	}
}

// offload switches the offloads of both ends.
func (n *Node) offload(ctx context.Context, p *pool, w wiring, on bool) error {
	if err := n.setOffloads(ctx, w.outside.Attrs().Name, on); err != nil {
		return err
	}
	return p.ns.do(func() error { return n.setOffloads(ctx, w.inside.Attrs().Name, on) })
}

// setOffloads switches a device's offloads; it works in the calling thread's namespace.
func (n *Node) setOffloads(ctx context.Context, device string, on bool) error {
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer tool.Close()
	has, err := tool.Features(device)
	if err != nil {
		return fmt.Errorf("read features of %s: %w", device, err)
	}
	different := map[string]bool{}
	for _, name := range offloads {
		if current, known := has[name]; known && current != on {
			different[name] = on
		}
	}
	if len(different) == 0 {
		return nil
	}
	if err := n.step(ctx, "switch offloads"); err != nil {
		return err
	}
	if err := tool.Change(device, different); err != nil {
		return fmt.Errorf("switch offloads of %s: %w", device, err)
	}
	return nil
}
