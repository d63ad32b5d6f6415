package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"time"

	"qlbaas/lbaas/reconcile"
	"qlbaas/loader"
)

// Status is the body of GET /qlbaas/status.
type Status struct {
	Version string `json:"version"`
	// Uptime in whole seconds.
	Uptime int64 `json:"uptime"`
	PID    int   `json:"pid"`
	// Hook is where the programs are attached; before the first pool it is what
	// was asked for.
	Hook string `json:"hook"`
	// Driver is how devices join their networks.
	Driver string `json:"interface_driver"`
	// BudgetUsed of BudgetLimit bytes are taken by tables.
	BudgetUsed  uint64 `json:"budget_used"`
	BudgetLimit uint64 `json:"budget_limit"`
	// ReadOnly: the database is damaged and its backup is served.
	ReadOnly bool                   `json:"read_only"`
	Pools    []reconcile.PoolView   `json:"pools"`
	Routers  []reconcile.RouterView `json:"routers"`
}

type statusSource interface {
	Pools(ctx context.Context) ([]reconcile.PoolView, error)
	Routers(ctx context.Context) ([]reconcile.RouterView, error)
	Budget() loader.BudgetStatus
}

type statusHandler struct {
	version  string
	started  time.Time
	cfg      Config
	readOnly bool
	source   statusSource
	log      *slog.Logger
}

// ServeHTTP answers with a Status, or with an error in the API's envelope.
func (h *statusHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	pools, err := h.source.Pools(r.Context())
	var routers []reconcile.RouterView
	if err == nil {
		routers, err = h.source.Routers(r.Context())
	}
	if err != nil {
		h.log.Error("status cannot be told", "err", err)
		h.answer(w, http.StatusInternalServerError, map[string]any{"NeutronError": map[string]string{
			"type": "HTTPInternalServerError", "message": "The pools and routers cannot be read; see the agent's log", "detail": "",
		}})
		return
	}
	budget := h.source.Budget()
	status := Status{
		Version: h.version, Uptime: int64(time.Since(h.started).Seconds()), PID: os.Getpid(), Hook: h.cfg.Hook, Driver: h.cfg.InterfaceDriver,
		BudgetUsed: budget.Used, BudgetLimit: budget.Limit, ReadOnly: h.readOnly, Pools: pools, Routers: routers,
	}
	for _, p := range pools {
		if p.Hook != "" {
			status.Hook = p.Hook
		}
	}
	h.answer(w, http.StatusOK, status)
}

func (h *statusHandler) answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.log.Debug("status was not read to its end", "err", err)
	}
}
