package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// ran is what `go test -json` prints of a small run: TestA proves two rows and fails in
// one of its subtests, which proves another; TestB proves one.
const ran = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: proves rows [1 2]\n"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"    a_test.go:4: proves rows [3]\n"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"    a_test.go:5: scoreboard: {\"tries\":7,"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"\"failures\":2}\n"}
{"Action":"fail","Package":"p","Test":"TestA/x"}
{"Action":"output","Package":"p","Test":"TestA/y","Output":"    a_test.go:4: proves rows [4 116]\n"}
{"Action":"pass","Package":"p","Test":"TestA/y"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    a_test.go:9: proves rows [4 5]\n"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestDied","Output":"    a_test.go:9: proves rows [6]\n"}
{"Action":"fail","Package":"p"}
`

func TestReadGoTest(t *testing.T) {
	run := newTests()
	if err := run.read(strings.NewReader(ran)); err != nil {
		t.Fatal(err)
	}
	tried, misbehaved := map[int]bool{}, map[int]bool{}
	run.rows(tried, misbehaved)
	if got, want := fmt.Sprint(tried), "map[1:true 2:true 3:true 4:true 5:true 6:true]"; got != want {
		t.Errorf("tried %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(misbehaved), "map[1:true 2:true 3:true 6:true]"; got != want {
		t.Errorf("misbehaved %s, want %s", got, want)
	}
	var r result
	run.add(&r)
	if r.Tries != 7 || r.Failures != 2 {
		t.Errorf("%+v", r)
	}
	passed, failed := leaves(run.passed), leaves(run.failed)
	slices.Sort(passed)
	if got, want := fmt.Sprint(passed, failed), "[p/TestA/y p/TestB] [p/TestA/x]"; got != want {
		t.Errorf("leaves are %s, want %s", got, want)
	}
}

// TestFailureWithoutNumber: a test that fails for another reason than it counts has
// failed once.
func TestFailureWithoutNumber(t *testing.T) {
	run := newTests()
	err := run.read(strings.NewReader(strings.Replace(ran, `\"failures\":2`, `\"failures\":0`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	var r result
	run.add(&r)
	if r.Failures != 1 {
		t.Errorf("%+v", r)
	}
}

func TestBrokenBuild(t *testing.T) {
	out := `{"Action":"build-output","ImportPath":"p","Output":"no\n"}` + "\n" +
		`{"Action":"fail","Package":"p","FailedBuild":"p"}` + "\n"
	if err := newTests().read(strings.NewReader(out)); err == nil {
		t.Error("a package that does not build is taken for a failed test")
	}
}

func TestProvers(t *testing.T) {
	matrix := `
| row | packet | what becomes of it | proven by |
|---|---|---|---|
| 1 | some | ` + "`trunc_l3`" + ` | bpf.TestA, tests.TestB |
| 2 | other | passes |  |
| 3 | third | forwarded | bpf.TestA |
| 115 | last | forwarded | bpf.TestC |
| 116 | a load | all live | tests.TestFlood |
`
	if got, want := fmt.Sprint(provers(matrix)), "map[bpf:[TestA TestC] tests:[TestB]]"; got != want {
		t.Errorf("provers are %s, want %s", got, want)
	}
}
