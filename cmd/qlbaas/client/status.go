package client

import (
	"net/http"
	"slices"

	"github.com/urfave/cli/v2"
)

// statusCommand shows the agent and every pool and router on its node.
func statusCommand(env Env) *cli.Command {
	return command(env, &cli.Command{
		Name:  "status",
		Usage: "show the agent, its node and the state of every pool and router",
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

// printStatus prints what holds for the node, then the pools and the routers as tables.
func (c *call) printStatus(answer []byte) error {
	var status map[string]any
	if err := decode(answer, &status); err != nil {
		return &NoServer{API: c.server.api, Err: err}
	}
	pools, _ := status["pools"].([]any)
	routers, _ := status["routers"].([]any)
	delete(status, "pools")
	delete(status, "routers")
	if err := printTable(c.env.Stdout, []string{"Field", "Value"}, fieldRows(status)); err != nil {
		return err
	}
	columns := []string{"id", "name", "state", "hook", "generation", "flows_used", "flows_limit", "members_up", "members_total", "last_error"}
	if slices.ContainsFunc(pools, hasSidecar) {
		columns = slices.Insert(columns, len(columns)-1, "sidecar")
	}
	if err := c.printStates(pools, columns...); err != nil {
		return err
	}
	return c.printStates(routers, "id", "name", "state", "hook", "interfaces", "floating", "last_error")
}

// printStates prints a table of objects, if there are any.
func (c *call) printStates(list []any, columns ...string) error {
	var rows [][]string
	for _, one := range list {
		object, _ := one.(map[string]any)
		row := make([]string, len(columns))
		for i, column := range columns {
			row[i] = cell(object[column])
			if column == "sidecar" {
				row[i] = sidecarCell(object[column])
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
