package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	stdmaps "maps"

	"qlbaas/tests/rows"
)

// b1 is the catalogue of hostile packets, row by row: the tests that the matrix in
// tests/README.md names are run, and each says what it proves.
func b1() figure {
	return figure{
		id:     "B1",
		what:   "rows 1-115 of the catalogue of hostile packets",
		target: "each that this kernel can show is tried, and none misbehaves",
		bound:  20 * time.Minute,
		run:    hostileRows,
	}
}

// lastPacket is the last row about packets; behind it are those about loads.
const lastPacket = 115

func hostileRows(ctx context.Context, seed uint64) (r result, err error) {
	matrix, err := os.ReadFile("tests/README.md")
	if err != nil {
		return r, err
	}
	folders, err := testFolders(ctx)
	if err != nil {
		return r, err
	}
	wanted := provers(string(matrix))
	tried, misbehaved := map[int]bool{}, map[int]bool{}
	for _, name := range slices.Sorted(stdmaps.Keys(wanted)) {
		if folders[name] == "" {
			return r, fmt.Errorf("the matrix names tests of package %s, which there is not", name)
		}
		t, err := goTest(ctx, seed, "^("+strings.Join(wanted[name], "|")+")$", folders[name])
		if err != nil {
			return r, err
		}
		t.rows(tried, misbehaved)
		if len(misbehaved) > 0 && firstFailureIsEnough(ctx) {
			break
		}
	}
	if !firstFailureIsEnough(ctx) || len(misbehaved) == 0 {
		judgeUntried(&r, tried)
	}
	judgeTried(&r, tried, misbehaved)
	return r, nil
}

// judgeUntried misses the rows that no test has tried.
func judgeUntried(r *result, tried map[int]bool) {
	var unreachable, untried []int
	for _, row := range rows.All()[:lastPacket] {
		switch {
		case row.Unreachable != "":
			unreachable = append(unreachable, row.Number)
		case !tried[row.Number]:
			untried = append(untried, row.Number)
		}
	}
	r.number("out_of_reach", len(unreachable))
	if len(untried) > 0 {
		r.miss("no test has tried rows %v", untried)
	}
}

func judgeTried(r *result, tried, misbehaved map[int]bool) {
	r.Tries, r.Failures = len(tried), len(misbehaved)
	if len(misbehaved) > 0 {
		r.miss("rows %v misbehave", slices.Sorted(stdmaps.Keys(misbehaved)))
	}
}

// testFolders are the import paths of packages by their name.
func testFolders(ctx context.Context) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Name}} {{.ImportPath}}", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	folders := map[string]string{}
	for l := range strings.Lines(string(out)) {
		name, path, _ := strings.Cut(strings.TrimSpace(l), " ")
		folders[name] = path
	}
	return folders, nil
}

var (
	matrixRow  = regexp.MustCompile(`(?m)^\| (\d+) \|.*\| ([^|]*) \|$`)
	matrixTest = regexp.MustCompile(`\b([a-z0-9]+)\.(Test\w+)`)
	provesRows = regexp.MustCompile(`: proves rows \[([\d ]+)\]`)
)

// provers are the tests that the matrix names for rows about packets, by package.
func provers(matrix string) map[string][]string {
	tests := map[string][]string{}
	for _, row := range matrixRow.FindAllStringSubmatch(matrix, -1) {
		if n, err := strconv.Atoi(row[1]); err != nil || n > lastPacket {
			continue
		}
		for _, t := range matrixTest.FindAllStringSubmatch(row[2], -1) {
			if !slices.Contains(tests[t[1]], t[2]) {
				tests[t[1]] = append(tests[t[1]], t[2])
			}
		}
	}
	return tests
}

// rows adds which rows tests have said that they prove, and where these have failed.
func (t *tests) rows(tried, misbehaved map[int]bool) {
	for test, said := range t.said {
		for _, l := range said {
			found := provesRows.FindStringSubmatch(l)
			if found == nil {
				continue
			}
			for text := range strings.FieldsSeq(found[1]) {
				n, err := strconv.Atoi(text)
				if err != nil || n > lastPacket {
					continue
				}
				tried[n] = true
				if !t.passed[test] {
					misbehaved[n] = true
				}
			}
		}
	}
}
