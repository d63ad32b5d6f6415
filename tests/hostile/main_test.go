// Package hostile puts the packets of the catalogue (package rows) on a wire, raw, and
// looks at all that comes of them: the program's counters, every frame that it sends,
// its tables, the connections beside, and the agent's log.
package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"qlbaas/tests/lab"
)

// binaryVar names the binary under test; unset, TestMain builds one.
const binaryVar = "QLBAAS_BIN"

func TestMain(m *testing.M) {
	os.Exit(lab.Enter(func() int {
		if err := ensureBinary(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}))
}

func ensureBinary() error {
	if path := os.Getenv(binaryVar); path != "" {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("find %s: %w", path, err)
		}
		return os.Setenv(binaryVar, absolute)
	}
	path := filepath.Join(os.TempDir(), "qlbaas")
	build := exec.Command("go", "build", "-o", path, "qlbaas/cmd/qlbaas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the binary under test: %w", err)
	}
	return os.Setenv(binaryVar, path)
}
