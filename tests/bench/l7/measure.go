package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// benchCase is a kind of requests.
type benchCase struct {
	name, file  string
	connections int
	// known clients present a cookie of the first member, the others an unknown one, so
	// that each answer gives them a new one.
	known bool
	// target is the ratio to HAProxy that is wanted; 0 if none is.
	target float64
}

func cases() []benchCase {
	return []benchCase{
		{name: "128B-new", file: "small", connections: 64, target: 1.25},
		{name: "128B-known", file: "small", connections: 64, known: true, target: 1.25},
		{name: "1MB-new", file: "large", connections: 16, target: 1},
		{name: "1MB-known", file: "large", connections: 16, known: true, target: 1},
	}
}

// figure is one proxy's part in a case.
type figure struct {
	Proxy string `json:"proxy"`
	// Cost is processor time per request in µs, Rate requests a second: medians.
	Cost float64 `json:"us_per_request"`
	Rate float64 `json:"requests_per_second"`
	// Ratio is the median of this proxy's cost over HAProxy's in the same round, Low and
	// High its extremes.
	Ratio float64 `json:"to_haproxy"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

type result struct {
	Case    string   `json:"case"`
	Target  float64  `json:"target"`
	Figures []figure `json:"figures"`
}

// sample is one measurement.
type sample struct{ cost, rate float64 }

// compare measures all proxies, round by round.
func (w *world) compare(ctx context.Context, c benchCase, o options) (result, error) {
	samples := map[string][]sample{}
	for round := range o.rounds + 1 {
		for i := range w.proxies {
			s := w.proxies[(i+round)%len(w.proxies)]
			m, err := w.measure(ctx, c, s, o)
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", s.name, err)
			}
			if round > 0 { // the first one only warms up
				samples[s.name] = append(samples[s.name], m)
			}
		}
	}
	r := result{Case: c.name, Target: c.target}
	for _, s := range w.proxies {
		r.Figures = append(r.Figures, summarise(s.name, samples[s.name], samples["haproxy"]))
	}
	return r, nil
}

func summarise(name string, own, haproxy []sample) figure {
	var costs, rates, ratios []float64
	for i, m := range own {
		costs, rates = append(costs, m.cost), append(rates, m.rate)
		ratios = append(ratios, m.cost/haproxy[i].cost)
	}
	return figure{
		Proxy: name, Cost: median(costs), Rate: median(rates),
		Ratio: median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios),
	}
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

var (
	counted = regexp.MustCompile(`(\d+) requests in`)
	rated   = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	failed  = regexp.MustCompile(`Non-2xx|Socket errors: (?:connect [^0]|connect 0, read [^0]|connect 0, read 0, write [^0])`)
)

// measure asks one proxy for a while.
func (w *world) measure(ctx context.Context, c benchCase, s *subject, o options) (sample, error) {
	value := "unknown"
	if c.known {
		value = s.cookie
	}
	if o.profile != "" && s.name == "sidecar" {
		defer w.record(ctx, filepath.Join(o.profile, c.name+".perf"), s, o)()
	}
	before, err := processorTime(s.process.Pid())
	if err != nil {
		return sample{}, err
	}
	said, err := w.client.Run(ctx, "wrk", "-t1", fmt.Sprint("-c", c.connections), fmt.Sprintf("-d%ds", o.seconds), "--timeout", "30s",
		"-H", "Cookie: theme=dark; SRV="+value+"; lang=en", "http://"+s.address.String()+"/"+c.file)
	if err != nil {
		return sample{}, err
	}
	after, err := processorTime(s.process.Pid())
	if err != nil {
		return sample{}, err
	}
	if failed.MatchString(said) {
		return sample{}, fmt.Errorf("wrk says %s", said)
	}
	requests, rate := counted.FindStringSubmatch(said), rated.FindStringSubmatch(said)
	if requests == nil || rate == nil {
		return sample{}, fmt.Errorf("wrk says %s", said)
	}
	n, err := strconv.ParseFloat(requests[1], 64)
	perSecond, err2 := strconv.ParseFloat(rate[1], 64)
	return sample{cost: (after - before).Seconds() * 1e6 / n, rate: perSecond}, errors.Join(err, err2)
}

// record profiles a proxy while it is measured; the returned function waits for the end.
func (w *world) record(ctx context.Context, path string, s *subject, o options) func() {
	cmd := exec.CommandContext(ctx, "perf", "record", "-q", "-g", "-o", path, "-p", strconv.Itoa(s.process.Pid()), "--", "sleep", strconv.Itoa(o.seconds))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "l7 bench: profile:", err)
		return func() {}
	}
	return func() { _ = cmd.Wait() } // it says on stderr what is wrong
}

// processorTime is what all threads of a process have used.
func processorTime(pid int) (time.Duration, error) {
	// CPUCLOCK_SCHED of that process: see clock_getcpuclockid(3).
	clock := ^int32(pid)<<3 | 2
	var at unix.Timespec
	if err := unix.ClockGettime(clock, &at); err != nil {
		return 0, fmt.Errorf("read processor time of %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}

// table prints results for a reader.
func table(out io.Writer, results []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tproxy\tµs/request\trequests/s\tto haproxy\trounds\ttarget")
	for _, r := range results {
		for _, f := range r.Figures {
			target := ""
			if f.Proxy == "sidecar" {
				target = fmt.Sprintf("≤ %.2f: met", r.Target)
				if f.Ratio > r.Target {
					target = strings.Replace(target, "met", "MISSED", 1)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%.1f\t%.0f\t%.2f\t%.2f–%.2f\t%s\n", r.Case, f.Proxy, f.Cost, f.Rate, f.Ratio, f.Low, f.High, target)
		}
	}
	return w.Flush()
}
