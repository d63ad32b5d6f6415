package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// sessionCookie is what the web servers call the cookie of a visitor who has logged in.
const sessionCookie = "SESSION"

// greet answers with the server's name. Who logs in gets a cookie that only this server
// knows, as the applications do for which there is persistence.
func greet(name string) http.HandlerFunc {
	var visitors atomic.Uint64
	return func(out http.ResponseWriter, in *http.Request) {
		if in.URL.Path == "/login" {
			http.SetCookie(out, &http.Cookie{Name: sessionCookie, Value: fmt.Sprintf("%s-%d", strings.ToLower(name), visitors.Add(1))})
		}
		_, _ = io.WriteString(out, name+"\n") // the client's loss
	}
}

// serve is the whole web server: it answers every request with its name, until ctx
// ends. SIGUSR1 closes the port, so that new connections are refused while those
// that are open go on, and SIGUSR2 opens it again.
func serve(ctx context.Context, name string, address netip.AddrPort) error {
	orders := make(chan os.Signal, 4)
	signal.Notify(orders, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(orders)
	server := &http.Server{
		Handler:           greet(name),
		ReadHeaderTimeout: time.Minute,
	}
	defer server.Close()
	port, err := open(ctx, server, address)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case order := <-orders:
			switch {
			case order == unix.SIGUSR1 && port != nil:
				err, port = port.Close(), nil
			case order == unix.SIGUSR2 && port == nil:
				port, err = open(ctx, server, address)
			}
			if err != nil {
				return fmt.Errorf("serve %s: %w", name, err)
			}
		}
	}
}

func open(ctx context.Context, server *http.Server, address netip.AddrPort) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // plain TCP, as most servers speak
	port, err := config.Listen(ctx, "tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("open port: %w", err)
	}
	go func() { _ = server.Serve(port) }() // ends when the port is closed
	return port, nil
}

// web is a member's web server, a process on the member's host.
type web struct {
	lab.Member
	process *lab.Process
}

// address of the server.
func (w *web) address() netip.AddrPort { return netip.AddrPortFrom(w.Address, 80) }

// startWeb starts a member's web server and waits until it answers.
func (d *demo) startWeb(ctx context.Context, m lab.Member) (*web, error) {
	w := &web{Member: m}
	cmd := exec.Command(d.exe, "demo", "web", m.Name, w.address().String())
	cmd.Stdout, cmd.Stderr = d.log, d.log
	var err error
	if w.process, err = m.Host.Start(cmd); err != nil {
		return nil, err
	}
	return w, w.await(ctx, true)
}

// Why signals, where a file or a socket could be asked: a person who keeps the demo
// standing can do the same with kill.

// refuse stops the server: new connections meet a RST, old ones go on.
func (w *web) refuse(ctx context.Context) error {
	if err := w.process.Signal(unix.SIGUSR1); err != nil {
		return err
	}
	return w.await(ctx, false)
}

// answer starts the server again.
func (w *web) answer(ctx context.Context) error {
	if err := w.process.Signal(unix.SIGUSR2); err != nil {
		return err
	}
	return w.await(ctx, true)
}

// hang stops the whole process: the kernel still accepts for it, nobody answers.
func (w *web) hang(ctx context.Context) error {
	if err := w.process.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	// The signal is sent; its threads stop one by one.
	return until(ctx, patience, func() error {
		err := lab.Stopped(w.process.Pid())
		if errors.Is(err, os.ErrNotExist) {
			err = fatal(fmt.Errorf("stop %s: %w", w.Name, err))
		}
		return err
	})
}

// wake ends hang.
func (w *web) wake() error { return w.process.Signal(unix.SIGCONT) }

// await waits until the port is open, or closed.
func (w *web) await(ctx context.Context, open bool) error {
	return until(ctx, patience, func() error {
		select {
		case <-w.process.Exited():
			return fatal(fmt.Errorf("the web server of %s has ended", w.Name))
		default:
		}
		conn, err := w.Host.Dial(ctx, "tcp", w.address().String())
		if conn != nil {
			_ = conn.Close() // it has told all
		}
		if open == (err == nil) {
			return nil
		}
		return fmt.Errorf("port 80 of %s: open is %v, want %v", w.Name, !open, open)
	})
}
