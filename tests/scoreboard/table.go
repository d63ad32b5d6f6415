package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	stdmaps "maps"
)

// table prints all lines for a reader.
func table(out io.Writer, lines []line) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nfigure\t\ttries\tfailures\tseconds\ttarget, or what a mutant breaks\n")
	for _, l := range lines {
		words := l.Target
		if l.Mutant != "" {
			words = l.Mutant + ": " + l.Broken
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.0f\t%s\n", l.Figure, l.word(), l.Tries, l.Failures, l.Seconds, shorten(words, 100))
		for _, why := range l.why() {
			fmt.Fprintf(w, "\t\t\t\t\t- %s\n", shorten(why, 200))
		}
	}
	w.Flush()
}

// word is what came out.
func (l line) word() string {
	switch {
	case l.OK && l.Mutant != "":
		return "noticed"
	case l.OK:
		return "ok"
	case l.Error != "":
		return "ERROR"
	case l.Mutant != "":
		return "UNNOTICED"
	}
	return "MISSED"
}

// why are the sentences and numbers behind it.
func (l line) why() (all []string) {
	if l.Error != "" {
		all = append(all, l.Error)
	}
	all = append(all, l.Misses...)
	if l.Mutant != "" {
		return all
	}
	for _, name := range slices.Sorted(stdmaps.Keys(l.numbers)) {
		all = append(all, fmt.Sprintf("%s: %v", name, l.numbers[name]))
	}
	return all
}

func shorten(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
