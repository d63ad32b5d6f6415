package rows

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"qlbaas/bpf"
	"qlbaas/maps"
)

var update = flag.Bool("update", false, "write the matrix in tests/README.md anew")

const (
	readme     = "../README.md"
	matrixFrom = "<!-- rows: written by `go test ./tests/rows -update` -->\n"
	matrixTo   = "<!-- rows end -->\n"
	outOfReach = 3 // rows that may be unreachable
)

// TestCatalogue: the numbers are those of the catalogue, each once and in order.
func TestCatalogue(t *testing.T) {
	unreachable := 0
	for i, r := range All() {
		if r.Number != i+1 {
			t.Fatalf("row %d stands in place %d", r.Number, i+1)
		}
		if r.Packet == "" || r.Becomes == "" || strings.Contains(r.Packet+r.Becomes+r.Unreachable, "|") {
			t.Errorf("row %d does not say all, or breaks the table", r.Number)
		}
		if r.Unreachable != "" {
			unreachable++
		}
	}
	if n := len(All()); n != Last {
		t.Errorf("%d rows, want %d", n, Last)
	}
	if unreachable > outOfReach {
		t.Errorf("%d rows are called unreachable", unreachable)
	}
}

// TestReasons: every reason that the catalogue names is one that the data plane has.
func TestReasons(t *testing.T) {
	known := map[string]bool{}
	for reason := range maps.DropReason(bpf.Lb4DropReasonDROP_MAX) {
		known[reason.String()] = true
	}
	for _, r := range All() {
		for i, word := range strings.Split(r.Becomes, "`") {
			if i%2 == 1 && !known[word] {
				t.Errorf("row %d: there is no reason %s", r.Number, word)
			}
		}
	}
}

// TestProofs: each row has a test that proves it, or a reason why none can and a test
// that would find out when one could.
func TestProofs(t *testing.T) {
	found := scanRepository(t)
	for _, mistake := range found.mistakes {
		t.Error(mistake)
	}
	var open []int
	for _, r := range All() {
		proven, probed := len(found.of("Proves", r.Number)) > 0, len(found.of("Probes", r.Number)) > 0
		switch {
		case r.Unreachable == "" && probed:
			t.Errorf("row %d is probed, though the catalogue calls it reachable", r.Number)
		case r.Unreachable == "" && !proven:
			open = append(open, r.Number)
		case r.Unreachable != "" && proven:
			t.Errorf("row %d is proven, though the catalogue calls it unreachable", r.Number)
		case r.Unreachable != "" && !probed:
			t.Errorf("row %d is called unreachable, and no test finds out when it is not", r.Number)
		}
	}
	if len(open) > 0 {
		t.Errorf("no test proves rows %v", open)
	}
}

// TestMatrix: tests/README.md shows who proves what.
func TestMatrix(t *testing.T) {
	found := scanRepository(t)
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, from := strings.Cut(string(text), matrixFrom)
	is, after, to := strings.Cut(rest, matrixTo)
	if !from || !to {
		t.Fatalf("%s has no place for the matrix", readme)
	}
	wanted := found.matrix()
	if is == wanted {
		return
	}
	if !*update {
		t.Fatalf("the matrix in %s is not what the tests say: go test ./tests/rows -update", readme)
	}
	if err := os.WriteFile(readme, []byte(before+matrixFrom+wanted+matrixTo+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestScan: what the scan finds, and what it does not let pass.
func TestScan(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/a_test.go": `package a_test
			func TestOne(t *testing.T) { rows.Proves(t, 1, 2); nobody := 1; _ = nobody; t.Run("x", helper) }
			func TestTwo(t *testing.T) { for _, f := range table { f(t) } }
			var table = []func(*testing.T){inTable}
			func inTable(t *testing.T) { w.helper() }
			func (w world) helper(t *testing.T) { rows.Proves(t, 3) }
			func nobody(t *testing.T) { rows.Proves(t, 4) }`,
		"a/b_test.go":        "package a\nfunc TestThree(t *testing.T) { rows.Probes(t, 7); rows.Proves(t, n, 126) }",
		"a/tagged_test.go":   "//go:build never\n\npackage a\nfunc TestFour(t *testing.T) { rows.Proves(t, 9) }",
		"a/product.go":       "package a\nfunc TestFive(t *testing.T) { rows.Proves(t, 10) }",
		".hidden/a_test.go":  "package a\nfunc TestSix(t *testing.T) { rows.Proves(t, 11) }",
		"testdata/a_test.go": "not Go at all",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	found, err := scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	for row, want := range map[int]string{1: "a.TestOne", 2: "a.TestOne", 3: "a.TestOne a.TestTwo", 4: "", 9: "", 10: "", 11: ""} {
		if is := strings.Join(found.of("Proves", row), " "); is != want {
			t.Errorf("row %d is proven by %q, want %q", row, is, want)
		}
	}
	if is := found.of("Probes", 7); !slices.Equal(is, []string{"a.TestThree"}) {
		t.Errorf("row 7 is probed by %v", is)
	}
	if len(found.mistakes) != 3 { // n, 126, nobody
		t.Errorf("mistakes: %q", found.mistakes)
	}
}

func scanRepository(t *testing.T) *scanned {
	t.Helper()
	found, err := scan("../..")
	if err != nil {
		t.Fatal(err)
	}
	// The scan's own test does not prove what it writes down.
	found.proofs = slices.DeleteFunc(found.proofs, func(p proof) bool { return strings.HasPrefix(p.test, "rows.") })
	return found
}

// of is the tests that make a call for a row.
func (s *scanned) of(call string, row int) []string {
	var tests []string
	for _, p := range s.proofs {
		if p.call == call && p.row == row && !slices.Contains(tests, p.test) {
			tests = append(tests, p.test)
		}
	}
	slices.Sort(tests)
	return tests
}

func (s *scanned) matrix() string {
	var out strings.Builder
	fmt.Fprint(&out, "\n| row | packet | what becomes of it | proven by |\n|---|---|---|---|\n")
	for _, r := range All() {
		by := strings.Join(s.of("Proves", r.Number), ", ")
		if r.Unreachable != "" {
			by = r.Unreachable + " (" + strings.Join(s.of("Probes", r.Number), ", ") + ")"
		}
		fmt.Fprintf(&out, "| %d | %s | %s | %s |\n", r.Number, r.Packet, r.Becomes, by)
	}
	return out.String() + "\n"
}
