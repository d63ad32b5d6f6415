package loader

import (
	"fmt"
	"path/filepath"

	"qlbaas/maps"
)

// Directories below the one that pins stand in. bpffs refuses names with a dot.
const (
	mapPins     = "maps"
	programPins = "programs"
	linkPins    = "links"
	// rodataPin is the programs' constants. It is among the maps because it keeps
	// the pool's number for the next daemon.
	rodataPin = "rodata"
)

func layoutName(layout int) string { return fmt.Sprintf("v%d", layout) }

func poolsDir(bpffs string) string         { return filepath.Join(bpffs, "pools") }
func poolRoot(bpffs, poolID string) string { return filepath.Join(poolsDir(bpffs), poolID) }
func poolPins(bpffs, poolID string) string {
	return filepath.Join(poolRoot(bpffs, poolID), layoutName(maps.Layout))
}
func nodeRoot(bpffs string) string { return filepath.Join(bpffs, "node") }
func nodePins(bpffs string) string { return filepath.Join(nodeRoot(bpffs), layoutName(maps.Layout)) }
