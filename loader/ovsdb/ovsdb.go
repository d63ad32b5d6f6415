// Package ovsdb speaks to the database of Open vSwitch (RFC 7047), by which ports are
// added to its bridges. It needs no program of Open vSwitch, only the database's socket.
package ovsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Socket is where Open vSwitch listens unless it is told otherwise.
const Socket = "/run/openvswitch/db.sock"

// patience bounds one exchange with the database.
const patience = 5 * time.Second

// DB is a database, by its socket. Every operation connects anew, so that a database
// that was restarted is no different from any other.
type DB struct{ Path string }

// session is one connection.
type session struct {
	conn    net.Conn
	answers *json.Decoder
	asked   int
}

func (db *DB) open(ctx context.Context) (*session, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "unix", db.Path)
	if err != nil {
		return nil, fmt.Errorf("reach the database of Open vSwitch: %w", err)
	}
	end := time.Now().Add(patience)
	if limit, ok := ctx.Deadline(); ok && limit.Before(end) {
		end = limit
	}
	if err := conn.SetDeadline(end); err != nil {
		conn.Close()
		return nil, fmt.Errorf("reach the database of Open vSwitch: %w", err)
	}
	return &session{conn: conn, answers: json.NewDecoder(conn)}, nil
}

func (s *session) close() { s.conn.Close() }

// message is what either side sends: a request has a method, an answer has none.
type message struct {
	Method string            `json:"method"`
	Params json.RawMessage   `json:"params"`
	ID     json.RawMessage   `json:"id"`
	Result []json.RawMessage `json:"result"`
	Error  json.RawMessage   `json:"error"`
}

// outcome is what became of one operation.
type outcome struct {
	Rows    []row  `json:"rows"`
	Count   int    `json:"count"`
	Error   string `json:"error"`
	Details string `json:"details"`
}

// transact runs the operations as one transaction: all of them, or none.
func (s *session) transact(operations ...any) ([]outcome, error) {
	s.asked++
	request := map[string]any{"method": "transact", "params": append([]any{"Open_vSwitch"}, operations...), "id": s.asked}
	if err := json.NewEncoder(s.conn).Encode(request); err != nil {
		return nil, fmt.Errorf("ask the database of Open vSwitch: %w", err)
	}
	answer, err := s.answer()
	if err != nil {
		return nil, fmt.Errorf("ask the database of Open vSwitch: %w", err)
	}
	outcomes := make([]outcome, len(answer.Result))
	for i, raw := range answer.Result {
		if err := json.Unmarshal(raw, &outcomes[i]); err != nil { // null: not run
			return nil, fmt.Errorf("understand the database of Open vSwitch: %w", err)
		}
		if failed := outcomes[i].Error; failed != "" {
			return nil, fmt.Errorf("the database of Open vSwitch refuses: %s: %s", failed, outcomes[i].Details)
		}
	}
	if len(outcomes) < len(operations) {
		return nil, fmt.Errorf("the database of Open vSwitch answers %d of %d operations", len(outcomes), len(operations))
	}
	return outcomes, nil
}

// answer waits for the answer to the last request, and tells the database that
// somebody is here when it asks.
func (s *session) answer() (message, error) {
	for {
		var m message
		if err := s.answers.Decode(&m); err != nil {
			return m, err
		}
		switch {
		case m.Method == "echo":
			reply := map[string]any{"id": m.ID, "result": m.Params, "error": nil}
			if err := json.NewEncoder(s.conn).Encode(reply); err != nil {
				return m, err
			}
		case m.Method != "" || string(m.ID) != fmt.Sprint(s.asked):
		case len(m.Error) > 0 && string(m.Error) != "null":
			return m, errors.New(string(m.Error))
		default:
			return m, nil
		}
	}
}

// row is columns by name.
type row map[string]json.RawMessage

// text is a column that holds a string, or nothing.
func (r row) text(column string) string {
	var s string
	if json.Unmarshal(r[column], &s) != nil {
		return ""
	}
	return s
}

// number is a column that holds a number or nothing, which is -1.
func (r row) number(column string) int {
	n := -1
	if json.Unmarshal(r[column], &n) != nil {
		return -1
	}
	return n
}

// uuid is a column that holds exactly one.
func (r row) uuid(column string) string {
	var pair [2]string
	if json.Unmarshal(r[column], &pair) != nil || pair[0] != "uuid" {
		return ""
	}
	return pair[1]
}

// pairs is a column that holds a map.
func (r row) pairs(column string) map[string]string {
	var tagged []json.RawMessage
	var pairs [][2]string
	if json.Unmarshal(r[column], &tagged) != nil || len(tagged) != 2 || json.Unmarshal(tagged[1], &pairs) != nil {
		return nil
	}
	all := map[string]string{}
	for _, p := range pairs {
		all[p[0]] = p[1]
	}
	return all
}

// What values and operations look like.

func toMap(values map[string]string) any {
	pairs := [][2]string{}
	for k, v := range values {
		pairs = append(pairs, [2]string{k, v})
	}
	return []any{"map", pairs}
}

func toUUID(id string) any { return []any{"uuid", id} }

func toSet(values ...any) any {
	if values == nil {
		values = []any{}
	}
	return []any{"set", values}
}

func where(column, function string, value any) []any { return []any{[]any{column, function, value}} }

func named(name string) []any { return where("name", "==", name) }

func find(table string, where []any, columns ...string) any {
	return map[string]any{"op": "select", "table": table, "where": where, "columns": columns}
}

func mutate(table string, where []any, column, mutator string, value any) any {
	return map[string]any{
		"op": "mutate", "table": table, "where": where,
		"mutations": []any{[]any{column, mutator, value}},
	}
}
