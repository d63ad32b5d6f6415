package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"qlbaas/tests/lab"
)

func main() {
	if from, is := os.LookupEnv(sidecarEnv); is {
		os.Exit(sidecar(from))
	}
	o := options{}
	flag.IntVar(&o.rounds, "rounds", 7, "how often everything is measured")
	flag.IntVar(&o.seconds, "seconds", 2, "how long one measurement takes")
	flag.IntVar(&o.procs, "procs", 1, "threads of the sidecar that may run at once")
	flag.BoolVar(&o.splice, "splice", false, "let HAProxy splice bodies (option splice-response)")
	flag.StringVar(&o.only, "only", "", "measure this case alone")
	flag.BoolVar(&o.json, "json", false, "print results as JSON")
	flag.StringVar(&o.profile, "profile", "", "directory for a profile of the sidecar (perf record)")
	flag.Parse()
	os.Exit(lab.Enter(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if err := run(ctx, o); err != nil {
			fmt.Fprintln(os.Stderr, "l7 bench:", err)
			return 1
		}
		return 0
	}))
}

// options are the command line's.
type options struct {
	rounds, seconds, procs int
	only, profile          string
	json, splice           bool
}

func run(ctx context.Context, o options) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	var results []result
	for _, c := range cases() {
		if o.only != "" && c.name != o.only {
			continue
		}
		r, err := w.compare(ctx, c, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, r)
	}
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	return table(os.Stdout, results)
}
