package demo

import (
	"fmt"
	"io"
	"strings"
)

// teller writes the story. What cannot be written is nobody's to read: a closed
// pipe ends the demo by its signal.
type teller struct{ w io.Writer }

func (t teller) printf(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

// chapter begins a chapter.
func (t teller) chapter(n int, title string) {
	head := fmt.Sprintf("── %d  %s ", n, title)
	t.printf("\n%s%s\n", head, strings.Repeat("─", max(0, 78-len([]rune(head)))))
}

// say explains.
func (t teller) say(format string, args ...any) { t.lines("  ", fmt.Sprintf(format, args...)) }

// saw is for what was seen.
func (t teller) saw(format string, args ...any) { t.lines("    ", fmt.Sprintf(format, args...)) }

// typed is a command as a user types it.
func (t teller) typed(words ...string) { t.printf("  $ %s\n", shell(words)) }

func (t teller) lines(indent, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		t.printf("%s%s\n", indent, line)
	}
}

// shell joins words so that a shell takes them apart again.
func shell(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$`|&;<>()*?[]{}~#!") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
