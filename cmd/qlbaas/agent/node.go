package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"qlbaas/lbaas/reconcile"
	"qlbaas/loader"
	"qlbaas/loader/router"
)

// plane is this machine's data plane: its balancers and its routers.
type plane struct {
	*loader.Node
	routers *router.Node
}

// Routers returns the machine's routers.
func (p *plane) Routers() reconcile.RouterNode { return p.routers }

// Close lets go of both, of the balancers last: they hold the node's lock.
func (p *plane) Close() error { return errors.Join(p.routers.Close(), p.Node.Close()) }

// OpenNode opens this machine's data plane.
func OpenNode(ctx context.Context, cfg Config, log *slog.Logger) (Node, error) {
	node, err := loader.Open(ctx, loader.Options{
		BPFFS: cfg.BPFFS, RunDir: cfg.RunDir, StateDir: cfg.StateDir,
		Hook: cfg.Hook, NoOutside: cfg.NoOutside, InterfaceDriver: cfg.InterfaceDriver, OVSDB: cfg.OVSDB,
		MemoryBudget: cfg.MemoryBudget, Log: log, Spare: true,
	})
	if err != nil {
		return nil, err // not a Node that holds a nil
	}
	routers, err := router.Open(ctx, router.Options{
		BPFFS: cfg.BPFFS, Hook: cfg.Hook, InterfaceDriver: cfg.InterfaceDriver, OVSDB: cfg.OVSDB, Log: log,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the routers: %w", err), node.Close())
	}
	return &plane{node, routers}, nil
}
