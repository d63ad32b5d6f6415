package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"qlbaas/cmd/qlbaas/agent"
	"qlbaas/cmd/qlbaas/client"
	"qlbaas/cmd/qlbaas/cmdline"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args, env{stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, open: agent.OpenNode})
	stop()
	os.Exit(cmdline.ExitCode(err))
}

// env is what run sees of the process.
type env struct {
	stdout, stderr io.Writer
	getenv         func(string) string
	// open opens this machine's data plane.
	open agent.Opener
}

// run does what args say (the program's name first) and reports an error, once,
// on stderr; cmdline.ExitCode makes it the exit code. It ends when ctx ends.
func run(ctx context.Context, args []string, e env) error {
	err := cmdline.Run(ctx, newApp(e), args)
	if err != nil {
		fmt.Fprintf(e.stderr, "qlbaas: %s\n", client.Printable(err))
	}
	return err
}
