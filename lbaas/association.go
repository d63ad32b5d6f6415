package lbaas

import (
	"cmp"
	"context"
	"slices"
)

// associationRecords are not counted: a quota limits monitors, not their uses.
func associationRecords() records[Association] {
	return records[Association]{
		bucket: bucketAssociations, kind: "association", key: associationKey,
		head: func(a *Association) *Header { return &a.Header },
	}
}

func associationKey(a *Association) string { return a.PoolID + "/" + a.MonitorID }

func eraseAssociation(tx Tx, a *Association) error {
	if err := tx.Delete(bucketAssocByMonitor, a.MonitorID+"/"+a.PoolID); err != nil {
		return err
	}
	return tx.Delete(bucketAssociations, associationKey(a))
}

// associationsOf returns a pool's associations, oldest first.
func associationsOf(tx Tx, poolID string) ([]Association, error) {
	var list []Association
	for id, raw := range tx.Scan(bucketAssociations, poolID+"/") {
		a, err := associationRecords().decode(id, raw)
		if err != nil {
			return nil, err
		}
		list = append(list, *a)
	}
	slices.SortFunc(list, func(a, b Association) int { return cmp.Compare(a.Created, b.Created) })
	return list, nil
}

// Associate binds a monitor to a pool. The body names the monitor by id.
func (s *Service) Associate(ctx context.Context, c Caller, poolID string, body map[string]any) error {
	d := desc{kind: "pool's health_monitor", attrs: []attribute{
		{name: "id", access: inPost | required, kind: uuidKind()},
		{name: "tenant_id", access: inPost, kind: textKind(maxText)},
	}}
	in, _, err := d.forCreate(c, body)
	if err != nil {
		return err
	}
	monitorID := in["id"].(string)
	return s.change(ctx, c, func(m *change) error {
		pool, err := poolResource().findOwn(m, poolID)
		if err != nil {
			return err
		}
		monitor, err := monitorResource().findOwn(m, monitorID)
		if err != nil {
			return err
		}
		if pool.TenantID != monitor.TenantID {
			return refuse(errNotAuthorized, "Pool %s and health monitor %s belong to different projects",
				pool.ID, monitor.ID)
		}
		a := &Association{
			Header: m.newHeader(pool.TenantID), State: State{Status: StatusPendingCreate},
			PoolID: pool.ID, MonitorID: monitor.ID,
		}
		a.ID = ""
		if m.tx.Get(bucketAssociations, associationKey(a)) != nil {
			return refuse(errAssociationExists, "Health monitor %s is associated with pool %s already",
				monitor.ID, pool.ID)
		}
		if err := m.tx.Put(bucketAssocByMonitor, monitor.ID+"/"+pool.ID, []byte{}); err != nil {
			return err
		}
		m.touch(pool.ID)
		m.audit("associate", "pool", pool.ID, pool.TenantID, nil, Object{"health_monitor": monitor.ID})
		return associationRecords().save(m.tx, a)
	})
}

// findAssociation returns the association of a pool that the caller may see.
func findAssociation(v view, poolID, monitorID string) (*Association, error) {
	pool, err := poolResource().find(v, poolID)
	if err != nil {
		return nil, err
	}
	if isUUID(monitorID) {
		a, err := associationRecords().get(v.tx, pool.ID+"/"+monitorID)
		if a != nil || err != nil {
			return a, err
		}
	}
	return nil, refuse(errNoAssociation, "Health monitor %s is not associated with pool %s", quote(monitorID), pool.ID)
}

// Disassociate takes a monitor off a pool.
func (s *Service) Disassociate(ctx context.Context, c Caller, poolID, monitorID string) error {
	return s.change(ctx, c, func(m *change) error {
		a, err := findAssociation(m.view, poolID, monitorID)
		if err != nil {
			return err
		}
		m.touch(a.PoolID)
		m.audit("disassociate", "pool", a.PoolID, a.TenantID, Object{"health_monitor": a.MonitorID}, nil)
		return eraseAssociation(m.tx, a)
	})
}

// Association shows the binding of one monitor to one pool.
func (s *Service) Association(ctx context.Context, c Caller, poolID, monitorID string, fields []string) (Object, error) {
	var shown Object
	err := s.view(ctx, c, func(v view) error {
		a, err := findAssociation(v, poolID, monitorID)
		if err != nil {
			return err
		}
		shown = Object{
			"id": a.MonitorID, "tenant_id": a.TenantID,
			"status": string(a.Status), "status_description": orNil(a.StatusDescription),
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return only(shown, fields), nil
}
