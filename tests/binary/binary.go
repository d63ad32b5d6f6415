// Package binary has the program that tests run as a process.
package binary

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Var names the program under test; unset, Ensure builds one.
const Var = "QLBAAS_BIN"

// Ensure makes sure that there is a program, for this process and its children. In a
// laboratory it is built into the temporary files, and ends with them.
func Ensure() error {
	if path := os.Getenv(Var); path != "" {
		// The processes that run it have other working directories.
		absolute, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("find %s: %w", path, err)
		}
		if _, err := os.Stat(absolute); err != nil {
			return fmt.Errorf("find the binary under test: %w", err)
		}
		return os.Setenv(Var, absolute)
	}
	path := filepath.Join(os.TempDir(), "qlbaas")
	build := exec.Command("go", "build", "-o", path, "qlbaas/cmd/qlbaas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the binary under test: %w", err)
	}
	return os.Setenv(Var, path)
}

// Path is where the program is.
func Path() string { return os.Getenv(Var) }
