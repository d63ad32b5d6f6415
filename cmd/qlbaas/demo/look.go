package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
)

// mustHaveNamespace checks whether the balancer's namespace is there.
func (d *demo) mustHaveNamespace(want bool) error {
	names, err := lab.Namespaces(poolNamespace(d.poolID))
	if err != nil {
		return err
	}
	if got := len(names) > 0; got != want {
		return fmt.Errorf("namespace %s: there is %v, want %v", poolNamespace(d.poolID), got, want)
	}
	return nil
}

// pinDir is where the pool's maps or links are pinned; the layout's version is the
// agent's to know.
func (d *demo) pinDir(kind string) string {
	found, err := filepath.Glob(filepath.Join(d.place.bpffs, "pools", d.poolID, "v*", kind))
	if err != nil || len(found) == 0 {
		return filepath.Join(d.place.bpffs, "pools", d.poolID, "v?", kind)
	}
	return found[len(found)-1]
}

// pins are the names of the pool's pinned maps or links.
func (d *demo) pins(kind string) ([]string, error) {
	entries, err := os.ReadDir(d.pinDir(kind))
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// rows reads a pinned map of the pool; see lab.ReadPin.
func (d *demo) rows(name, key, value string, limit int) ([]lab.Row, error) {
	return lab.ReadPin(filepath.Join(d.pinDir("maps"), name), key, value, limit)
}

// attachments are the kernel's numbers of what holds the pool's programs on their
// hooks, by name: pinned links, or clsact filters (then the programs' numbers) where
// the kernel or the user wants those.
func (d *demo) attachments() (map[string]uint32, error) {
	numbers := map[string]uint32{}
	links, err := d.pins("links")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range links {
		if numbers["link "+name], err = lab.LinkID(filepath.Join(d.pinDir("links"), name)); err != nil {
			return nil, err
		}
	}
	err = d.eachFilter(func(f netlink.Filter) error {
		if program, ok := f.(*netlink.BpfFilter); ok {
			numbers["filter "+program.Name] = uint32(program.Id)
		}
		return nil
	})
	if err == nil && len(numbers) == 0 {
		err = errors.New("no program is attached")
	}
	return numbers, err
}

// eachFilter calls fn, inside the balancer's namespace, with every filter on its
// device's ingress.
func (d *demo) eachFilter(fn func(netlink.Filter) error) error {
	return lab.Within(poolNamespace(d.poolID), func() error {
		device, err := netlink.LinkByName(d.insideDevice())
		if err != nil {
			return fmt.Errorf("find device: %w", err)
		}
		filters, err := netlink.FilterList(device, netlink.HANDLE_MIN_INGRESS)
		if err != nil {
			return fmt.Errorf("list filters: %w", err)
		}
		for _, f := range filters {
			if err := fn(f); err != nil {
				return err
			}
		}
		return nil
	})
}

// insideDevice carries the VIP in the balancer's namespace.
func (d *demo) insideDevice() string { return "ns-" + d.portID[:11] }

// device is a network device with its addresses, as text.
type device struct {
	name, mac string
	up        bool
	addresses []string
}

// devicesIn lists the devices of a namespace.
func devicesIn(namespace string) (devices []device, err error) {
	err = lab.Within(namespace, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		for _, l := range links {
			one := device{name: l.Attrs().Name, mac: l.Attrs().HardwareAddr.String(), up: l.Attrs().OperState == netlink.OperUp}
			addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				return fmt.Errorf("list addresses of %s: %w", one.name, err)
			}
			for _, a := range addresses {
				one.addresses = append(one.addresses, a.IPNet.String())
			}
			devices = append(devices, one)
		}
		return nil
	})
	return devices, err
}

// mustBeGone waits until nothing of the pool is left on the machine.
func (d *demo) mustBeGone(ctx context.Context) error {
	outside := "tap" + d.portID[:11]
	return until(ctx, patience, func() error {
		if err := d.mustHaveNamespace(false); err != nil {
			return err
		}
		for _, path := range []string{filepath.Dir(filepath.Dir(d.pinDir("maps"))), filepath.Join(d.place.state, "pools", d.poolID)} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is still there", path)
			}
		}
		devices, err := devicesIn(nodeHost)
		if err != nil {
			return fatal(err)
		}
		if slices.ContainsFunc(devices, func(one device) bool { return one.name == outside }) {
			return fmt.Errorf("device %s is still on %s", outside, nodeHost)
		}
		return nil
	})
}
