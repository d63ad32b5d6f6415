package agent

import (
	"context"
	"log/slog"

	"qlbaas/loader"
)

// OpenNode opens this machine's data plane.
func OpenNode(ctx context.Context, cfg Config, log *slog.Logger) (Node, error) {
	node, err := loader.Open(ctx, loader.Options{
		BPFFS: cfg.BPFFS, RunDir: cfg.RunDir, StateDir: cfg.StateDir,
		Hook: cfg.Hook, MemoryBudget: cfg.MemoryBudget, Log: log,
	})
	if err != nil {
		return nil, err // not a Node that holds a nil
	}
	return node, nil
}
