package demo

import (
	"strings"
	"testing"
)

func TestOnlyOne(t *testing.T) {
	for _, c := range []struct{ who, one, err string }{
		{"A A A", "A", ""},
		{"A", "A", ""},
		{"", "", "nobody"},
		{"A A B", "", "answer 3 is from B"},
	} {
		one, err := onlyOne(strings.Fields(c.who))
		check(t, c.who, err, c.err)
		if one != c.one {
			t.Errorf("%q: got %q, want %q", c.who, one, c.one)
		}
	}
}

func TestAlternate(t *testing.T) {
	for _, c := range []struct{ who, err string }{
		{"A B A B", ""},
		{"B A B", ""},
		{"A B B A", "answers 2 and 3 are both from B"},
		{"A A", "strict turns"},
		{"A C A", `answer 2 is from "C"`},
	} {
		check(t, c.who, alternate(strings.Fields(c.who), "A", "B"), c.err)
	}
}

// check compares an error with a part of its text; "" stands for none.
func check(t *testing.T, name string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%q: got error %v, want %q", name, err, want)
	}
}

func TestTally(t *testing.T) {
	if got, want := tally(strings.Fields("B A B A B")), "A ×2, B ×3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWrap(t *testing.T) {
	if got, want := wrap(strings.Fields("aa bb cc dddddddd e"), 5), "aa bb\ncc\ndddddddd\ne"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestShell takes a printed command for what a shell makes of it.
func TestShell(t *testing.T) {
	got := shell([]string{"qlbaas", "vip", "update", "VIP for web servers", "--x", "a=b,c", "it's", "", "$HOME"})
	want := `qlbaas vip update 'VIP for web servers' --x a=b,c 'it'\''s' '' '$HOME'`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
