package lbaas

import (
	"context"
	"maps"
	"slices"
)

// defaultQuotas is how many objects of a kind a tenant can have; negative means
// any number. They are the ones that users of the API know.
func defaultQuotas() map[string]int64 {
	return map[string]int64{
		"vip": 10, "pool": 10, "member": -1, "health_monitor": -1,
		"network": -1, "subnet": -1, "port": -1, "router": 10, "floatingip": 50,
	}
}

// quotas returns what holds for a tenant.
func (m *Options) quotas(tx Tx, tenant string) (map[string]int64, error) {
	q := defaultQuotas()
	maps.Copy(q, m.Quotas)
	own := map[string]int64{}
	if _, err := getJSON(tx, bucketQuotas, tenant, &own); err != nil {
		return nil, err
	}
	maps.Copy(q, own)
	return q, nil
}

// charge refuses one more object of a kind if the tenant has as many as it may.
func (m *change) charge(kind, tenant string) error {
	quotas, err := m.opts.quotas(m.tx, tenant)
	if err != nil {
		return err
	}
	limit, ok := quotas[kind]
	if !ok || limit < 0 {
		return nil
	}
	n, err := counted(m.tx, kind, tenant)
	if err != nil {
		return err
	}
	if n >= limit {
		return refuse(errOverQuota, "Quota exceeded for resources: %s: project %s has %d of %d",
			kind, quote(tenant), n, limit)
	}
	return nil
}

func showQuotas(quotas map[string]int64) Object {
	o := Object{}
	for kind, n := range quotas {
		o[kind] = n
	}
	return o
}

// mayReadQuota lets tenants see their own quotas only.
func mayReadQuota(c Caller, tenant string) error {
	if !c.Admin && tenant != c.TenantID {
		return refuse(errPolicy, "Only an administrator may see another project's quotas")
	}
	return checkText("tenant_id", tenant, maxText)
}

// Quota shows a tenant's quotas; with defaults, those of a tenant without own ones.
func (s *Service) Quota(ctx context.Context, c Caller, tenant string, defaults bool) (Object, error) {
	if err := mayReadQuota(c, tenant); err != nil {
		return nil, err
	}
	if defaults {
		q := defaultQuotas()
		maps.Copy(q, s.opts.Quotas)
		return showQuotas(q), nil
	}
	var shown Object
	err := s.view(ctx, c, func(v view) error {
		q, err := s.opts.quotas(v.tx, tenant)
		shown = showQuotas(q)
		return err
	})
	return shown, err
}

// Quotas shows the quotas of the tenants that have own ones.
func (s *Service) Quotas(ctx context.Context, c Caller) ([]Object, error) {
	if !c.Admin {
		return nil, refuse(errPolicy, "Only an administrator may list quotas")
	}
	var list []Object
	err := s.view(ctx, c, func(v view) error {
		list = []Object{}
		for tenant := range v.tx.Scan(bucketQuotas, "") {
			q, err := s.opts.quotas(v.tx, tenant)
			if err != nil {
				return err
			}
			shown := showQuotas(q)
			shown["tenant_id"] = tenant
			list = append(list, shown)
		}
		return nil
	})
	return list, err
}

// SetQuota changes the quotas of a tenant that body names.
func (s *Service) SetQuota(ctx context.Context, c Caller, tenant string, body map[string]any) (Object, error) {
	if !c.Admin {
		return nil, refuse(errPolicy, "Only an administrator may change quotas")
	}
	if err := checkText("tenant_id", tenant, maxText); err != nil {
		return nil, err
	}
	d := desc{kind: "quota", attrs: []attribute{{name: "tenant_id", access: inPut, kind: textKind(maxText)}}}
	for _, kind := range slices.Sorted(maps.Keys(defaultQuotas())) {
		d.attrs = append(d.attrs, attribute{name: kind, access: inPut, kind: intKind(-1, 1<<31-1)})
	}
	in, err := d.forUpdate(c, body)
	if err != nil {
		return nil, err
	}
	delete(in, "tenant_id")
	var shown Object
	err = s.change(ctx, c, func(m *change) error {
		own := map[string]int64{}
		if _, err := getJSON(m.tx, bucketQuotas, tenant, &own); err != nil {
			return err
		}
		before, err := s.opts.quotas(m.tx, tenant)
		if err != nil {
			return err
		}
		for kind, n := range in {
			own[kind] = n.(int64)
		}
		if err := putJSON(m.tx, bucketQuotas, tenant, own); err != nil {
			return err
		}
		after, err := s.opts.quotas(m.tx, tenant)
		shown = showQuotas(after)
		m.audit("update", "quota", tenant, tenant, showQuotas(before), shown)
		return err
	})
	if err != nil {
		return nil, err
	}
	return shown, nil
}

// DeleteQuota gives a tenant the default quotas again.
func (s *Service) DeleteQuota(ctx context.Context, c Caller, tenant string) error {
	if !c.Admin {
		return refuse(errPolicy, "Only an administrator may change quotas")
	}
	if err := checkText("tenant_id", tenant, maxText); err != nil {
		return err
	}
	return s.change(ctx, c, func(m *change) error {
		m.audit("delete", "quota", tenant, tenant, nil, nil)
		return m.tx.Delete(bucketQuotas, tenant)
	})
}
