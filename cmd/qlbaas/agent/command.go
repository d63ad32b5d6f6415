package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
	"qlbaas/healthd"
	"qlbaas/l7/keeper"
	"qlbaas/lbaas/reconcile"
	"qlbaas/loader/ovsdb"
	"qlbaas/loader/plug"
)

// Node is the data plane that the agent runs.
type Node interface {
	reconcile.Node
	healthd.Sockets
	keeper.Spaces
	// Routers are the routers of the same machine.
	Routers() reconcile.RouterNode
	// Close lets go of the data plane and leaves it running.
	Close() error
}

// Env is what the agent sees of the process.
type Env struct {
	Stderr  io.Writer
	Version string
	// Open opens this machine's data plane.
	Open Opener
}

// Opener opens a data plane and locks it against other agents.
type Opener func(ctx context.Context, cfg Config, log *slog.Logger) (Node, error)

// Config is what the flags say.
type Config struct {
	StateDir, RunDir, BPFFS string
	// API lists the addresses to listen on.
	API       []string
	TokenFile string
	NoAuth    bool
	// Hook is auto, tcx, clsact or xdp.
	Hook string
	// InterfaceDriver is linuxbridge, openvswitch or macvlan.
	InterfaceDriver string
	// NoOutside leaves the outside device of pools alone; see loader.Options.
	NoOutside bool
	// OVSDB is the socket of Open vSwitch's database.
	OVSDB string
	// MemoryBudget bounds the tables of all pools, in bytes.
	MemoryBudget uint64
	AcceptEmpty  bool
	Pprof        bool
}

// Command returns the agent's command.
func Command(env Env) *cli.Command {
	return &cli.Command{
		Name:            "agent",
		Usage:           "run the daemon that makes this node's load balancers real",
		HideHelpCommand: true,
		OnUsageError:    cmdline.UsageError,
		Flags:           flags(),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return cmdline.Usagef("agent: unexpected argument %q", c.Args().First())
			}
			log, err := logger(env.Stderr, c.String("log-format"), c.String("log-level"))
			if err != nil {
				return err
			}
			cfg, err := config(c)
			if err != nil {
				return err
			}
			return Run(c.Context, cfg, env, log)
		},
	}
}

func flags() []cli.Flag {
	choice := func(name, value, usage string, values ...string) cli.Flag {
		usage += " (" + strings.Join(values, ", ") + ")"
		return cmdline.Choice{StringFlag: &cli.StringFlag{Name: name, Value: value, Usage: usage}, Values: values}
	}
	return []cli.Flag{
		&cli.StringFlag{Name: "state-dir", Value: "/var/lib/qlbaas", Usage: "the database and, for readers, the applied configuration"},
		&cli.StringFlag{Name: "run-dir", Value: "/run/qlbaas", Usage: "sockets and locks"},
		&cli.StringFlag{Name: "bpffs", Value: "/sys/fs/bpf/qlbaas", Usage: "where maps and links are pinned"},
		&cli.StringSliceFlag{Name: "api", Usage: "listen on unix:///path or http://127.0.0.1:PORT (repeatable)", DefaultText: "unix://RUN-DIR/api.sock"},
		&cli.StringFlag{Name: "api-token-file", Usage: "who may use an http address: a line TOKEN[:PROJECT[:admin]] each"},
		&cli.BoolFlag{Name: "no-auth", Usage: "whoever reaches an http address is administrator", DisableDefaultText: true},
		choice("hook", "auto", "where the program is attached", "auto", "tcx", "clsact", "xdp"),
		choice("interface-driver", plug.LinuxBridge, "how devices join their networks", plug.Names()...),
		&cli.BoolFlag{Name: "no-outside", Usage: "have established flows come into the pool's namespace too, with hook tcx on a Linux bridge", DisableDefaultText: true},
		&cli.StringFlag{Name: "ovsdb", Value: ovsdb.Socket, Usage: "the socket of Open vSwitch's database, for openvswitch"},
		&cli.StringFlag{Name: "memory-budget", Value: "25%", Usage: "memory for the tables of all pools: bytes, with K, M or G, or a percentage of what this process may have"},
		&cli.BoolFlag{Name: "accept-empty", Usage: "start although the database is new, empty or older than what is deployed, and remove what it does not know", DisableDefaultText: true},
		&cli.BoolFlag{Name: "pprof", Usage: "serve profiles on RUN-DIR/pprof.sock", DisableDefaultText: true},
		choice("log-format", "text", "how log lines look", "text", "json"),
		choice("log-level", "info", "the least important lines to write", "debug", "info", "warn", "error"),
	}
}

func config(c *cli.Context) (Config, error) {
	cfg := Config{
		StateDir: c.String("state-dir"), RunDir: c.String("run-dir"), BPFFS: c.String("bpffs"),
		API: c.StringSlice("api"), TokenFile: c.String("api-token-file"), NoAuth: c.Bool("no-auth"),
		Hook: c.String("hook"), InterfaceDriver: c.String("interface-driver"), OVSDB: c.String("ovsdb"),
		NoOutside:   c.Bool("no-outside"),
		AcceptEmpty: c.Bool("accept-empty"), Pprof: c.Bool("pprof"),
	}
	for flag, dir := range map[string]string{"state-dir": cfg.StateDir, "run-dir": cfg.RunDir, "bpffs": cfg.BPFFS} {
		if !strings.HasPrefix(dir, "/") {
			return cfg, cmdline.Usagef("--%s %q: want an absolute path", flag, dir)
		}
	}
	switch cfg.Hook {
	case "auto", "tcx", "clsact", "xdp":
	default:
		return cfg, cmdline.Usagef("--hook %q: want auto, tcx, clsact or xdp", cfg.Hook)
	}
	if err := checkDriver(cfg); err != nil {
		return cfg, err
	}
	if cfg.TokenFile != "" && cfg.NoAuth {
		return cfg, cmdline.Usagef("--api-token-file and --no-auth contradict each other")
	}
	if len(cfg.API) == 0 {
		cfg.API = []string{"unix://" + cfg.RunDir + "/api.sock"}
	}
	limit, err := memoryLimit("/")
	if err != nil {
		return cfg, fmt.Errorf("find out how much memory there is: %w", err)
	}
	cfg.MemoryBudget, err = budget(c.String("memory-budget"), limit)
	return cfg, err
}

func checkDriver(cfg Config) error {
	if !slices.Contains(plug.Names(), cfg.InterfaceDriver) {
		return cmdline.Usagef("--interface-driver %q: want %s", cfg.InterfaceDriver, strings.Join(plug.Names(), ", "))
	}
	if cfg.InterfaceDriver == plug.Macvlan && cfg.Hook == "xdp" {
		return cmdline.Usagef("--interface-driver macvlan has no XDP: take --hook tcx or clsact")
	}
	return nil
}

func logger(w io.Writer, format, level string) (*slog.Logger, error) {
	var least slog.Level
	switch level {
	case "debug", "info", "warn", "error":
		if err := least.UnmarshalText([]byte(level)); err != nil {
			return nil, cmdline.Usagef("--log-level: %v", err)
		}
	default:
		return nil, cmdline.Usagef("--log-level %q: want debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: least}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, cmdline.Usagef("--log-format %q: want text or json", format)
}
