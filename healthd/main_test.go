package healthd

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the run when a goroutine outlives its test. The same binary is
// also the process that the test of a stopped daemon stops.
func TestMain(m *testing.M) {
	if addr := os.Getenv(stopHelperEnv); addr != "" {
		runStopHelper(addr)
		return
	}
	goleak.VerifyTestMain(m)
}
