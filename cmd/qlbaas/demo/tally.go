package demo

import (
	"fmt"
	"slices"
	"strings"
)

// tally says how often each answered, as in "WEB1 ×50, WEB2 ×50".
func tally(who []string) string {
	count := map[string]int{}
	for _, w := range who {
		count[w]++
	}
	var words []string
	for w, n := range count {
		words = append(words, fmt.Sprintf("%s ×%d", w, n))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// numbers is as in "link tcx: 42, link xdp: 43".
func numbers(of map[string]uint32) string {
	var words []string
	for name, n := range of {
		words = append(words, fmt.Sprintf("%s: %d", name, n))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// onlyOne returns who gave all answers.
func onlyOne(who []string) (string, error) {
	if len(who) == 0 {
		return "", fmt.Errorf("nobody answered")
	}
	for i, w := range who {
		if w != who[0] {
			return "", fmt.Errorf("answer %d is from %s, those before from %s; want one member for all (%s)", i+1, w, who[0], tally(who))
		}
	}
	return who[0], nil
}

// alternate fails unless exactly the two answer, strictly in turn.
func alternate(who []string, a, b string) error {
	for i, w := range who {
		if w != a && w != b {
			return fmt.Errorf("answer %d is from %q, want %s or %s", i+1, w, a, b)
		}
		if i > 0 && w == who[i-1] {
			return fmt.Errorf("answers %d and %d are both from %s, want strict turns (%s)", i, i+1, w, tally(who))
		}
	}
	return nil
}

// wrap fills lines of at most width characters with words.
func wrap(words []string, width int) string {
	var out strings.Builder
	line := 0
	for _, w := range words {
		n := len([]rune(w))
		switch {
		case line == 0:
		case line+1+n > width:
			out.WriteString("\n")
			line = 0
		default:
			out.WriteString(" ")
			line++
		}
		out.WriteString(w)
		line += n
	}
	return out.String()
}
