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

// checksumOffload is the feature that lets a sender leave a TCP checksum to the
// device. XDP on a veth device sees such a frame as it is, with no way to know; the
// receiver would, and drop it. So with XDP both ends finish their checksums.
const checksumOffload = "tx-checksum-ip-generic"

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

// offload switches the checksum offload of both ends.
func (n *Node) offload(ctx context.Context, p *pool, w wiring, on bool) error {
	if err := n.setFeature(ctx, w.outside.Attrs().Name, checksumOffload, on); err != nil {
		return err
	}
	return p.ns.do(func() error { return n.setFeature(ctx, w.inside.Attrs().Name, checksumOffload, on) })
}

// setFeature switches a device's feature; it works in the calling thread's namespace.
func (n *Node) setFeature(ctx context.Context, device, name string, on bool) error {
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer tool.Close()
	has, err := tool.Features(device)
	if err != nil {
		return fmt.Errorf("read features of %s: %w", device, err)
	}
	if current, known := has[name]; known && current == on {
		return nil
	}
	if err := n.step(ctx, "switch "+name); err != nil {
		return err
	}
	if err := tool.Change(device, map[string]bool{name: on}); err != nil {
		return fmt.Errorf("switch %s of %s: %w", name, device, err)
	}
	return nil
}
