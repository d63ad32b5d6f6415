// Package hook attaches programs to devices and keeps them attached: by tcx, as a clsact
// filter, or by XDP.
package hook

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"qlbaas/loader/change"
	"qlbaas/loader/pin"
)

// Wanted is one link as it shall be.
type Wanted struct {
	Name    string
	Program *ebpf.Program
	// Attached tells whether a link is where it should be.
	Attached func(link.Link) (bool, error)
	Attach   func() (link.Link, error)
}

// Place is where a link is kept: the variable that owns it, and its pin.
type Place struct {
	Link *link.Link
	Pins *pin.Pins
	Pin  string
}

// Ensure attaches what is not attached and replaces the program of a link that
// is: the packets of one moment see the old one, those of the next the new one.
func Ensure(ctx context.Context, steps change.Steps, at Place, want Wanted) error {
	have := at.Link
	if *have != nil {
		attached, err := want.Attached(*have)
		if err != nil {
			return err
		}
		if attached {
			return update(ctx, steps, *have, want)
		}
	}
	if err := steps.Step(ctx, "attach "+want.Name); err != nil {
		return err
	}
	fresh, err := want.Attach()
	if err != nil {
		return fmt.Errorf("attach %s: %w", want.Name, err)
	}
	if err := steps.Step(ctx, "pin link "+want.Name); err != nil {
		fresh.Close()
		return err
	}
	if err := at.Pins.Put(at.Pin, fresh); err != nil {
		fresh.Close()
		return err
	}
	if *have != nil {
		(*have).Close()
	}
	*have = fresh
	return nil
}

// update makes the link run the wanted program.
func update(ctx context.Context, steps change.Steps, have link.Link, want Wanted) error {
	info, err := have.Info()
	if err != nil {
		return fmt.Errorf("look at link %s: %w", want.Name, err)
	}
	id, err := ProgramID(want.Program)
	if err != nil || info.Program == id {
		return err
	}
	if err := steps.Step(ctx, "update "+want.Name); err != nil {
		return err
	}
	if err := have.Update(want.Program); err != nil {
		return fmt.Errorf("replace program of %s: %w", want.Name, err)
	}
	return nil
}

// Drop detaches and unpins a link; one that is not there is no error.
func Drop(ctx context.Context, steps change.Steps, at Place, name string) error {
	have := at.Link
	if *have == nil {
		return nil
	}
	if err := steps.Step(ctx, "detach "+name); err != nil {
		return err
	}
	if err := at.Pins.Drop(at.Pin); err != nil {
		return err
	}
	// The link may be pinned elsewhere, by a stranger, and must not live on there.
	err := (*have).Detach()
	(*have).Close()
	*have = nil
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("detach %s: %w", name, err)
	}
	return nil
}

// Point is a place for tcx programs: one direction of a device.
type Point struct {
	// Enter runs a function in the device's namespace.
	Enter  func(func() error) error
	Device int
	// Attach is ebpf.AttachTCXIngress or ebpf.AttachTCXEgress.
	Attach ebpf.AttachType
}

// Here runs a function in the caller's own namespace; see Point.Enter.
func Here(fn func() error) error { return fn() }

// TCX attaches a program ahead of whatever else there is.
func TCX(at Point, name string, program *ebpf.Program) Wanted {
	return Wanted{
		Name: name, Program: program,
		Attached: func(l link.Link) (bool, error) {
			order, err := TCXOrder(at)
			if err != nil {
				return false, err
			}
			info, err := l.Info()
			if err != nil {
				return false, fmt.Errorf("look at link %s: %w", name, err)
			}
			return slices.Contains(order, info.ID), nil
		},
		Attach: func() (l link.Link, err error) {
			err = at.Enter(func() error {
				l, err = link.AttachTCX(link.TCXOptions{
					Interface: at.Device, Program: program, Attach: at.Attach, Anchor: link.Head(),
				})
				return err
			})
			return l, err
		},
	}
}

// TCXOrder returns the links that are attached, in the order in which they see a packet.
// 0 is a program without a link.
func TCXOrder(at Point) (order []link.ID, err error) {
	err = at.Enter(func() error {
		found, err := link.QueryPrograms(link.QueryOptions{Target: at.Device, Attach: at.Attach})
		if err != nil {
			return fmt.Errorf("look at tcx: %w", err)
		}
		for _, program := range found.Programs {
			id, _ := program.LinkID()
			order = append(order, id)
		}
		return nil
	})
	return order, err
}

// ProgramID is how the kernel knows the program.
func ProgramID(p *ebpf.Program) (ebpf.ProgramID, error) {
	info, err := p.Info()
	if err != nil {
		return 0, fmt.Errorf("look at program: %w", err)
	}
	id, _ := info.ID()
	return id, nil
}
