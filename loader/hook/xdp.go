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

// ChecksumOffload is the feature that lets a sender leave a TCP checksum to the
// device. XDP on a veth device sees such a frame as it is, with no way to know; the
// receiver would, and drop it. So with XDP both ends finish their checksums.
const ChecksumOffload = "tx-checksum-ip-generic"

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

// SetFeature switches a device's feature; it works in the calling thread's namespace.
func SetFeature(ctx context.Context, steps change.Steps, device, name string, on bool) error {
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
	if err := steps.Step(ctx, "switch "+name); err != nil {
		return err
	}
	if err := tool.Change(device, map[string]bool{name: on}); err != nil {
		return fmt.Errorf("switch %s of %s: %w", name, device, err)
	}
	return nil
}
