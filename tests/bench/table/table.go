// Package table holds what a benchmark has found: figures with their spread, and goals
// that are ratios of two of them. It prints them for people and for programs.
package table

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Figure is one thing measured of one subject, over rounds.
type Figure struct {
	// What is measured, as "added CPU per request, keep-alive".
	What string `json:"what"`
	// Who it was measured of, as "tcx" or "haproxy-tcp".
	Who    string  `json:"who"`
	Unit   string  `json:"unit"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

// Goal is a bound on how a subject's figure compares with another one's.
type Goal struct {
	What    string `json:"what"`
	Who     string `json:"who"`
	Against string `json:"against"`
	// Ratio is the median over rounds of this round's ratio, Low and High its extremes.
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// AtMost or AtLeast is the bound; the other one is 0.
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
	// None says that there shall be nothing at all; Ratio is then the number itself.
	None    bool `json:"none,omitempty"`
	Reached bool `json:"reached"`
}

// Report is what a run has found.
type Report struct {
	// Conditions say where and when: kernel, processor, date, rounds, peers' versions.
	Conditions map[string]string `json:"conditions"`
	Figures    []Figure          `json:"figures"`
	Goals      []Goal            `json:"goals"`
	// Notes are what a reader of the figures must know.
	Notes []string `json:"notes,omitempty"`
}

// Add puts in what another part of the run has found.
func (r *Report) Add(of Report) {
	for key, value := range of.Conditions {
		if r.Conditions == nil {
			r.Conditions = map[string]string{}
		}
		r.Conditions[key] = value
	}
	r.Figures = append(r.Figures, of.Figures...)
	r.Goals = append(r.Goals, of.Goals...)
	r.Notes = append(r.Notes, of.Notes...)
}

// Of makes a figure of what the rounds have measured. It panics without any.
func Of(what, who, unit string, rounds []float64) Figure {
	return Figure{
		What: what, Who: who, Unit: unit, Rounds: len(rounds),
		Median: Median(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds),
	}
}

// AtMost is a goal: own over other, round by round, shall be at most the bound.
func AtMost(what, who, against string, own, other []float64, bound float64) Goal {
	g := compare(what, who, against, own, other)
	g.AtMost, g.Reached = bound, g.Ratio <= bound
	return g
}

// AtLeast is a goal: own over other, round by round, shall be at least the bound.
func AtLeast(what, who, against string, own, other []float64, bound float64) Goal {
	g := compare(what, who, against, own, other)
	g.AtLeast, g.Reached = bound, g.Ratio >= bound
	return g
}

// None is a goal: none of the rounds shall have counted any.
func None(what, who string, rounds []float64) Goal {
	return Goal{
		What: what, Who: who, Ratio: Median(rounds), Low: slices.Min(rounds), High: slices.Max(rounds),
		None: true, Reached: slices.Max(rounds) == 0,
	}
}

func compare(what, who, against string, own, other []float64) Goal {
	ratios := make([]float64, min(len(own), len(other)))
	for i := range ratios {
		ratios[i] = own[i] / other[i]
	}
	return Goal{
		What: what, Who: who, Against: against,
		Ratio: Median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios),
	}
}

// Median is the middle one, or the mean of the two in the middle. It panics without any.
func Median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// Text prints the report for a person.
func (r *Report) Text(out io.Writer) error {
	for _, key := range slices.Sorted(maps.Keys(r.Conditions)) {
		fmt.Fprintf(out, "%s: %s\n", key, r.Conditions[key])
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nwhat\twho\tmedian\tmin\tmax\tunit\trounds")
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", f.What, f.Who, digits(f.Median), digits(f.Min), digits(f.Max), f.Unit, f.Rounds)
	}
	fmt.Fprintln(w, "\ngoal\twho\tagainst\tratio\tmin\tmax\twanted\t")
	for _, g := range r.Goals {
		said := "reached"
		if !g.Reached {
			said = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.What, g.Who, g.Against, digits(g.Ratio), digits(g.Low), digits(g.High), g.wanted(), said)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(out, "note:", note)
	}
	return nil
}

// JSON prints the report for a program.
func (r *Report) JSON(out io.Writer) error {
	to := json.NewEncoder(out)
	to.SetIndent("", "  ")
	if err := to.Encode(r); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}

func (g *Goal) wanted() string {
	if g.None {
		return "0"
	}
	if g.AtMost > 0 {
		return fmt.Sprintf("≤ %g", g.AtMost)
	}
	return fmt.Sprintf("≥ %g", g.AtLeast)
}

// digits prints three significant digits, and whole numbers above that.
func digits(v float64) string {
	if v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
