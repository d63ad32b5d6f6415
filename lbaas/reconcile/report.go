package reconcile

import (
	"unicode/utf8"

	"qlbaas/lbaas"
)

// longestDescription bounds a status_description, in bytes.
const longestDescription = 1024

// Reports are queued even when the store says the same already: an older report
// with another outcome may still wait to be written, and equal ones cost no write.

// succeeded reports the whole pool as it now is.
func (r *Reconciler) succeeded(p *pool, cfg lbaas.PoolConfig) {
	everything := func(lbaas.State) bool { return true }
	reports := reportAll(cfg, everything, lbaas.StatusActive, "")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name = cfg.Pool.Name
	p.members = watch(cfg)
	reasons := map[string]string{}
	for _, m := range cfg.Members {
		reasons[m.ID] = p.reasons[m.ID]
		if reasons[m.ID] == "" && m.Status == lbaas.StatusInactive {
			reasons[m.ID] = m.StatusDescription // from before the agent was started
		}
	}
	p.reasons = reasons
	for _, m := range cfg.Members {
		reports = append(reports, r.memberReport(p, m.ID))
	}
	r.statuses.put(reports...)
}

// failed reports what waited for this attempt as ERROR, and the pool in any case.
// Everything else still works as it did.
func (r *Reconciler) failed(p *pool, cfg lbaas.PoolConfig, err error) {
	why := clip(err.Error())
	waiting := func(s lbaas.State) bool {
		switch s.Status {
		case lbaas.StatusPendingCreate, lbaas.StatusPendingUpdate, lbaas.StatusError:
			return true
		}
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name = cfg.Pool.Name
	cfg.Pool.Status = lbaas.StatusPendingUpdate
	if cfg.VIP != nil && !p.deployed {
		vip := *cfg.VIP
		vip.Status, cfg.VIP = lbaas.StatusPendingUpdate, &vip
	}
	reports := reportAll(cfg, waiting, lbaas.StatusError, why)
	for _, m := range cfg.Members {
		if waiting(m.State) {
			reports = append(reports, lbaas.Report{
				Kind: lbaas.KindMember, ID: m.ID, PoolID: m.PoolID,
				Generation: m.Generation, Status: lbaas.StatusError, Description: why,
			})
		}
	}
	r.statuses.put(reports...)
}

// reportAll reports the pool, its VIP and its associations, those that which
// picks.
func reportAll(cfg lbaas.PoolConfig, which func(lbaas.State) bool, status lbaas.Status, why string) []lbaas.Report {
	var out []lbaas.Report
	add := func(state lbaas.State, report lbaas.Report) {
		report.Status, report.Description = status, why
		if which(state) {
			out = append(out, report)
		}
	}
	add(cfg.Pool.State, lbaas.Report{Kind: lbaas.KindPool, ID: cfg.Pool.ID, PoolID: cfg.Pool.ID, Generation: cfg.Pool.Generation})
	if vip := cfg.VIP; vip != nil {
		add(vip.State, lbaas.Report{Kind: lbaas.KindVIP, ID: vip.ID, PoolID: vip.PoolID, Generation: vip.Generation})
	}
	for _, m := range cfg.Monitors {
		a := m.Association
		add(a.State, lbaas.Report{Kind: lbaas.KindAssociation, ID: a.MonitorID, PoolID: a.PoolID, Generation: a.Generation})
	}
	return out
}

// watch lists the members of a pool; without a VIP or an admin-up monitor none is
// probed.
func watch(cfg lbaas.PoolConfig) map[string]watched {
	probes := false
	for _, m := range cfg.Monitors {
		probes = probes || m.Monitor.AdminStateUp
	}
	out := map[string]watched{}
	for _, m := range cfg.Members {
		out[m.ID] = watched{generation: m.Generation, probed: probes && m.AdminStateUp && cfg.VIP != nil}
	}
	return out
}

// memberReport says what the data plane does with a member now. p.mu is held.
func (r *Reconciler) memberReport(p *pool, id string) lbaas.Report {
	m := p.members[id]
	report := lbaas.Report{Kind: lbaas.KindMember, ID: id, PoolID: p.id, Generation: m.generation, Status: lbaas.StatusActive}
	if !m.probed {
		return report
	}
	if up, known := r.node.MemberUp(p.id, id); known && !up {
		report.Status, report.Description = lbaas.StatusInactive, p.reasons[id]
	}
	return report
}

// clip bounds a text at a rune's border.
func clip(s string) string {
	if len(s) <= longestDescription {
		return s
	}
	s = s[:longestDescription]
	for !utf8.ValidString(s) && len(s) > 0 {
		s = s[:len(s)-1]
	}
	return s + "…"
}
