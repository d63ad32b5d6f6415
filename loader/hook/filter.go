package hook

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"qlbaas/loader/change"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
)

// The filter's place among those of the device. The handle is what makes replacing
// it atomic: the kernel then swaps the program in place.
const (
	filterPriority = 1
	filterHandle   = 1
)

// NewFilter is the filter on a device; without a program, to find it by.
func NewFilter(program *ebpf.Program, name string, device int) *netlink.BpfFilter {
	const everyProtocol = 0x0003 // ETH_P_ALL
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: device, Parent: netlink.HANDLE_MIN_INGRESS,
			Handle: filterHandle, Priority: filterPriority, Protocol: everyProtocol,
		},
		Name: name, DirectAction: true,
	}
	if program != nil {
		f.Fd = program.FD()
	}
	return f
}

// EnsureFilter attaches a program as a classic tc filter.
func EnsureFilter(ctx context.Context, steps change.Steps, ns *netspace.Namespace, device netlink.Link, name string, program *ebpf.Program) error {
	id, err := ProgramID(program)
	if err != nil {
		return err
	}
	has, attached, err := FindFilter(ns, device)
	if err != nil || attached == id {
		return err
	}
	index := device.Attrs().Index
	if !has {
		if err := steps.Step(ctx, "add clsact"); err != nil {
			return err
		}
		if err := ns.Routes.QdiscAdd(NewClsact(index)); err != nil {
			return fmt.Errorf("add clsact to %s: %w", device.Attrs().Name, err)
		}
	}
	if err := steps.Step(ctx, "attach filter"); err != nil {
		return err
	}
	if err := ns.Routes.FilterReplace(NewFilter(program, name, index)); err != nil {
		return fmt.Errorf("attach filter to %s: %w", device.Attrs().Name, err)
	}
	return nil
}

// NewClsact is the qdisc that the filter hangs on.
func NewClsact(device int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: device, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// FindFilter tells whether the device has a clsact qdisc and which program our
// filter there runs, 0 if there is none.
func FindFilter(ns *netspace.Namespace, inside netlink.Link) (clsact bool, _ ebpf.ProgramID, _ error) {
	qdiscs, err := rtnl.Dump(func() ([]netlink.Qdisc, error) { return ns.Routes.QdiscList(inside) })
	if err != nil {
		return false, 0, fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range qdiscs {
		clsact = clsact || q.Type() == "clsact"
	}
	if !clsact {
		return false, 0, nil
	}
	filters, err := rtnl.Dump(func() ([]netlink.Filter, error) {
		return ns.Routes.FilterList(inside, netlink.HANDLE_MIN_INGRESS)
	})
	if err != nil {
		return true, 0, fmt.Errorf("list filters: %w", err)
	}
	for _, f := range filters {
		bpf, ok := f.(*netlink.BpfFilter)
		if ok && bpf.Handle == filterHandle && bpf.Priority == filterPriority && bpf.DirectAction {
			return true, ebpf.ProgramID(bpf.Id), nil
		}
	}
	return true, 0, nil
}

// DropFilter removes the filter together with its qdisc: the device is ours.
func DropFilter(ctx context.Context, steps change.Steps, ns *netspace.Namespace, inside netlink.Link) error {
	clsact, _, err := FindFilter(ns, inside)
	if err != nil || !clsact {
		return err
	}
	if err := steps.Step(ctx, "remove clsact"); err != nil {
		return err
	}
	if err := ns.Routes.QdiscDel(NewClsact(inside.Attrs().Index)); err != nil {
		return fmt.Errorf("remove clsact from %s: %w", inside.Attrs().Name, err)
	}
	return nil
}
