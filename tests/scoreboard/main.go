package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// options are the command's flags.
type options struct {
	only    string
	seed    uint64
	mutants bool
	verbose bool
	list    bool
	child   string // the figure that this process runs, and nothing else
	broken  bool   // the child's build: its first failure is enough
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2) // flag has said why
	}
	// A child is killed when the thread that started it ends; the main one does not.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	code := start(ctx, o)
	stop()
	os.Exit(code)
}

func parse(args []string) (options, error) {
	o := options{seed: rand.Uint64()}
	flags := flag.NewFlagSet("scoreboard", flag.ContinueOnError)
	flags.StringVar(&o.only, "only", "", "figures to run, as in B2,B3")
	flags.Func("seed", "seed of all chance, as printed (default random)", func(s string) (err error) {
		o.seed, err = strconv.ParseUint(s, 0, 64)
		return err
	})
	flags.BoolVar(&o.mutants, "mutants", false, "run each figure against its broken builds as well")
	flags.BoolVar(&o.verbose, "v", false, "show what the figures say while they run")
	flags.BoolVar(&o.list, "list", false, "list figures and mutants, run nothing")
	flags.StringVar(&o.child, "child", "", "run this figure here and print its result; for the command itself")
	flags.BoolVar(&o.broken, "broken", false, "the child's first failure is enough; for the command itself")
	return o, flags.Parse(args)
}

func start(ctx context.Context, o options) int {
	var err error
	ok := true
	switch {
	case o.child != "":
		return childMain(ctx, o)
	case o.list:
		err = list(os.Stdout, o)
	default:
		ok, err = scoreboard(ctx, os.Stdout, o)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "scoreboard: %v\n", err)
		ok = false
	}
	if !ok {
		return 1
	}
	return 0
}

// brokenKey is that of a context whose build is known to be broken.
type brokenKey struct{}

// firstFailureIsEnough tells whether a figure may end as soon as it is missed.
func firstFailureIsEnough(ctx context.Context) bool { return ctx.Value(brokenKey{}) != nil }

// childMain runs one figure in this process.
func childMain(ctx context.Context, o options) int {
	f, err := find(figures(), o.child)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	run := func() int {
		ctx, cancel := context.WithTimeout(ctx, f.bound)
		defer cancel()
		if o.broken {
			ctx = context.WithValue(ctx, brokenKey{}, true)
		}
		r, err := f.run(ctx, o.seed)
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", f.id, err)
			return 1
		}
		return 0
	}
	if f.world {
		return lab.Enter(run)
	}
	return run()
}

// scoreboard runs all that was asked for, and tells whether every target was met.
func scoreboard(ctx context.Context, out io.Writer, o options) (bool, error) {
	chosen, err := choose(figures(), o.only)
	if err != nil {
		return false, err
	}
	tree, err := thisTree(ctx)
	if err != nil {
		return false, err
	}
	defer tree.close()
	var lines []line
	report := func(l line) {
		lines = append(lines, l)
		if text, err := encode(l); err != nil {
			fmt.Fprintf(os.Stderr, "scoreboard: %v\n", err)
		} else {
			fmt.Fprintf(out, "%s\n", text)
		}
		if !l.OK {
			fmt.Fprintf(os.Stderr, "%s", l.said)
		}
	}
	for _, f := range chosen {
		report(tree.measure(ctx, f, o))
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	if o.mutants {
		err = eachMutant(ctx, chosen, o, report)
	}
	table(out, lines)
	ok := len(lines) > 0
	for _, l := range lines {
		ok = ok && l.OK
	}
	return ok, err
}

// eachMutant runs the figures against the builds that are made to fail them.
func eachMutant(ctx context.Context, chosen []figure, o options, report func(line)) error {
	all, err := readMutants(mutantsFolder)
	if err != nil {
		return err
	}
	for _, f := range chosen {
		has := false
		for _, m := range all {
			if m.figure != f.id {
				continue
			}
			has = true
			report(m.measure(ctx, f, o))
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if !has {
			report(line{
				Figure: f.id, Mutant: "none", What: f.what, Target: f.target, Seed: seedText(o.seed), Kernel: kernel(),
				Error: "no mutant shows what this figure is worth",
			})
		}
	}
	return nil
}

func list(out io.Writer, o options) error {
	chosen, err := choose(figures(), o.only)
	if err != nil {
		return err
	}
	all, err := readMutants(mutantsFolder)
	if err != nil {
		return err
	}
	for _, f := range chosen {
		fmt.Fprintf(out, "%-4s %s\n     target: %s\n", f.id, f.what, f.target)
		for _, m := range all {
			if m.figure == f.id {
				fmt.Fprintf(out, "     mutant %s: %s\n", m.name, m.broken)
			}
		}
	}
	return nil
}

func seedText(seed uint64) string { return fmt.Sprintf("%#x", seed) }

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// errNoResult is a run that ended well without saying what it had found.
var errNoResult = errors.New("no result was printed")

func seconds(since time.Time) float64 {
	return float64(time.Since(since).Milliseconds()) / 1000
}
