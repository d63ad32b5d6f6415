package lbaas

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// Query says which objects of a collection to list, in which order, and how
// much of them.
type Query struct {
	// Filters: keys must all match, of a key's texts one. Empty texts are ignored,
	// and so are keys that the collection does not have.
	Filters map[string][]string
	// Fields limits objects to these attributes; none means all.
	Fields []string
	// Sort orders the objects; ties, and everything without it, by age.
	Sort []SortKey
	// Limit bounds the page; 0 means no paging. Marker is the id next to which the
	// page lies: after it, or with Reverse before it.
	Limit   int
	Marker  string
	Reverse bool
}

// SortKey is one attribute to order by.
type SortKey struct {
	Name       string
	Descending bool
}

// Page is the outcome of a list. First and Last are the ids of the outer
// objects, empty when there are none.
type Page struct {
	Objects     []Object
	First, Last string
}

// List returns the objects that the caller may see and the query matches.
func (s *Service) List(ctx context.Context, c Caller, coll Collection, q Query) (Page, error) {
	r, err := s.resource(coll)
	if err != nil {
		return Page{}, err
	}
	return s.list(ctx, c, r, q)
}

func (s *Service) list(ctx context.Context, c Caller, r resource, q Query) (Page, error) {
	match, err := r.describe().matcher(q.Filters)
	if err != nil {
		return Page{}, err
	}
	for _, key := range q.Sort {
		if r.describe().attr(key.Name) == nil {
			return Page{}, refuse(errBadRequest, "%s is not an attribute of a %s to sort by",
				quote(key.Name), r.describe().kind)
		}
	}
	var rows []row
	err = s.view(ctx, c, func(v view) error {
		rows = nil
		for found, err := range r.rows(v, idsOf(q.Filters)) {
			if err != nil {
				return err
			}
			if match(found.object) {
				rows = append(rows, found)
			}
		}
		return nil
	})
	if err != nil {
		return Page{}, err
	}
	sortRows(rows, q.Sort)
	return pageOf(paged(rows, q), q.Fields), nil
}

// idsOf returns the ids that a query asks for, nil if it asks for any.
func idsOf(filters map[string][]string) []string {
	var ids []string
	for _, id := range filters["id"] {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// matcher compiles filters. A collection without names has nothing of any name:
// clients look objects up by name before they delete them, and an ignored filter
// would give them whatever is there.
func (d *desc) matcher(filters map[string][]string) (func(Object) bool, error) {
	type test struct {
		name string
		want []any
	}
	var tests []test
	for name, wanted := range filters {
		texts := slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return s == "" })
		if len(texts) == 0 {
			continue
		}
		a := d.attr(name)
		if a == nil {
			if name == "name" {
				return func(Object) bool { return false }, nil
			}
			continue
		}
		t := test{name: name}
		for _, text := range texts {
			var want any = text
			if a.kind.filter != nil {
				var err error
				if want, err = a.kind.filter(name, text); err != nil {
					return nil, err
				}
			}
			t.want = append(t.want, want)
		}
		tests = append(tests, t)
	}
	return func(o Object) bool {
		for _, t := range tests {
			if !slices.ContainsFunc(t.want, func(want any) bool { return matches(o[t.name], want) }) {
				return false
			}
		}
		return true
	}, nil
}

// matches compares an attribute with what a filter wants. A list matches if an
// entry does; an object if a field has the value, or for key=value that field.
func matches(have, want any) bool {
	switch have := have.(type) {
	case []string:
		return slices.ContainsFunc(have, func(s string) bool { return s == want })
	case []Object:
		return slices.ContainsFunc(have, func(o Object) bool { return matches(o, want) })
	case []any:
		return slices.ContainsFunc(have, func(v any) bool { return matches(v, want) })
	case map[string]any:
		return matches(Object(have), want)
	case Object:
		text, _ := want.(string)
		key, value, named := strings.Cut(text, "=")
		for name, v := range have {
			if v == want || named && name == key && matches(v, value) {
				return true
			}
		}
		return false
	}
	return have == want
}

func sortRows(rows []row, keys []SortKey) {
	slices.SortFunc(rows, func(a, b row) int {
		for _, key := range keys {
			order := compare(a.object[key.Name], b.object[key.Name])
			if key.Descending {
				order = -order
			}
			if order != 0 {
				return order
			}
		}
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.id, b.id))
	})
}

// compare orders two values of one attribute; null is lowest.
func compare(a, b any) int {
	switch a := a.(type) {
	case nil:
		if b == nil {
			return 0
		}
		return -1
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case bool:
		if b, ok := b.(bool); ok {
			return cmp.Compare(toInt(a), toInt(b))
		}
	}
	if b == nil {
		return 1
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// paged cuts one page out of the sorted rows. The page at an unknown marker is
// empty: the row may have been deleted since, and to begin again would make a
// client loop.
func paged(rows []row, q Query) []row {
	if q.Limit <= 0 {
		return rows
	}
	from, to := 0, len(rows)
	if q.Marker != "" {
		at := slices.IndexFunc(rows, func(r row) bool { return r.id == q.Marker })
		switch {
		case at < 0:
			return nil
		case q.Reverse:
			to = at
		default:
			from = at + 1
		}
	}
	if q.Reverse {
		return rows[max(0, to-q.Limit):to]
	}
	return rows[from:min(len(rows), from+q.Limit)]
}

func pageOf(rows []row, fields []string) Page {
	p := Page{Objects: make([]Object, 0, len(rows))}
	for _, r := range rows {
		p.Objects = append(p.Objects, only(r.object, fields))
	}
	if len(rows) > 0 {
		p.First, p.Last = rows[0].id, rows[len(rows)-1].id
	}
	return p
}

// only keeps the named attributes of o that it has; no names keep all.
func only(o Object, fields []string) Object {
	if len(fields) == 0 {
		return o
	}
	kept := Object{}
	for _, name := range fields {
		if v, ok := o[name]; ok {
			kept[name] = v
		}
	}
	return kept
}
