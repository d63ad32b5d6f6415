package floor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Hook is where the rewrite is done.
type Hook uint8

// The hooks, as the balancer uses them.
const (
	// Inside is tcx at the ingress of the namespace's device.
	Inside Hook = iota
	// Outside is tcx at the egress of the bridge's port, back into the bridge.
	Outside
	// XDP is native XDP on the namespace's device. Both ends of the pair must compute
	// checksums by themselves.
	XDP
)

// Peer is one whom packets are for.
type Peer struct {
	Address netip.Addr
	MAC     net.HardwareAddr
}

// Wire is what the rewrite needs to know.
type Wire struct {
	VIP, Client Peer
	Members     [2]Peer
	// InsideDevice is the index of the namespace's device, OutsideDevice that of its peer,
	// which is in the caller's namespace.
	InsideDevice, OutsideDevice int
	// Enter runs a function inside the namespace.
	Enter func(func() error) error
}

// Floor is an attached rewrite.
type Floor struct {
	programs floorPrograms
	links    []link.Link
}

// Attach makes the namespace's device a balancer. It ends with Close.
func Attach(hook Hook, w Wire) (_ *Floor, err error) {
	f := &Floor{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("attach floor: %w", err), f.Close())
		}
	}()
	if err := f.load(hook, w); err != nil {
		return nil, err
	}
	switch hook {
	case Outside:
		return f, f.attach(link.AttachTCX(link.TCXOptions{
			Interface: w.OutsideDevice, Program: f.programs.FloorOutside, Attach: ebpf.AttachTCXEgress,
		}))
	case XDP:
		err := f.attach(link.AttachXDP(link.XDPOptions{
			Interface: w.OutsideDevice, Program: f.programs.FloorPass, Flags: link.XDPDriverMode,
		}))
		if err != nil {
			return nil, err
		}
		return f, w.Enter(func() error {
			return f.attach(link.AttachXDP(link.XDPOptions{
				Interface: w.InsideDevice, Program: f.programs.FloorXdp, Flags: link.XDPDriverMode,
			}))
		})
	default:
		return f, w.Enter(func() error {
			return f.attach(link.AttachTCX(link.TCXOptions{
				Interface: w.InsideDevice, Program: f.programs.FloorInside, Attach: ebpf.AttachTCXIngress,
			}))
		})
	}
}

func (f *Floor) attach(l link.Link, err error) error {
	if err == nil {
		f.links = append(f.links, l)
	}
	return err
}

// constant is a peer as the programs have it.
type constant struct {
	Address [4]byte
	MAC     [6]byte
	Pad     [2]byte
}

func (p Peer) constant() constant {
	c := constant{Address: p.Address.As4()}
	copy(c.MAC[:], p.MAC)
	return c
}

func (f *Floor) load(hook Hook, w Wire) error {
	spec, err := loadFloor()
	if err != nil {
		return err
	}
	device := uint32(w.InsideDevice)
	if hook == Outside {
		device = uint32(w.OutsideDevice)
	}
	for name, value := range map[string]any{
		"vip": w.VIP.constant(), "client": w.Client.constant(), "device": device,
		"members": [2]constant{w.Members[0].constant(), w.Members[1].constant()},
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return spec.LoadAndAssign(&f.programs, nil)
}

// Close detaches the rewrite.
func (f *Floor) Close() error {
	var errs []error
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, f.programs.Close())...)
}
