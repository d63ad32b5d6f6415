package cookie_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qlbaas/l7/cookie"
	"qlbaas/tests/bubble"
)

func TestValue(t *testing.T) {
	key := []byte("a key of some bytes")
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("member"))
	want := hex.EncodeToString(mac.Sum(nil))[:32]
	if got := cookie.Value(key, "member"); got != want || len(got) != cookie.Length {
		t.Errorf("Value = %q, want %q", got, want)
	}
	if cookie.Value(key, "other") == want || cookie.Value([]byte("another key, as long"), "member") == want {
		t.Error("another member, or another key, gives the same value")
	}
}

func TestFindAndWithout(t *testing.T) {
	for _, c := range []struct {
		line, value string
		count       int
		rest        string
	}{
		{"SRV=x", "x", 1, ""},
		{"a=b; SRV=x; c=d", "x", 1, "a=b; c=d"},
		{"a=b;SRV=x;c=d", "x", 1, "a=b; c=d"},
		{"SRV=x; SRV=y", "x", 2, ""},
		{" SRV = x ; a=b", "x", 1, "a=b"},
		{"srv=x; XSRV=y; SRVX=z", "", 0, "srv=x; XSRV=y; SRVX=z"},
		{"SRV; a=SRV=x", "", 0, "SRV; a=SRV=x"},
		{"SRV=", "", 1, ""},
		{`SRV="x"; a="b;c"`, `"x"`, 1, `a="b; c"`},
		{"", "", 0, ""},
		{";;", "", 0, ""},
	} {
		value, count := cookie.Find([]byte(c.line), cookie.Name)
		if string(value) != c.value || count != c.count {
			t.Errorf("Find(%q) = %q, %d, want %q, %d", c.line, value, count, c.value, c.count)
		}
		rest := cookie.AppendWithout([]byte("before"), []byte(c.line), cookie.Name)
		if string(rest) != "before"+c.rest {
			t.Errorf("AppendWithout(%q) = %q, want %q", c.line, rest, c.rest)
		}
	}
}

func FuzzWithout(f *testing.F) {
	f.Add("a=b; SRV=x; c=d")
	f.Add("SRV=SRV=SRV;=SRV; ;SRV")
	f.Fuzz(func(t *testing.T, line string) {
		rest := cookie.AppendWithout(nil, []byte(line), cookie.Name)
		if _, count := cookie.Find(rest, cookie.Name); count != 0 {
			t.Errorf("%q leaves %q", line, rest)
		}
		if len(rest) > 2*len(line) || strings.ContainsAny(string(rest), "\r\n") && !strings.ContainsAny(line, "\r\n") {
			t.Errorf("%q becomes %q", line, rest)
		}
	})
}

func TestGiven(t *testing.T) {
	for _, c := range []struct {
		line, value string
		found       bool
	}{
		{"SID=abc; Path=/", "abc", true},
		{"SID=abc", "abc", true},
		{"SID=", "", true},
		{"SIDE=abc", "", false},
		{"x=y; SID=abc", "", false},
		{"SID", "", false},
	} {
		value, found := cookie.Given([]byte(c.line), "SID")
		if string(value) != c.value || found != c.found {
			t.Errorf("Given(%q) = %q, %v", c.line, value, found)
		}
	}
}

func TestInPath(t *testing.T) {
	for target, want := range map[string]string{
		"/app;SID=abc":              "abc",
		"/app;sid=abc?x=y":          "abc",
		"/app;v=1;SID=abc;w=2/page": "abc",
		"/app;SID=abc/page":         "abc",
		"/app?;SID=abc":             "",
		"/app;SIDE=abc":             "",
		"/app;SID=":                 "",
		"/app;SID":                  "",
		"/SID=abc":                  "",
	} {
		value, found := cookie.InPath([]byte(target), "SID")
		if string(value) != want || found != (want != "") {
			t.Errorf("InPath(%q) = %q, %v, want %q", target, value, found, want)
		}
	}
}

func TestLearnedIsBounded(t *testing.T) {
	l := cookie.NewLearned(3, 0)
	for i := range 3 {
		l.Learn(fmt.Append(nil, i), "m")
	}
	if _, known := l.Owner([]byte("0")); !known {
		t.Fatal("a value is forgotten in a table with room")
	}
	l.Learn([]byte("3"), "m") // 1 was used longest ago
	for value, want := range map[string]bool{"0": true, "1": false, "2": true, "3": true} {
		if _, known := l.Owner([]byte(value)); known != want {
			t.Errorf("value %s known: %v, want %v", value, known, want)
		}
	}
	l.Learn(nil, "m")
	if _, known := l.Owner(nil); known || l.Len() != 3 {
		t.Errorf("an empty value is learned, or the table holds %d", l.Len())
	}
}

func TestLearnedLooksAt56Characters(t *testing.T) {
	l := cookie.NewLearned(0, 0)
	start := strings.Repeat("a", 56)
	l.Learn([]byte(start+"1"), "m")
	for value, want := range map[string]bool{start: true, start + "2": true, start[1:]: false, start[1:] + "b": false} {
		if _, known := l.Owner([]byte(value)); known != want {
			t.Errorf("value %s known: %v, want %v", value, known, want)
		}
	}
}

func TestLearnedSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, next := cookie.NewLearned(0, 0), cookie.NewLearned(0, 0)
		l.Learn([]byte("old"), "m0")
		<-l.Changed()
		bubble.Pass(time.Second)
		then := time.Now()
		l.Owner([]byte("old")) // which is a use, and no news
		l.Learn([]byte("a"), "m1")
		l.Learn([]byte("b"), "m2")
		<-l.Changed()
		records := l.Since(then)
		if err := next.Restore(records); err != nil || len(records) != 2 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		if owner, _ := next.Owner([]byte("b")); owner != "m2" {
			t.Errorf("b belongs to %q", owner)
		}
		if left := l.Since(time.Now().Add(1)); len(left) != 0 {
			t.Errorf("from the future: %v", left)
		}
	})
}

func TestLearnedForgetsTheIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := cookie.NewLearned(0, 0)
		l.Learn([]byte("used"), "m")
		l.Learn([]byte("idle"), "m")
		bubble.Pass(2 * time.Hour)
		if _, known := l.Owner([]byte("used")); !known {
			t.Fatal("forgotten after two hours")
		}
		bubble.Pass(2 * time.Hour)
		if _, known := l.Owner([]byte("used")); !known {
			t.Error("a use does not count")
		}
		if _, known := l.Owner([]byte("idle")); known {
			t.Error("known after four idle hours")
		}
	})
}

func TestLearnedMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := cookie.NewLearned(0, 0)
		old.Learn([]byte("a"), "m1")
		bubble.Pass(time.Hour)
		old.Learn([]byte("b"), "m2")
		next := cookie.NewLearned(2, 0)
		if err := next.Restore(old.Records()); err != nil {
			t.Fatal(err)
		}
		bubble.Pass(150 * time.Minute) // a: 3.5 h, b: 2.5 h
		if owner, _ := next.Owner([]byte("b")); owner != "m2" {
			t.Errorf("b belongs to %q", owner)
		}
		if _, known := next.Owner([]byte("a")); known {
			t.Error("a's age did not move on")
		}
		if err := next.Restore([]cookie.Record{{Value: "?"}}); err == nil {
			t.Error("a record that is none is taken")
		}
	})
}
