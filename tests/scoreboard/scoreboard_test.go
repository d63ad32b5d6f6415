package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestMutantsApply holds the patches against the tree: each breaks what is there today,
// and for a figure that exists.
func TestMutantsApply(t *testing.T) {
	all, err := readMutants("mutants")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if _, err := find(figures(), m.figure); err != nil {
			t.Errorf("%s: %v", m.path, err)
		}
		patch, err := filepath.Abs(m.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := apply(t.Context(), "../..", patch, "--check"); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Log("mend the patch, or take it away together with what it broke")
	}
}

// TestFiguresHaveMutants: a figure that nothing can make fail says nothing.
func TestFiguresHaveMutants(t *testing.T) {
	all, err := readMutants("mutants")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, f := range figures() {
		if !regexp.MustCompile(`^B[0-9]+$`).MatchString(f.id) || ids[f.id] {
			t.Errorf("figure %q has no name of its own", f.id)
		}
		ids[f.id] = true
		if f.what == "" || f.target == "" || f.bound == 0 || f.run == nil {
			t.Errorf("%s is not wholly described", f.id)
		}
		has := false
		for _, m := range all {
			has = has || m.figure == f.id
		}
		if !has {
			t.Errorf("%s has no mutant", f.id)
		}
	}
}

func TestMutantNeedsWords(t *testing.T) {
	diff := "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
	for name, content := range map[string]string{
		"b2-silent.patch":  diff,
		"b2-foreign.patch": "It is broken, and B3 notices.\n" + diff,
		"nodash.patch":     "It is broken, and NODASH notices.\n" + diff,
		"b2-empty.patch":   "It is broken, and B2 notices.\n",
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := readMutant(path); err == nil {
			t.Errorf("%s is taken for a mutant: %+v", name, m)
		}
	}
}

func TestLine(t *testing.T) {
	l := line{Figure: "B2", Target: "> 0", Seed: "0x1", numbers: map[string]any{"reached": 3}}
	got, err := encode(l)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"figure":"B2","what":"","tries":0,"failures":0,"seed":"0x1","seconds":0,"kernel":"","target":"> 0","ok":false,"reached":3}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestResultOK(t *testing.T) {
	missed := result{Tries: 3}
	missed.miss("slower than %d/s", 5)
	for _, c := range []struct {
		r    result
		want bool
	}{
		{result{}, false},
		{result{Tries: 3}, true},
		{result{Tries: 3, Failures: 1}, false},
		{missed, false},
	} {
		if c.r.ok() != c.want {
			t.Errorf("%+v: %v", c.r, c.r.ok())
		}
	}
}
