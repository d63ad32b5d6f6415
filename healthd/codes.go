package healthd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Codes is a set of HTTP status codes, 000..999. The zero value stands for the
// default, 200 alone. Codes are comparable with ==.
type Codes struct {
	bits [16]uint64
	set  bool
}

// ParseCodes reads either a comma list ("200, 202", blanks around the commas do
// not matter) or exactly one range ("200-204"). A code has three digits, a range
// does not run backwards.
func ParseCodes(text string) (Codes, error) {
	if strings.TrimSpace(text) == "" {
		return Codes{}, errors.New("no code given")
	}
	if low, high, ok := strings.Cut(text, "-"); ok {
		return parseRange(low, high)
	}
	var c Codes
	for item := range strings.SplitSeq(text, ",") {
		code, err := parseCode(item)
		if err != nil {
			return Codes{}, err
		}
		c.add(code)
	}
	return c, nil
}

func parseRange(low, high string) (Codes, error) {
	first, err := parseCode(low)
	if err != nil {
		return Codes{}, err
	}
	last, err := parseCode(high)
	if err != nil {
		return Codes{}, err
	}
	if last < first {
		return Codes{}, fmt.Errorf("range %03d-%03d runs backwards", first, last)
	}
	var c Codes
	for code := first; code <= last; code++ {
		c.add(code)
	}
	return c, nil
}

func parseCode(text string) (int, error) {
	text = strings.Trim(text, " \t")
	code, err := strconv.ParseUint(text, 10, 16)
	if err != nil || len(text) != 3 {
		return 0, fmt.Errorf("%q is not a code of three digits", text)
	}
	return int(code), nil
}

func (c *Codes) add(code int) {
	c.bits[code/64] |= 1 << (code % 64)
	c.set = true
}

// Match reports whether code is in the set.
func (c Codes) Match(code int) bool {
	if !c.set {
		return code == 200
	}
	return code >= 0 && code < 1000 && c.bits[code/64]&(1<<(code%64)) != 0
}

// String writes the set as ascending codes, runs of three and more as ranges:
// "200", "200,202", "200-204".
func (c Codes) String() string {
	var parts []string
	for code := 0; code < 1000; code++ {
		if !c.Match(code) {
			continue
		}
		last := code
		for c.Match(last + 1) {
			last++
		}
		if last < code+2 {
			parts = append(parts, fmt.Sprintf("%03d", code))
			continue
		}
		parts = append(parts, fmt.Sprintf("%03d-%03d", code, last))
		code = last
	}
	return strings.Join(parts, ",")
}
