package l7_test

import (
	"context"
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

// sidecarEnv makes the test binary a sidecar: its value is the address that members see.
const sidecarEnv = "L7_TEST_SIDECAR"

func TestMain(m *testing.M) {
	if from, is := os.LookupEnv(sidecarEnv); is {
		os.Exit(sidecarMain(from))
	}
	os.Exit(lab.Enter(m.Run))
}

// sidecarMain is what `qlbaas l7` does, with descriptors in fixed places: the clients'
// socket and the control socket, or a connection to a predecessor.
func sidecarMain(from string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := l7.Options{From: netip.MustParseAddr(from), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Version: "test"}
	if os.Getenv(sidecarEnv+"_AFTER") != "" {
		o.Predecessor = os.NewFile(3, "predecessor")
	} else {
		o.Clients, o.Control = os.NewFile(3, "clients"), os.NewFile(4, "control")
	}
	if err := l7.Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		return 1
	}
	return 0
}
