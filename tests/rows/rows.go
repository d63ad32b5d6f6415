package rows

import "testing"

// Last is the highest row number of the catalogue.
const Last = 125

// Proves says that the running test proves what the catalogue says of these rows. The
// matrix in tests/README.md is made of these calls.
func Proves(t testing.TB, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if n < 1 || n > Last {
			t.Errorf("there is no row %d", n)
		}
	}
}
