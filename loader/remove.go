package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"qlbaas/loader/device"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
)

// Remove takes everything of a pool off this node: devices, programs, maps,
// namespace, files. Its connections end without a word. What is not there is no
// error, and a removal that failed can be repeated.
func (n *Node) Remove(ctx context.Context, poolID string) error {
	if err := checkPoolID(poolID); err != nil {
		return fmt.Errorf("remove pool: %w", err)
	}
	p, err := n.acquire(poolID)
	if err != nil {
		return fmt.Errorf("remove pool %s: %w", poolID, err)
	}
	defer n.release(p)
	if err := n.remove(ctx, p); err != nil {
		err = fmt.Errorf("remove pool %s: %w", poolID, err)
		p.note(err)
		return err
	}
	p.note(nil)
	return nil
}

// remove works from the wire inwards, so that silence comes first, and ends with
// what Deployed finds a pool by.
func (n *Node) remove(ctx context.Context, p *pool) error {
	if err := n.ensureHome(); err != nil {
		return err
	}
	if err := n.readopt(p); err != nil {
		p.log.Info("remains of a pool are removed", "err", err)
	}
	p.quiet()
	if err := n.removeConfig(ctx, p.id); err != nil {
		return err
	}
	if err := n.removeDevices(ctx, p); err != nil {
		return err
	}
	if shared := n.handshakes(p.family); p.number != 0 && shared != nil {
		if err := n.step(ctx, "remove pool from the node's handshakes"); err != nil {
			return err
		}
		if err := shared.RemovePool(p.number); err != nil {
			return err
		}
	}
	n.letGo(p)
	if err := n.removePins(ctx, p.id); err != nil {
		return err
	}
	if err := netspace.Remove(ctx, n.steps(), namespaceName(p.id)); err != nil {
		return err
	}
	n.budget.release(p.id)
	return nil
}

// removeDevices deletes the pool's devices, their port of a switch, and what else of ours is in
// the namespace, wherever a name leads to it.
func (n *Node) removeDevices(ctx context.Context, p *pool) error {
	devices, err := rtnl.Dump(n.routes.LinkList)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, d := range devices {
		if poolOfAlias(d.Attrs().Alias) != p.id {
			continue
		}
		if err := device.Delete(ctx, n.steps(), n.routes, d); err != nil {
			return err
		}
		if err := n.driver.Leave(ctx, n.steps(), d.Attrs().Name); err != nil {
			return err
		}
	}
	if err := n.driver.Sweep(ctx, n.steps(), deviceAlias(p.id)); err != nil {
		return err
	}
	if p.ns != nil {
		return n.emptyNamespace(ctx, p.ns)
	}
	ns, err := netspace.Open(namespaceName(p.id))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netspace.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	return n.emptyNamespace(ctx, ns)
}

// emptyNamespace deletes the devices in a namespace. The kernel would as well, some
// time after the last process has left it; a new pool may need the names sooner.
func (n *Node) emptyNamespace(ctx context.Context, ns *netspace.Namespace) error {
	inside, err := rtnl.Dump(ns.Routes.LinkList)
	if err != nil {
		return fmt.Errorf("list devices of %s: %w", ns.Name, err)
	}
	for _, d := range inside {
		if !device.Ours(d) {
			continue
		}
		if err := device.Delete(ctx, n.steps(), ns.Routes, d); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) removePins(ctx context.Context, poolID string) error {
	root := poolRoot(n.opts.BPFFS, poolID)
	if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := n.step(ctx, "remove pins"); err != nil {
		return err
	}
	if err := os.RemoveAll(root); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}
