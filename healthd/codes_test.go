package healthd

import (
	"testing"

	"pgregory.net/rapid"
)

func TestParseCodes(t *testing.T) {
	for _, c := range []struct {
		text    string
		in, out []int
		written string
	}{
		{"200", []int{200}, []int{199, 201, 0, -1, 1000, 1 << 20}, "200"},
		{"200,202", []int{200, 202}, []int{201, 203}, "200,202"},
		{" 200 ,\t202 ", []int{200, 202}, []int{201}, "200,202"},
		{"200-204", []int{200, 201, 202, 203, 204}, []int{199, 205}, "200-204"},
		{"200 - 204", []int{200, 204}, []int{199, 205}, "200-204"},
		{"404-404", []int{404}, []int{200, 403, 405}, "404"},
		{"302,301,200,200", []int{200, 301, 302}, []int{300, 303}, "200,301,302"},
		{"000-999", []int{0, 200, 999}, []int{-1, 1000}, "000-999"},
	} {
		codes, err := ParseCodes(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		for _, code := range c.in {
			if !codes.Match(code) {
				t.Errorf("%q does not match %d", c.text, code)
			}
		}
		for _, code := range c.out {
			if codes.Match(code) {
				t.Errorf("%q matches %d", c.text, code)
			}
		}
		if got := codes.String(); got != c.written {
			t.Errorf("%q is written %q, want %q", c.text, got, c.written)
		}
	}
}

func TestParseCodesRefuses(t *testing.T) {
	for _, text := range []string{
		"", "  ", "20", "2000", "+20", "-20", "2xx", "200,", ",200", "200,,201", "200;201",
		"204-200", "200-", "-204", "200-202-204", "200-204,300", "200,300-304", "2 00", "２００", "200\n201",
	} {
		if codes, err := ParseCodes(text); err == nil {
			t.Errorf("%q was read as %v", text, codes)
		}
	}
}

func TestZeroCodesAreTheDefault(t *testing.T) {
	var codes Codes
	if !codes.Match(200) || codes.Match(201) || codes.String() != "200" {
		t.Errorf("zero Codes are %v", codes)
	}
}

func TestCodesAreComparable(t *testing.T) {
	parse := func(text string) Codes {
		codes, err := ParseCodes(text)
		if err != nil {
			t.Fatal(err)
		}
		return codes
	}
	if parse("200, 201,202") != parse("200-202") {
		t.Error("the same set differs")
	}
	if parse("200") == parse("201") {
		t.Error("different sets are equal")
	}
}

// What ParseCodes accepts is exactly the set that was meant.
func TestCodesMatchWhatWasGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.IntRange(0, 999).Draw(t, "low")
		high := rapid.IntRange(low, 999).Draw(t, "high")
		three := func(n int) string { return string([]byte{'0' + byte(n/100), '0' + byte(n/10%10), '0' + byte(n%10)}) }
		codes, err := ParseCodes(three(low) + "-" + three(high))
		if err != nil {
			t.Fatal(err)
		}
		for code := -1; code <= 1000; code++ {
			if got, want := codes.Match(code), low <= code && code <= high; got != want {
				t.Fatalf("Match(%d) = %v", code, got)
			}
		}
	})
}

func FuzzParseCodes(f *testing.F) {
	for _, text := range []string{"200", "200, 202", "200-204", "204-200", "-", ",", "999-999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		codes, err := ParseCodes(text)
		if err != nil {
			return
		}
		any := false
		for code := range 1000 {
			any = any || codes.Match(code)
		}
		if !any {
			t.Fatalf("%q was accepted and matches nothing", text)
		}
	})
}
