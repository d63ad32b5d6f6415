package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/bench/cost"
	"qlbaas/tests/bench/table"
	"qlbaas/tests/bench/traffic"
	"qlbaas/tests/lab"
)

// options are the command line's.
type options struct {
	quick, verbose bool
	json, only     string
	rows           string
}

// part is one that can be run alone.
type part struct {
	name string
	run  func(context.Context, options) (table.Report, error)
}

func parts() []part {
	return []part{
		{"traffic", func(ctx context.Context, o options) (table.Report, error) {
			return traffic.Run(ctx, traffic.Options{Quick: o.quick, Rows: o.rows, Log: o.log()})
		}},
		{"cost", func(ctx context.Context, o options) (table.Report, error) {
			return cost.Run(ctx, cost.Options{Quick: o.quick})
		}},
	}
}

func main() {
	o := options{}
	flag.BoolVar(&o.quick, "quick", false, "measure one round, to see that everything works")
	flag.BoolVar(&o.verbose, "v", false, "say on stderr what is measured")
	flag.StringVar(&o.json, "json", "", "also write the report to this file")
	flag.StringVar(&o.only, "only", "", "parts to run, as in traffic,cost")
	flag.StringVar(&o.rows, "rows", "", "rows of traffic to measure, of single,many,bulk,anew,two,least,long")
	flag.Parse()
	os.Exit(lab.Enter(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if err := run(ctx, o); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}))
}

func (o options) log() *slog.Logger {
	to := io.Discard
	if o.verbose {
		to = os.Stderr
	}
	return slog.New(slog.NewTextHandler(to, nil))
}

// run runs the parts and prints what all of them have found.
func run(ctx context.Context, o options) error {
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	report := table.Report{Conditions: conditions(o)}
	var errs []error
	for _, p := range chosen {
		began := time.Now()
		found, err := p.run(ctx, o)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		report.Add(found)
		report.Conditions["time for "+p.name] = time.Since(began).Round(time.Second).String()
	}
	errs = append(errs, report.Text(os.Stdout))
	if o.json != "" {
		errs = append(errs, write(o.json, &report))
	}
	return errors.Join(errs...)
}

func choose(only string) ([]part, error) {
	all := parts()
	if only == "" {
		return all, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no part %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func write(path string, report *table.Report) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(report.JSON(f), f.Close())
}

// conditions say where and when this was.
func conditions(o options) map[string]string {
	c := map[string]string{
		"date": time.Now().UTC().Format(time.DateOnly + " 15:04 UTC"),
		"CPUs": fmt.Sprint(runtime.NumCPU()),
	}
	if o.quick {
		c["quick"] = "one round: figures show that it works, and not much more"
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		c["kernel"] = unix.ByteSliceToString(name.Release[:])
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return c
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			c["processor"] = strings.TrimSpace(value)
			break
		}
	}
	return c
}
