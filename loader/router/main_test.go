package router

import (
	"os"
	"testing"

	"qlbaas/tests/lab"
)

// TestMain runs the tests in network, mount and process namespaces of their own.
func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }
