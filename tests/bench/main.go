package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/bench/cost"
	"qlbaas/tests/bench/pools"
	"qlbaas/tests/bench/table"
	"qlbaas/tests/bench/traffic"
	"qlbaas/tests/lab"
)

// options are the command line's.
type options struct {
	quick, verbose   bool
	json, only, rows string
	child            string // the part that this process runs, and nothing else
}

// part is one that can be run alone. Each has a private world of its own, and leaves in it
// what it likes.
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
		{"pools", func(ctx context.Context, o options) (table.Report, error) {
			return pools.Run(ctx, pools.Options{Quick: o.quick, Log: o.log()})
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
	flag.StringVar(&o.child, "child", "", "run this part here and print its report; for the command itself")
	flag.Parse()
	// A child is killed when the thread that started it ends; the main one does not.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := start(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, o options) error {
	if o.child == "" {
		return runAll(ctx, o)
	}
	chosen, err := choose(o.child)
	if err != nil {
		return err
	}
	code := lab.Enter(func() int {
		report, err := chosen[0].run(ctx, o)
		if err = errors.Join(err, report.JSON(os.Stdout)); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", o.child, err)
			return 1
		}
		return 0
	})
	if code != 0 {
		return fmt.Errorf("%s has failed", o.child)
	}
	return nil
}

func (o options) log() *slog.Logger {
	to := io.Discard
	if o.verbose {
		to = os.Stderr
	}
	return slog.New(slog.NewTextHandler(to, nil))
}

// runAll runs the parts, one after the other, and prints what all of them have found.
func runAll(ctx context.Context, o options) error {
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	report := table.Report{Conditions: conditions(o)}
	var errs []error
	for _, p := range chosen {
		began := time.Now()
		fmt.Fprintln(os.Stderr, "measuring", p.name)
		found, err := apart(ctx, p.name)
		errs = append(errs, err)
		report.Add(found)
		report.Conditions["time for "+p.name] = time.Since(began).Round(time.Second).String()
	}
	errs = append(errs, report.Text(os.Stdout))
	if o.json != "" {
		errs = append(errs, write(o.json, &report))
	}
	return errors.Join(errs...)
}

// apart runs a part in a process of its own. What it has found before it failed counts.
func apart(ctx context.Context, name string) (found table.Report, err error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(os.Args[1:], "-child", name)...)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	if out.Len() > 0 {
		if wrong := json.Unmarshal(out.Bytes(), &found); wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: read report: %w", name, wrong))
		}
	}
	return found, err
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
