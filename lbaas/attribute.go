package lbaas

import (
	"slices"
	"strings"
)

// Object is an object as the API shows it. Values are string, int64, bool, nil,
// []string, []Object, Object, or what an opaque attribute was given.
type Object map[string]any

// values are the attributes of a request after coercion and validation, in the
// Go type that the attribute's kind documents.
type values map[string]any

// take copies an attribute into dst if the request named it.
func take[T any](in values, name string, dst *T) {
	if v, ok := in[name]; ok {
		*dst = v.(T)
	}
}

// access says what callers may do with an attribute. All are shown, but for
// adminSees to others than administrators.
type access uint8

const (
	inPost access = 1 << iota
	inPut
	required
	adminSets
	adminSees

	readOnly access = 0
	inBoth          = inPost | inPut
)

// attribute is one row of a collection's table.
type attribute struct {
	name   string
	access access
	kind   kind
	// def is the value, in the kind's Go type, when a POST does not name the
	// attribute; nil leaves it out.
	def any
	// extra attributes are kept in the object's Extra and have no effect.
	extra bool
}

// desc describes one collection to the generic operations.
type desc struct {
	collection Collection
	// kind is the singular, as in envelopes and quotas.
	kind string
	// missing is the error type for an id that is not there.
	missing string
	attrs   []attribute
}

func (d *desc) attr(name string) *attribute {
	for i := range d.attrs {
		if d.attrs[i].name == name {
			return &d.attrs[i]
		}
	}
	return nil
}

// names lists the attributes that have any of the given rights.
func (d *desc) names(any access) string {
	var names []string
	for _, a := range d.attrs {
		if a.access&any != 0 {
			names = append(names, a.name)
		}
	}
	return strings.Join(names, ", ")
}

func (d *desc) notFound(id string) *Error {
	return refuse(d.missing, "%s %s could not be found", d.kind, quote(id))
}

// forCreate checks the body of a POST and returns the tenant that will own the
// object. The order of the checks is the one that clients know: tenant, unknown
// names, forbidden and missing ones, then value by value.
func (d *desc) forCreate(c Caller, body map[string]any) (values, string, error) {
	tenant, err := ownerOf(c, body)
	if err != nil {
		return nil, "", err
	}
	if err := d.checkNames(body, inPost, "not allowed in POST"); err != nil {
		return nil, "", err
	}
	for _, a := range d.attrs {
		if _, ok := body[a.name]; !ok && a.access&required != 0 {
			return nil, "", refuse(errBadRequest, "Failed to parse request. Required attribute '%s' not specified",
				a.name)
		}
	}
	in, err := d.parse(c, body)
	if err != nil {
		return nil, "", err
	}
	for _, a := range d.attrs {
		if _, ok := in[a.name]; !ok && a.def != nil {
			in[a.name] = a.def
		}
	}
	return in, tenant, nil
}

// forUpdate checks the body of a PUT.
func (d *desc) forUpdate(c Caller, body map[string]any) (values, error) {
	if err := d.checkNames(body, inPut, "read-only"); err != nil {
		return nil, err
	}
	return d.parse(c, body)
}

// checkNames refuses unknown attributes, then those that lack the right.
func (d *desc) checkNames(body map[string]any, right access, why string) error {
	names := make([]string, 0, len(body))
	for name := range body {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if d.attr(name) == nil {
			return refuse(errBadRequest, "Unrecognized attribute %s of a %s: it takes %s",
				quote(name), d.kind, d.names(right))
		}
	}
	for _, name := range names {
		if d.attr(name).access&right == 0 {
			return refuse(errBadRequest, "Attribute '%s' of a %s is %s: allowed are %s",
				name, d.kind, why, d.names(right))
		}
	}
	return nil
}

// parse coerces and validates every attribute that the body names.
func (d *desc) parse(c Caller, body map[string]any) (values, error) {
	in := make(values, len(body))
	for i := range d.attrs {
		a := &d.attrs[i]
		raw, ok := body[a.name]
		if !ok {
			continue
		}
		v, err := a.kind.parse(a.name, raw)
		if err != nil {
			return nil, err
		}
		in[a.name] = v
	}
	for _, a := range d.attrs {
		if _, ok := in[a.name]; ok && a.access&adminSets != 0 && !c.Admin {
			return nil, refuse(errPolicy, "Only an administrator may set %s", a.name)
		}
	}
	return in, nil
}

// ownerOf returns the tenant of what c creates. Only an administrator may name
// another one than its own.
func ownerOf(c Caller, body map[string]any) (string, error) {
	raw, ok := body["tenant_id"]
	if !ok {
		if c.TenantID == "" {
			return DefaultTenant, nil
		}
		return c.TenantID, nil
	}
	v, err := textKind(maxText).parse("tenant_id", raw)
	if err != nil {
		return "", err
	}
	tenant := v.(string)
	if tenant == "" {
		return "", invalid(errBadRequest, "tenant_id", "may not be empty")
	}
	if !c.Admin && tenant != c.TenantID {
		return "", refuse(errBadRequest, "Specifying a tenant_id other than one's own requires admin privileges")
	}
	return tenant, nil
}

// takeExtra copies the attributes that are only kept into the object's map.
func (d *desc) takeExtra(in values, extra map[string]any) map[string]any {
	for _, a := range d.attrs {
		v, ok := in[a.name]
		if !a.extra || !ok {
			continue
		}
		if extra == nil {
			extra = map[string]any{}
		}
		extra[a.name] = v
	}
	return extra
}

// showExtra adds the kept attributes to an object's view.
func (d *desc) showExtra(o Object, extra map[string]any) Object {
	for _, a := range d.attrs {
		if !a.extra {
			continue
		}
		o[a.name] = a.def
		if v, ok := extra[a.name]; ok {
			o[a.name] = v
		}
	}
	return o
}
