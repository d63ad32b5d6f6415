package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func (c *call) json() bool { return c.cli.String("output") == "json" }

// say prints one line; its arguments were made here or are ids.
func (c *call) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.env.Stdout, format+"\n", args...)
	return err
}

// printObject prints the object in an envelope: as JSON, or under a title as a
// table of its attributes.
func (c *call) printObject(title, noun string, answer []byte) error {
	var envelope map[string]json.RawMessage
	if err := json.Unmarshal(answer, &envelope); err != nil || envelope[noun] == nil {
		return &NoServer{API: c.server.api, Err: fmt.Errorf("the answer holds no %s", noun)}
	}
	if c.json() {
		return printJSON(c.env.Stdout, envelope[noun])
	}
	var object map[string]any
	if err := decode(envelope[noun], &object); err != nil {
		return &NoServer{API: c.server.api, Err: fmt.Errorf("read %s: %w", noun, err)}
	}
	if title != "" {
		if err := c.say("%s", title); err != nil {
			return err
		}
	}
	return printTable(c.env.Stdout, []string{"Field", "Value"}, fieldRows(object))
}

func fieldRows(object map[string]any) [][]string {
	var rows [][]string
	for _, key := range slices.Sorted(maps.Keys(object)) {
		rows = append(rows, []string{printable(key), cell(object[key])})
	}
	return rows
}

// printList prints objects as a JSON array or as a table of the columns.
func (c *call) printList(columns []string, found []json.RawMessage) error {
	if c.json() {
		array, err := json.Marshal(append([]json.RawMessage{}, found...))
		if err != nil {
			return fmt.Errorf("encode list: %w", err)
		}
		return printJSON(c.env.Stdout, array)
	}
	rows := make([][]string, 0, len(found))
	for _, one := range found {
		var object map[string]any
		if err := decode(one, &object); err != nil {
			return &NoServer{API: c.server.api, Err: fmt.Errorf("read list: %w", err)}
		}
		row := make([]string, len(columns))
		for i, column := range columns {
			row[i] = cell(object[column])
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil
	}
	return printTable(c.env.Stdout, columns, rows)
}

// printJSON indents without changing order or numbers. What a terminal could
// take for a command is written as \u escape, which means the same in JSON.
func printJSON(w io.Writer, raw []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return fmt.Errorf("indent answer: %w", err)
	}
	var safe strings.Builder
	for _, r := range out.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			safe.WriteRune(r)
		case r > 0xffff:
			high, low := 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff
			fmt.Fprintf(&safe, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&safe, `\u%04x`, r)
		}
	}
	_, err := fmt.Fprintln(w, safe.String())
	return err
}

// cell is a value as text: lists have one element per line.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return printable(v)
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	case json.Number:
		return v.String()
	case []any:
		lines := make([]string, len(v))
		for i, one := range v {
			lines[i] = cell(one)
		}
		return strings.Join(lines, "\n")
	}
	text, err := json.Marshal(v)
	if err != nil {
		return printable(fmt.Sprint(v))
	}
	return printable(string(text))
}

// printable escapes what is not printable, so that no name can move the cursor,
// hide a line or change its direction.
func printable(s string) string {
	var out strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	}
	return out.String()
}

// Printable is the text of an error, safe for a terminal; lines are kept.
func Printable(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// printTable draws a frame around rows, whose cells may have several lines.
func printTable(w io.Writer, head []string, rows [][]string) error {
	width := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, text := range row {
			for line := range strings.SplitSeq(text, "\n") {
				width[i] = max(width[i], utf8.RuneCountInString(line))
			}
		}
	}
	var out strings.Builder
	rule := "+"
	for _, n := range width {
		rule += strings.Repeat("-", n+2) + "+"
	}
	out.WriteString(rule + "\n")
	writeRow(&out, width, head)
	out.WriteString(rule + "\n")
	for _, row := range rows {
		writeRow(&out, width, row)
	}
	out.WriteString(rule + "\n")
	_, err := io.WriteString(w, out.String())
	return err
}

func writeRow(out *strings.Builder, width []int, row []string) {
	cells, height := make([][]string, len(row)), 0
	for i, text := range row {
		cells[i] = strings.Split(text, "\n")
		height = max(height, len(cells[i]))
	}
	for line := range height {
		out.WriteString("|")
		for i, n := range width {
			text := ""
			if line < len(cells[i]) {
				text = cells[i][line]
			}
			out.WriteString(" " + text + strings.Repeat(" ", n-utf8.RuneCountInString(text)) + " |")
		}
		out.WriteString("\n")
	}
}
