package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"qlbaas/lbaas/api"
)

// shutdownTimeout bounds how long requests under way may take at the end.
const shutdownTimeout = 5 * time.Second

// listener is an address at which something is served.
type listener interface {
	Serve() error
	Shutdown(ctx context.Context) error
}

// serve opens all listeners, answers until ctx ends or one of them fails, and
// closes them. Either all addresses are served or none.
func serve(ctx context.Context, cfg Config, handler http.Handler, log *slog.Logger) (err error) {
	listeners, err := listen(ctx, cfg, handler, log)
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		for _, l := range listeners {
			err = errors.Join(err, l.Shutdown(late))
		}
	}()
	if err != nil {
		return err
	}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- l.Serve() }()
	}
	log.Info("ready", "api", strings.Join(cfg.API, " "))
	tell(log, daemon.SdNotifyReady)
	select {
	case <-ctx.Done():
		log.Info("stopping; what is deployed goes on forwarding")
		tell(log, daemon.SdNotifyStopping)
		return nil
	case err := <-ended:
		return fmt.Errorf("an address is no longer served: %w", err)
	}
}

func listen(ctx context.Context, cfg Config, handler http.Handler, log *slog.Logger) (open []listener, err error) {
	opts := api.ListenOptions{Log: log, NoAuth: cfg.NoAuth}
	if cfg.TokenFile != "" {
		if opts.Tokens, err = api.ReadTokens(cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	for _, address := range cfg.API {
		l, err := api.Listen(ctx, address, handler, opts)
		if err != nil {
			return open, err
		}
		open = append(open, l)
	}
	if cfg.Pprof {
		l, err := profiles(ctx, filepath.Join(cfg.RunDir, "pprof.sock"))
		if err != nil {
			return open, err
		}
		open = append(open, l)
	}
	return open, nil
}

// profiler serves profiles on a socket for root alone.
type profiler struct {
	listener net.Listener
	server   http.Server
}

func profiles(ctx context.Context, path string) (*profiler, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("serve profiles: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("serve profiles: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("serve profiles: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &profiler{listener: l, server: http.Server{Handler: mux, ReadHeaderTimeout: shutdownTimeout}}, nil
}

// Serve answers until Shutdown.
func (p *profiler) Serve() error {
	if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends a profile under way when ctx ends.
func (p *profiler) Shutdown(ctx context.Context) error {
	err := p.server.Shutdown(ctx)
	_ = p.listener.Close() // closed already, unless Serve never ran
	if err != nil {
		return p.server.Close()
	}
	return nil
}
