package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/urfave/cli/v2"

	"qlbaas/cmd/qlbaas/cmdline"
)

func (r *resource) listCommand(env Env) *cli.Command {
	flags := []cli.Flag{
		fieldFlag(),
		&cli.StringSliceFlag{Name: "column", Aliases: []string{"c"}, Usage: "print this column only (repeatable)"},
		&cli.StringSliceFlag{Name: "sort-key", Usage: "sort by this attribute (repeatable)"},
		&cli.StringSliceFlag{Name: "sort-dir", Usage: "asc or desc, one per sort key (repeatable)"},
		&cli.StringFlag{Name: "page-size", Aliases: []string{"P"}, Usage: "ask for this many objects at a time"},
	}
	return command(env, &cli.Command{
		Name:  "list",
		Usage: "list " + r.title + "s; every attribute is a filter, repeated ones are alternatives",
		Flags: append(r.flags(inList), flags...),
	}, r.list)
}

// filterFlag is the attribute as a filter: repeatable, sent as typed.
func (a *attr) filterFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: a.flag, Usage: "only those with this " + a.name()}
}

func (r *resource) list(c *call) error {
	if _, err := c.arguments(); err != nil {
		return err
	}
	query, err := r.query(c)
	if err != nil {
		return err
	}
	found, err := c.pages(r, query)
	if err != nil {
		return err
	}
	columns := r.columns
	for _, flag := range []string{"field", "column"} {
		if chosen := c.cli.StringSlice(flag); len(chosen) > 0 {
			columns = chosen
		}
	}
	return c.printList(columns, found)
}

func (r *resource) query(c *call) (url.Values, error) {
	query := url.Values{}
	for i := range r.attrs {
		if a := &r.attrs[i]; a.in&inList != 0 && c.cli.IsSet(a.flag) {
			query[a.name()] = c.cli.StringSlice(a.flag)
		}
	}
	for flag, key := range map[string]string{"field": "fields", "sort-key": "sort_key", "sort-dir": "sort_dir"} {
		if values := c.cli.StringSlice(flag); len(values) > 0 {
			query[key] = values
		}
	}
	if keys, dirs := len(query["sort_key"]), len(query["sort_dir"]); dirs > keys {
		return nil, cmdline.Usagef("%s: %d --sort-dir for %d --sort-key", c.cli.Command.HelpName, dirs, keys)
	}
	for len(query["sort_dir"]) < len(query["sort_key"]) {
		query.Add("sort_dir", "asc")
	}
	if size := c.cli.String("page-size"); size != "" {
		if n, err := strconv.Atoi(size); err != nil || n < 1 {
			return nil, cmdline.Usagef("--page-size %q: want a positive number", size)
		}
		query.Set("limit", size)
	}
	return query, nil
}

// rows is pages, decoded.
func (c *call) rows(r *resource, query url.Values) ([]map[string]any, error) {
	found, err := c.pages(r, query)
	if err != nil {
		return nil, err
	}
	rows := make([]map[string]any, len(found))
	for i, one := range found {
		if err := decode(one, &rows[i]); err != nil {
			return nil, &NoServer{API: c.server.api, Err: fmt.Errorf("read %s: %w", r.plural, err)}
		}
	}
	return rows, nil
}

// pages asks for a list and follows its next links. Of a link only the query is
// used: where to ask was the caller's choice, not the server's.
func (c *call) pages(r *resource, query url.Values) ([]json.RawMessage, error) {
	var all []json.RawMessage
	asked := map[string]bool{}
	for {
		if asked[query.Encode()] {
			return nil, &NoServer{API: c.server.api, Err: errors.New("the next link leads back to a page that was read")}
		}
		asked[query.Encode()] = true
		answer, err := c.server.do(c, http.MethodGet, r.path, query, nil)
		if err != nil {
			return nil, err
		}
		page, next, err := readPage(answer, r.plural)
		if err != nil {
			return nil, &NoServer{API: c.server.api, Err: err}
		}
		all = append(all, page...)
		if next == nil {
			return all, nil
		}
		query = next
	}
}

func readPage(answer []byte, plural string) (page []json.RawMessage, next url.Values, err error) {
	var envelope map[string]json.RawMessage
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return nil, nil, fmt.Errorf("read list: %w", err)
	}
	if err := json.Unmarshal(envelope[plural], &page); err != nil {
		return nil, nil, fmt.Errorf("read list of %s: %w", plural, err)
	}
	var links []struct{ Rel, Href string }
	if raw := envelope[plural+"_links"]; raw != nil {
		if err := json.Unmarshal(raw, &links); err != nil {
			return nil, nil, fmt.Errorf("read links of %s: %w", plural, err)
		}
	}
	for _, link := range links {
		if link.Rel != "next" {
			continue
		}
		u, err := url.Parse(link.Href)
		if err != nil {
			return nil, nil, fmt.Errorf("read next link: %w", err)
		}
		return page, u.Query(), nil
	}
	return page, nil, nil
}

// decode keeps numbers as they were written.
func decode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}
