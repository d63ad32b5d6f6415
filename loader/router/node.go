package router

import (
	"context"
	"log/slog"
)

// Options of Open; the zero value works on an ordinary host.
type Options struct {
	// BPFFS is the directory of all pins, the loader's own; /sys/fs/bpf/qlbaas if empty.
	BPFFS string
	// Hook is one of the loader's Hook constants; empty means auto.
	Hook string
	// Log gets what no caller is told; nil is silent.
	Log *slog.Logger
}

// Node is all routers of this machine. It is safe for concurrent use; operations on one
// router take turns, those on different routers run side by side.
type Node struct{}

// Open adopts all routers that an earlier daemon has left, without touching what they
// do. The caller holds the node's lock (loader.Open) and must Close the node before.
func Open(ctx context.Context, opts Options) (*Node, error) { return nil, nil }

// Close lets go of everything and leaves the routers running.
func (n *Node) Close() error { return nil }

// Apply makes the router on this node look as r says, changing only what differs. It can
// be repeated, also after a crash in the middle. Errors are ErrInvalid or what the
// kernel says.
func (n *Node) Apply(ctx context.Context, r Router) error { return nil }

// Remove takes everything of a router off this node. What is not there is no error.
func (n *Node) Remove(ctx context.Context, id string) error { return nil }

// Deployed returns the ids of all routers of which anything is on this node, sorted.
func (n *Node) Deployed() ([]string, error) { return nil, nil }

// Refresh compares routers with what was applied to them and returns the ids of those
// that differ and need Apply.
func (n *Node) Refresh(ctx context.Context) (drifted []string, err error) { return nil, nil }

// Stats reads what the router's programs have counted. ErrNotDeployed without such a
// router.
func (n *Node) Stats(id string) (Stats, error) { return Stats{}, nil }

// Status says what an operator wants to know of the router. ErrNotDeployed without such
// a router.
func (n *Node) Status(id string) (Status, error) { return Status{}, nil }
