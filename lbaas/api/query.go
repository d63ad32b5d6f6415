package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"qlbaas/lbaas"
)

// parseQuery reads what a list is asked for. Keys that are neither ours nor an
// attribute are left to the filters, which ignore them.
func parseQuery(raw string) (lbaas.Query, error) {
	q := lbaas.Query{Filters: map[string][]string{}}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, failure(http.StatusBadRequest, typeBadRequest, "The query is not valid: %.64q", raw)
	}
	for key, texts := range values {
		switch key {
		case "fields":
			q.Fields = slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return s == "" })
		case "sort_key", "sort_dir":
		case "limit":
			if q.Limit, err = strconv.Atoi(texts[0]); err != nil || q.Limit < 0 {
				return q, failure(http.StatusBadRequest, typeNoBody,
					"Invalid input for limit: %.64q is not an integer of 0 or more", texts[0])
			}
		case "marker":
			q.Marker = texts[0]
		case "page_reverse":
			q.Reverse = strings.EqualFold(texts[0], "true") || texts[0] == "1"
		case "project_id":
			q.Filters["tenant_id"] = append(q.Filters["tenant_id"], texts...)
		default:
			q.Filters[key] = append(q.Filters[key], texts...)
		}
	}
	q.Sort, err = parseSort(values["sort_key"], values["sort_dir"])
	return q, err
}

func parseSort(keys, dirs []string) ([]lbaas.SortKey, error) {
	if len(keys) != len(dirs) {
		return nil, failure(http.StatusBadRequest, typeBadRequest,
			"The number of sort_key (%d) and of sort_dir (%d) must be equal", len(keys), len(dirs))
	}
	var sort []lbaas.SortKey
	for i, key := range keys {
		if dirs[i] != "asc" && dirs[i] != "desc" {
			return nil, failure(http.StatusBadRequest, typeBadRequest,
				"Invalid input for sort_dir: %.64q is not one of asc, desc", dirs[i])
		}
		sort = append(sort, lbaas.SortKey{Name: key, Descending: dirs[i] == "desc"})
	}
	return sort, nil
}

// link is one entry of a collection's links.
type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// pageLinks returns where the neighbours of a page are. A full page has a next
// one even if that will be empty; clients stop where there is no next.
func pageLinks(r *http.Request, q lbaas.Query, page lbaas.Page) []link {
	links := []link{}
	full := len(page.Objects) >= q.Limit
	if full || q.Reverse {
		links = append(links, link{"next", pageHref(r, page.Last, false)})
	}
	if full || !q.Reverse {
		links = append(links, link{"previous", pageHref(r, page.First, true)})
	}
	return links
}

func pageHref(r *http.Request, marker string, reverse bool) string {
	values := r.URL.Query()
	values.Del("marker")
	values.Del("page_reverse")
	if marker != "" {
		values.Set("marker", marker)
	}
	if reverse {
		values.Set("page_reverse", "True")
	}
	return baseURL(r) + r.URL.Path + "?" + values.Encode()
}

// baseURL is the server as the client addressed it.
func baseURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	host := r.Host
	if host == "" {
		host = "localhost"
	}
	return scheme + "://" + host
}
