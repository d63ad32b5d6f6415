// Package hostile puts the packets of the catalogue (package rows) on a wire, raw, and
// looks at all that comes of them: the program's counters, every frame that it sends,
// its tables, the connections beside, and the agent's log.
package hostile

import (
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
		return m.Run()
	}))
}
