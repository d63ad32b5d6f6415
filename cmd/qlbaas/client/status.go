package client

import (
	"net/http"
	"slices"

	"github.com/urfave/cli/v2"
)

// statusCommand shows the agent and every pool on its node.
func statusCommand(env Env) *cli.Command {
	return command(env, &cli.Command{
		Name:  "status",
		Usage: "show the agent, its node and the state of every pool",
	}, func(c *call) error {
		if _, err := c.arguments(); err != nil {
			return err
		}
		answer, err := c.server.do(c, http.MethodGet, "/qlbaas/status", nil, nil)
		if err != nil {
			return err
		}
		if c.json() {
			return printJSON(c.env.Stdout, answer)
		}
		return c.printStatus(answer)
	})
}

// printStatus prints what holds for the node, then the pools as a table.
func (c *call) printStatus(answer []byte) error {
	var status map[string]any
	if err := decode(answer, &status); err != nil {
		return &NoServer{API: c.server.api, Err: err}
	}
	list, _ := status["pools"].([]any)
	delete(status, "pools")
	if err := printTable(c.env.Stdout, []string{"Field", "Value"}, fieldRows(status)); err != nil {
		return err
	}
	columns := []string{"id", "name", "state", "hook", "generation", "flows_used", "flows_limit", "members_up", "members_total", "last_error"}
	if slices.ContainsFunc(list, hasSidecar) {
		columns = slices.Insert(columns, len(columns)-1, "sidecar")
	}
	var rows [][]string
	for _, one := range list {
		pool, _ := one.(map[string]any)
		row := make([]string, len(columns))
		for i, column := range columns {
			row[i] = cell(pool[column])
			if column == "sidecar" {
				row[i] = sidecarCell(pool[column])
			}
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil
	}
	return printTable(c.env.Stdout, columns, rows)
}

func hasSidecar(one any) bool {
	pool, _ := one.(map[string]any)
	return pool["sidecar"] != nil
}

// sidecarCell is a pool's sidecar in a few words; empty where it needs none.
func sidecarCell(v any) string {
	sidecar, _ := v.(map[string]any)
	if sidecar == nil {
		return ""
	}
	text := "pid " + cell(sidecar["pid"])
	if text == "pid 0" {
		text = "not running"
	}
	if n := cell(sidecar["restarts"]); n != "0" {
		text += ", restarts " + n
	}
	return text
}
