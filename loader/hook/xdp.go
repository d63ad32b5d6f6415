package hook

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
)

// offloads are what a sender may leave to the device: a checksum, and the frame's VLAN
// tags. XDP on a veth device sees such a frame as it is, with no way to know: the receiver
// of a wrong sum would, and drop it; and a frame of another VLAN would look like one of
// ours. So with XDP both ends do that work themselves.
var offloads = []string{"tx-checksum-ip-generic", "tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"}

// XDP attaches a program to a device; enter runs a function where the device is.
func XDP(name string, program *ebpf.Program, device netlink.Link, enter func(func() error) error) Wanted {
	return Wanted{
		Name: name, Program: program,
		Attached: func(l link.Link) (bool, error) {
			info, err := l.Info()
			if err != nil {
				return false, fmt.Errorf("look at link %s: %w", name, err)
			}
			xdp := device.Attrs().Xdp
			return xdp != nil && xdp.Attached && xdp.ProgId == uint32(info.Program) &&
				info.XDP() != nil && info.XDP().Ifindex == uint32(device.Attrs().Index), nil
		},
		Attach: func() (l link.Link, err error) {
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

// SetOffloads switches what XDP has no use for on a device; it works in the calling
// thread's namespace.
func SetOffloads(ctx context.Context, steps change.Steps, device string, on bool) error {
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
	if err := steps.Step(ctx, "switch offloads"); err != nil {
		return err
	}
	if err := tool.Change(device, different); err != nil {
		return fmt.Errorf("switch offloads of %s: %w", device, err)
	}
	return nil
}
