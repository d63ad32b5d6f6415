package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"qlbaas/loader/netspace"
)

// Remove takes everything of a router off this node. What is not there is no error, and a
// removal that failed can be repeated.
func (n *Node) Remove(ctx context.Context, id string) error {
	if !isUUID(id) {
		return fmt.Errorf("remove router: %w", invalid("router id %q is not a UUID", id))
	}
	r, err := n.acquire(id)
	if err != nil {
		return fmt.Errorf("remove router %s: %w", id, err)
	}
	defer n.release(r)
	if err := n.remove(ctx, r); err != nil {
		err = fmt.Errorf("remove router %s: %w", id, err)
		r.note(err)
		return err
	}
	return nil
}

// remove works from the wire inwards and ends with what Deployed finds a router by.
func (n *Node) remove(ctx context.Context, r *router) error {
	r.quieten(nil)
	if r.ns == nil {
		ns, err := netspace.Open(namespaceName(r.id))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, netspace.ErrNone) {
			return err
		}
		if ns != nil {
			r.setNamespace(ns)
		}
	}
	if err := n.deleteDevices(ctx, r, nil, nil); err != nil {
		return err
	}
	if err := n.driver.Sweep(ctx, n.steps(), deviceAlias(r.id)); err != nil {
		return err
	}
	r.letGo()
	root := filepath.Dir(r.pins.Dir)
	if _, err := os.Lstat(root); err == nil {
		if err := n.step(ctx, "remove pins"); err != nil {
			return err
		}
		if err := os.RemoveAll(root); err != nil {
			return fmt.Errorf("remove pins: %w", err)
		}
	}
	return netspace.Remove(ctx, n.steps(), namespaceName(r.id))
}
