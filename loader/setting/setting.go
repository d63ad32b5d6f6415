// Package setting writes the settings of a network namespace, those that differ.
package setting

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"qlbaas/loader/change"
)

// Sysctl is one setting of a network namespace; Path is below /proc/sys/net.
type Sysctl struct {
	Path, Value string
	// Optional settings may be absent from the kernel.
	Optional bool
}

// Write writes what differs. It must run on a thread inside the namespace:
// /proc/sys/net shows the reader's own.
func Write(ctx context.Context, steps change.Steps, settings []Sysctl) error {
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net", s.Path)
		found, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && s.Optional {
			continue
		}
		if err != nil {
			return fmt.Errorf("read sysctl: %w", err)
		}
		if strings.TrimSpace(string(found)) == s.Value {
			continue
		}
		if err := steps.Step(ctx, "set sysctl "+s.Path); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(s.Value+"\n"), 0); err != nil {
			return fmt.Errorf("set sysctl %s to %q: %w", s.Path, s.Value, err)
		}
	}
	return nil
}
