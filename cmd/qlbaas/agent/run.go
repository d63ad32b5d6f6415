package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"qlbaas/healthd"
	"qlbaas/l7/keeper"
	"qlbaas/lbaas"
	"qlbaas/lbaas/api"
	"qlbaas/lbaas/metrics"
	"qlbaas/lbaas/reconcile"
)

// quietTime is how long the store rests before it is copied to its backup.
const quietTime = 2 * time.Second

// ownProgram is the running program, even where another one has taken its place on disk.
const ownProgram = "/proc/self/exe"

// Run runs the agent until ctx ends, and returns nil then; any other end is an
// error. The data plane goes on forwarding in both cases.
func Run(ctx context.Context, cfg Config, env Env, log *slog.Logger) error {
	err := run(ctx, cfg, env, log)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func run(ctx context.Context, cfg Config, env Env, log *slog.Logger) (err error) {
	started := time.Now()
	if err := makeDirs(cfg, log); err != nil {
		return err
	}
	node, err := env.Open(ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("open the data plane: %w", err)
	}
	defer closing(&err, "close the data plane", node.Close)

	records, err := openRecords(cfg, node, log)
	if err != nil {
		return err
	}
	defer closing(&err, "close the store", records.Close)

	rec := reconcile.New(node, reconcile.Options{
		Log: log, AcceptEmpty: records.believed, ReadOnly: records.backup, Routers: node.Routers(),
	})
	sidecars, err := keeper.New(ctx, keeper.Options{
		Spaces: node, RunDir: cfg.RunDir, Command: []string{ownProgram, "l7"}, Version: env.Version, Log: log,
		Changed: rec.SidecarChanged,
	})
	if err != nil {
		return fmt.Errorf("keep sidecars: %w", err)
	}
	defer sidecars.Close()
	rec.UseSidecars(sidecars)
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the host's name: %w", err)
	}
	svc, err := lbaas.New(ctx, lbaas.Options{
		Store: records, Log: log, Host: host, Notifier: rec, Admission: rec, Stats: rec,
	})
	if err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	checker := healthd.New(node, rec, healthd.Options{Log: log})
	if err := rec.Start(ctx, svc, checker); err != nil {
		checker.Close()
		return fmt.Errorf("start the reconciler: %w", err)
	}
	defer rec.Close()
	defer checker.Close()
	defer keepBackup(records)()

	handler := api.New(svc, api.Options{
		Log:     log,
		Metrics: metrics.Handler(rec, metrics.BuildInfo{Version: env.Version, GoVersion: runtime.Version()}, log),
		Status:  &statusHandler{version: env.Version, started: started, cfg: cfg, readOnly: records.backup, source: rec, log: log},
	})
	return serve(ctx, cfg, handler, log)
}

// closing closes something at the end of run; its error counts unless there is
// one already.
func closing(err *error, what string, end func() error) {
	if e := end(); e != nil && *err == nil {
		*err = fmt.Errorf("%s: %w", what, e)
	}
}

// keepBackup copies the store after changes; the returned function ends that.
func keepBackup(records *records) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { records.KeepBackup(ctx, quietTime) })
	return func() {
		cancel()
		work.Wait()
	}
}

// tell speaks to the service manager, if one asked for it.
func tell(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager cannot be told", "state", state, "err", err)
	}
}
