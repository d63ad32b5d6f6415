package lbaas

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// view is one consistent state of the store as one caller may see it.
type view struct {
	tx     Tx
	caller Caller
}

// owns tells whether the caller may change an object of that tenant.
func (v view) owns(h *Header) bool {
	return v.caller.Admin || h.TenantID == v.caller.TenantID
}

// change is one transaction that carries out what a caller wants. Its effects
// outside of the store (notifications, audit) happen after the commit.
type change struct {
	view
	ctx  context.Context
	opts *Options
	// revision is the number of this change; no two changes share one.
	revision uint64
	// touched pools, and routers, are what the node is to look at.
	touched []string
	routers []string
	audits  []auditEntry
}

type auditEntry struct {
	action, kind, id, tenant string
	before, after            Object
}

// touch says that the node has to look at these pools after the commit.
func (m *change) touch(poolIDs ...string) {
	for _, id := range poolIDs {
		if id != "" && !slices.Contains(m.touched, id) {
			m.touched = append(m.touched, id)
		}
	}
}

func (m *change) audit(action, kind, id, tenant string, before, after Object) {
	m.audits = append(m.audits, auditEntry{action, kind, id, tenant, before, after})
}

// newHeader begins an object.
func (m *change) newHeader(tenant string) Header {
	return Header{ID: newUUID(), TenantID: tenant, Created: m.revision, Generation: m.revision}
}

// newUUID returns a random UUID (version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: the runtime ends the process instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// updated marks an object as changed by a user. Only the deletion of an object
// forbids that, as in the service that clients know.
func (m *change) updated(kind string, h *Header, s *State) error {
	if s.Status == StatusPendingDelete {
		return refuse(errState, "%s %s is in state %s, it cannot be changed", kind, h.ID, s.Status)
	}
	h.Generation = m.revision
	s.Status, s.StatusDescription = StatusPendingUpdate, ""
	return nil
}

// Revision returns the number of the last change by a user, 0 before the first.
func Revision(tx Tx) (uint64, error) {
	var n uint64
	_, err := getJSON(tx, bucketMeta, "revision", &n)
	return n, err
}

// change runs fn in a transaction and, once it is durable, tells the node and
// writes the audit log.
func (s *Service) change(ctx context.Context, c Caller, fn func(m *change) error) error {
	var m *change
	err := s.opts.Store.Update(ctx, func(tx Tx) error {
		revision, err := Revision(tx)
		if err != nil {
			return err
		}
		m = &change{view: view{tx, c}, ctx: ctx, opts: &s.opts, revision: revision + 1}
		if err := putJSON(tx, bucketMeta, "revision", m.revision); err != nil {
			return err
		}
		return fn(m)
	})
	// An uncertain change may have happened: the node then finds out by looking.
	if m != nil && (err == nil || errors.Is(err, ErrUncertain)) {
		s.notify(m)
	}
	if err != nil {
		return err
	}
	for _, a := range m.audits {
		s.log(ctx, c, a)
	}
	return nil
}

// notify tells the node what a change touched.
func (s *Service) notify(m *change) {
	if s.opts.Notifier == nil {
		return
	}
	if len(m.touched) > 0 {
		s.opts.Notifier.PoolsChanged(m.touched...)
	}
	if len(m.routers) > 0 {
		s.opts.Notifier.RoutersChanged(m.routers...)
	}
}

// view runs fn on one state of the store.
func (s *Service) view(ctx context.Context, c Caller, fn func(v view) error) error {
	return s.opts.Store.View(ctx, func(tx Tx) error { return fn(view{tx, c}) })
}

// log writes one line per change: who did what to which object, and the values
// before and after of what changed.
func (s *Service) log(ctx context.Context, c Caller, a auditEntry) {
	attrs := []slog.Attr{
		slog.String("action", a.action), slog.String("kind", a.kind), slog.String("id", a.id),
		slog.String("tenant", a.tenant), slog.String("who", c.Who), slog.String("request_id", c.RequestID),
	}
	var was, is []any
	names := make([]string, 0, len(a.before)+len(a.after))
	for name := range a.before {
		names = append(names, name)
	}
	for name := range a.after {
		if _, ok := a.before[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if before, after := fmt.Sprint(a.before[name]), fmt.Sprint(a.after[name]); before != after {
			if a.before != nil {
				was = append(was, slog.String(name, before))
			}
			if a.after != nil {
				is = append(is, slog.String(name, after))
			}
		}
	}
	attrs = append(attrs, slog.Group("before", was...), slog.Group("after", is...))
	s.opts.Log.LogAttrs(ctx, slog.LevelInfo, "change", attrs...)
}
