package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"qlbaas/l7"
	"qlbaas/l7/control"
	"qlbaas/l7/cookie"
)

// sidecarEnv makes this program a sidecar: its value is the address that members see.
const sidecarEnv = "L7_BENCH_SIDECAR"

// sidecar is what `qlbaas l7` does, jail included.
func sidecar(from string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	address, err := netip.ParseAddr(from)
	if err == nil {
		err = l7.Run(ctx, l7.Options{
			From: address, Clients: os.NewFile(3, "clients"), Control: os.NewFile(4, "control"),
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		return 1
	}
	return 0
}

func (w *world) startSidecar(ctx context.Context, procs int) error {
	s := &subject{name: "sidecar", address: netip.AddrPortFrom(front, 8001), cookie: cookie.Value(w.key, "m0")}
	clients, err := w.node.Listen("tcp", s.address.String())
	if err != nil {
		return err
	}
	defer clients.Close()
	path := filepath.Join(w.dir, "control.sock")
	questions, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	defer questions.Close()
	questions.(*net.UnixListener).SetUnlinkOnClose(false)
	clientsFile, err := clients.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer clientsFile.Close()
	questionsFile, err := questions.(*net.UnixListener).File()
	if err != nil {
		return err
	}
	defer questionsFile.Close()
	program, err := w.copyOfSelf()
	if err != nil {
		return err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), sidecarEnv+"="+back.String(), "GOMAXPROCS="+strconv.Itoa(procs))
	cmd.ExtraFiles, cmd.Stderr, cmd.Dir, cmd.SysProcAttr = []*os.File{clientsFile, questionsFile}, os.Stderr, "/", ordinary
	if s.process, err = w.node.Start(cmd); err != nil {
		return err
	}
	w.proxies = append(w.proxies, s)
	client, err := control.Dial(ctx, path)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Apply(ctx, w.config())
}

// copyOfSelf is this program where an ordinary user may execute it.
func (w *world) copyOfSelf() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	path := filepath.Join(w.dir, "sidecar")
	return path, os.WriteFile(path, content, 0o755)
}
