package lbaas

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText is how many characters a name, a description and other free texts hold.
const maxText = 255

// checkText refuses what would let a stored text act on a terminal, a log or a
// page that shows it: control characters (ESC among them), line separators, and
// the marks that turn the writing direction around.
func checkText(attr, s string, max int) error {
	if !utf8.ValidString(s) {
		return invalid(errBadRequest, attr, "is not valid UTF-8")
	}
	if n := utf8.RuneCountInString(s); n > max {
		return invalid(errBadRequest, attr, "has %d characters, at most %d are allowed", n, max)
	}
	for _, r := range s {
		if unicode.IsControl(r) || isDirectionMark(r) || r == '\u2028' || r == '\u2029' {
			return invalid(errBadRequest, attr, "the character %U is not allowed", r)
		}
	}
	return nil
}

func isDirectionMark(r rune) bool {
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// quote shows a value of a request in a message: bounded and without a
// character that acts on a terminal.
func quote(v any) string {
	const longest = 64
	var s string
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if len(v) > longest {
			return strconv.QuoteToASCII(strings.ToValidUTF8(v[:longest], "")) + "…"
		}
		return strconv.QuoteToASCII(v)
	case json.Number:
		s = v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		s = fmt.Sprint(v)
	}
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}

// isUUID tells whether s is a UUID in its canonical text form, lower case; no
// other text may become part of a key, a path or a name.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
		default:
			return false
		}
	}
	return true
}

// isToken tells whether s is a token as HTTP defines it (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
