package lbaas

import (
	"context"
	"fmt"
	"iter"
)

// Collection names a kind of objects as the API's paths do.
type Collection string

// The collections.
const (
	Pools          Collection = "pools"
	VIPs           Collection = "vips"
	Members        Collection = "members"
	HealthMonitors Collection = "health_monitors"
	Networks       Collection = "networks"
	Subnets        Collection = "subnets"
	Ports          Collection = "ports"
	Routers        Collection = "routers"
	FloatingIPs    Collection = "floatingips"
)

// Singular returns the envelope's key for one object of the collection.
func (c Collection) Singular() string { return string(c[:len(c)-1]) }

// resource is what the generic operations need of a collection.
type resource interface {
	describe() *desc
	// show returns the object if the caller may see it.
	show(v view, id string) (row, error)
	// rows yields what the caller may see: all, or the given ids.
	rows(v view, ids []string) iter.Seq2[row, error]
	insert(m *change, tenant string, in values) (row, error)
	update(m *change, id string, in values) (row, error)
	remove(m *change, id string) error
}

// row is an object as shown, with what lists order and page by.
type row struct {
	id      string
	created uint64
	object  Object
}

// typed makes a resource of a type's own functions.
type typed[T any] struct {
	desc
	records records[T]
	// visible overrides that callers see their own tenant's objects only.
	visible func(v view, o *T) (bool, error)
	object  func(v view, o *T) (Object, error)
	create  func(m *change, h Header, in values) (*T, error)
	alter   func(m *change, o *T, in values) error
	destroy func(m *change, o *T) error
}

func (t *typed[T]) describe() *desc { return &t.desc }

func (t *typed[T]) sees(v view, o *T) (bool, error) {
	if v.owns(t.records.head(o)) {
		return true, nil
	}
	if t.visible == nil {
		return false, nil
	}
	return t.visible(v, o)
}

// find returns an object that the caller may see, or the type's not-found error.
func (t *typed[T]) find(v view, id string) (*T, error) {
	if !isUUID(id) {
		return nil, t.notFound(id)
	}
	o, err := t.records.get(v.tx, id)
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, t.notFound(id)
	}
	ok, err := t.sees(v, o)
	if err == nil && !ok {
		err = t.notFound(id)
	}
	return o, err
}

// findOwn returns an object that the caller may change.
func (t *typed[T]) findOwn(m *change, id string) (*T, error) {
	o, err := t.find(m.view, id)
	if err == nil && !m.owns(t.records.head(o)) {
		err = refuse(errPolicy, "The %s %s belongs to another project", t.kind, id)
	}
	return o, err
}

func (t *typed[T]) row(v view, o *T) (row, error) {
	object, err := t.object(v, o)
	if err != nil {
		return row{}, err
	}
	if !v.caller.Admin {
		for _, a := range t.attrs {
			if a.access&adminSees != 0 {
				delete(object, a.name)
			}
		}
	}
	h := t.records.head(o)
	return row{id: h.ID, created: h.Created, object: object}, nil
}

func (t *typed[T]) show(v view, id string) (row, error) {
	o, err := t.find(v, id)
	if err != nil {
		return row{}, err
	}
	return t.row(v, o)
}

func (t *typed[T]) rows(v view, ids []string) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		for o, err := range t.some(v, ids) {
			if err == nil {
				var ok bool
				if ok, err = t.sees(v, o); err == nil && !ok {
					continue
				}
			}
			var r row
			if err == nil {
				r, err = t.row(v, o)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// some yields the objects of the given ids that exist; nil means all.
func (t *typed[T]) some(v view, ids []string) iter.Seq2[*T, error] {
	if ids == nil {
		return t.records.all(v.tx)
	}
	return func(yield func(*T, error) bool) {
		for _, id := range ids {
			if !isUUID(id) {
				continue
			}
			o, err := t.records.get(v.tx, id)
			if o == nil && err == nil {
				continue
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

func (t *typed[T]) insert(m *change, tenant string, in values) (row, error) {
	if err := m.charge(t.kind, tenant); err != nil {
		return row{}, err
	}
	o, err := t.create(m, m.newHeader(tenant), in)
	if err != nil {
		return row{}, err
	}
	r, err := t.row(m.view, o)
	if err != nil {
		return row{}, err
	}
	m.audit("create", t.kind, r.id, tenant, nil, r.object)
	return r, nil
}

func (t *typed[T]) update(m *change, id string, in values) (row, error) {
	o, err := t.findOwn(m, id)
	if err != nil {
		return row{}, err
	}
	before, err := t.row(m.view, o)
	if err != nil {
		return row{}, err
	}
	if err := t.alter(m, o, in); err != nil {
		return row{}, err
	}
	after, err := t.row(m.view, o)
	if err != nil {
		return row{}, err
	}
	m.audit("update", t.kind, id, t.records.head(o).TenantID, before.object, after.object)
	return after, nil
}

func (t *typed[T]) remove(m *change, id string) error {
	o, err := t.findOwn(m, id)
	if err != nil {
		return err
	}
	before, err := t.row(m.view, o)
	if err != nil {
		return err
	}
	m.audit("delete", t.kind, id, t.records.head(o).TenantID, before.object, nil)
	return t.destroy(m, o)
}

// resources is the table of all collections. A further one is a row of it.
func resources() map[Collection]resource {
	all := []resource{
		poolResource(), vipResource(), memberResource(), monitorResource(),
		networkResource(), subnetResource(), portResource(), routerResource(), floatingResource(),
	}
	table := make(map[Collection]resource, len(all))
	for _, r := range all {
		table[r.describe().collection] = r
	}
	return table
}

func (s *Service) resource(c Collection) (resource, error) {
	r, ok := s.resources[c]
	if !ok {
		return nil, fmt.Errorf("collection %q is not known", c)
	}
	return r, nil
}

// Create makes an object from the attributes of a POST, as JSON values with
// json.Number for numbers. The object may say PENDING_CREATE: the node acts
// after the answer. Errors that the caller is to see are of type *Error.
func (s *Service) Create(ctx context.Context, c Caller, coll Collection, body map[string]any) (Object, error) {
	r, err := s.resource(coll)
	if err != nil {
		return nil, err
	}
	in, tenant, err := r.describe().forCreate(c, body)
	if err != nil {
		return nil, err
	}
	var made row
	err = s.change(ctx, c, func(m *change) (err error) {
		made, err = r.insert(m, tenant, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	return made.object, nil
}

// Update changes the attributes that body names, and no others.
func (s *Service) Update(ctx context.Context, c Caller, coll Collection, id string,
	body map[string]any) (Object, error) {
	r, err := s.resource(coll)
	if err != nil {
		return nil, err
	}
	in, err := r.describe().forUpdate(c, body)
	if err != nil {
		return nil, err
	}
	var now row
	err = s.change(ctx, c, func(m *change) (err error) {
		now, err = r.update(m, id, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	return now.object, nil
}

// Delete removes an object and what depends on it; it is gone when Delete returns.
func (s *Service) Delete(ctx context.Context, c Caller, coll Collection, id string) error {
	r, err := s.resource(coll)
	if err != nil {
		return err
	}
	return s.change(ctx, c, func(m *change) error { return r.remove(m, id) })
}

// Show returns one object; fields limits it to these attributes, none means all.
func (s *Service) Show(ctx context.Context, c Caller, coll Collection, id string, fields []string) (Object, error) {
	r, err := s.resource(coll)
	if err != nil {
		return nil, err
	}
	var found row
	err = s.view(ctx, c, func(v view) (err error) {
		found, err = r.show(v, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return only(found.object, fields), nil
}
