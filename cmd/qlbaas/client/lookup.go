package client

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"qlbaas/cmd/qlbaas/cmdline"
)

// find returns the id of the object that an argument names, by id or unique name.
func (c *call) find(r *resource, word string) (string, error) {
	if word == "" {
		return "", cmdline.Usagef("the name of a %s is empty", r.title)
	}
	keys := []string{"name"}
	if isUUID(word) {
		keys = []string{"id", "name"}
	}
	if !r.named {
		keys = []string{"id"}
	}
	for _, key := range keys {
		ids, err := c.search(r, key, word)
		if err != nil {
			return "", err
		}
		if len(ids) > 1 {
			return "", fmt.Errorf("%d %ss have the name %q; use an id: %s", len(ids), r.title, printable(word), strings.Join(ids, ", "))
		}
		if len(ids) == 1 {
			return ids[0], nil
		}
	}
	if !r.named {
		return "", fmt.Errorf("no %s has the id %q", r.title, printable(word))
	}
	return "", fmt.Errorf("no %s has the id or name %q", r.title, printable(word))
}

// search asks for the objects whose key is word, and believes only rows that say so.
func (c *call) search(r *resource, key, word string) ([]string, error) {
	if key == "id" && !isUUID(word) {
		return nil, nil
	}
	query := url.Values{key: {word}, "fields": {"id"}}
	if key != "id" {
		query.Add("fields", key)
	}
	rows, err := c.rows(r, query)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, row := range rows {
		id, _ := row["id"].(string)
		if value, _ := row[key].(string); value != word {
			continue
		}
		if !isUUID(id) {
			return nil, &NoServer{API: c.server.api, Err: errors.New("an object without an id")}
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// isUUID tells a canonical UUID, the only thing that may become part of a path.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range s {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if r != '-' {
				return false
			}
		case !strings.ContainsRune("0123456789abcdefABCDEF", r):
			return false
		}
	}
	return true
}
