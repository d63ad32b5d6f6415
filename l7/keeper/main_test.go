package keeper_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"qlbaas/l7"
	"qlbaas/tests/lab"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "l7" {
		os.Exit(sidecarMain(os.Args[2:]))
	}
	os.Exit(lab.Enter(m.Run))
}

// sidecarMain is what `qlbaas l7` does, with a version of the test's choice.
func sidecarMain(args []string) int {
	flags := flag.NewFlagSet("l7", flag.ExitOnError)
	version := flags.String("version", "1", "")
	fail := flags.Bool("fail", false, "")
	from := flags.String("from", "", "")
	predecessor := flags.Int("predecessor-fd", -1, "")
	_ = flags.String("control", "", "")
	_ = flags.Parse(args) // it exits
	if *fail {
		fmt.Fprintln(os.Stderr, "this one does not want to")
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := l7.Run(ctx, l7.Options{
		From: netip.MustParseAddr(*from), Predecessor: os.NewFile(uintptr(*predecessor), "predecessor"),
		Version: *version, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		return 1
	}
	return 0
}
