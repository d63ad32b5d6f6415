// Package tests plays the product from outside: the built binary runs as a process
// in a laboratory's network, is driven by its commands and its API only, and is
// judged by real connections through it. See README.md.
package tests

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"qlbaas/tests/binary"
	"qlbaas/tests/lab"
)

func TestMain(m *testing.M) {
	os.Exit(lab.Enter(func() int {
		if err := binary.Ensure(); err != nil {
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
