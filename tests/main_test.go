// Package tests plays the product from outside: the built binary runs as a process
// in a laboratory's network, is driven by its commands and its API only, and is
// judged by real connections through it. See README.md.
package tests

import (
	"flag"
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
		// Subtests that run side by side do little but wait for probes. Worlds do not:
		// two agents would each take the other's namespaces for orphans.
		flag.Parse()
		if err := flag.Set("test.parallel", "12"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}))
}

func ensureBinary() error {
	if path := os.Getenv(binaryVar); path != "" {
		// The processes that run it have other working directories.
		absolute, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("find %s: %w", path, err)
		}
		if _, err := os.Stat(absolute); err != nil {
			return fmt.Errorf("find the binary under test: %w", err)
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

func binary() string { return os.Getenv(binaryVar) }
