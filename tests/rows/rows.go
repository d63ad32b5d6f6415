package rows

import "testing"

// Last is the highest row number of the catalogue.
const Last = 125

// Row is one kind of packet, or of load.
type Row struct {
	Number int
	// Packet says what arrives, Becomes what has to become of it.
	Packet, Becomes string
	// Unreachable says why this kernel cannot show the row; then no test proves it, and
	// one that calls [Probes] fails as soon as the kernel could.
	Unreachable string
}

// All is the catalogue in the order of its numbers.
func All() []Row {
	var all []Row
	for _, part := range [][]Row{frames(), headers(), handshakes(), closes(), sums(), icmp(), neighbours(), loads()} {
		all = append(all, part...)
	}
	return all
}

// Proves says that the running test proves what the catalogue says of these rows. The
// numbers are literals: the matrix in tests/README.md is made of the calls as they
// stand in the source. The scoreboard reads what a running test logs of them.
func Proves(t testing.TB, numbers ...int) {
	t.Helper()
	known(t, numbers)
	t.Logf("proves rows %v", numbers)
}

// Probes says that the running test fails where the kernel could show these rows, which
// the catalogue calls unreachable.
func Probes(t testing.TB, numbers ...int) {
	t.Helper()
	known(t, numbers)
}

func known(t testing.TB, numbers []int) {
	t.Helper()
	for _, n := range numbers {
		if n < 1 || n > Last {
			t.Errorf("there is no row %d", n)
		}
	}
}
