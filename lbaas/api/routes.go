package api

import (
	"net/http"

	"qlbaas/lbaas"
)

// collections says under which path each collection is served.
func collections() map[string]lbaas.Collection {
	return map[string]lbaas.Collection{
		"/v2.0/lb/pools":           lbaas.Pools,
		"/v2.0/lb/vips":            lbaas.VIPs,
		"/v2.0/lb/members":         lbaas.Members,
		"/v2.0/lb/health_monitors": lbaas.HealthMonitors,
		"/v2.0/networks":           lbaas.Networks,
		"/v2.0/subnets":            lbaas.Subnets,
		"/v2.0/ports":              lbaas.Ports,
		"/v2.0/routers":            lbaas.Routers,
		"/v2.0/floatingips":        lbaas.FloatingIPs,
	}
}

func (s *server) routes() {
	on := func(pattern string, op operation) { s.mux.Handle(pattern, s.handle(op)) }
	for path, coll := range collections() {
		on("GET "+path, s.list(coll))
		on("POST "+path, s.create(coll))
		on("GET "+path+"/{id}", s.show(coll))
		on("PUT "+path+"/{id}", s.update(coll))
		on("DELETE "+path+"/{id}", s.remove(coll))
	}
	on("GET /v2.0/lb/pools/{id}/stats", s.stats)
	on("POST /v2.0/lb/pools/{id}/health_monitors", s.associate)
	on("GET /v2.0/lb/pools/{id}/health_monitors/{monitor}", s.association)
	on("DELETE /v2.0/lb/pools/{id}/health_monitors/{monitor}", s.disassociate)
	on("GET /v2.0/lb/pools/{id}/loadbalancer-agent", s.agentOf)
	on("PUT /v2.0/routers/{id}/add_router_interface", s.routerInterface(s.svc.AddRouterInterface))
	on("PUT /v2.0/routers/{id}/remove_router_interface", s.routerInterface(s.svc.RemoveRouterInterface))
	on("GET /v2.0/agents", s.agents)
	on("GET /v2.0/agents/{id}", s.agent)
	on("GET /v2.0/agents/{id}/loadbalancer-pools", s.poolsOn)
	on("GET /v2.0/service-providers", s.providers)
	on("GET /v2.0/quotas", s.quotas)
	on("GET /v2.0/quotas/tenant", s.ownTenant)
	on("GET /v2.0/quotas/{tenant}", s.quota(false))
	on("GET /v2.0/quotas/{tenant}/default", s.quota(true))
	on("PUT /v2.0/quotas/{tenant}", s.setQuota)
	on("DELETE /v2.0/quotas/{tenant}", s.deleteQuota)
	on("GET /v2.0/extensions", s.extensions)
	on("GET /v2.0/extensions/{alias}", s.extension)
	on("GET /v2.0", s.resources)
	on("GET /v2.0/{$}", s.resources)
	on("GET /{$}", s.versions)
}

func (s *server) list(coll lbaas.Collection) operation {
	return func(r *request) (int, any, error) {
		page, err := s.svc.List(r.Context(), r.caller, coll, r.query)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, r.paged(string(coll), page), nil
	}
}

// paged puts a page into its envelope, with links if a page was asked for.
func (r *request) paged(name string, page lbaas.Page) map[string]any {
	body := map[string]any{name: page.Objects}
	if r.query.Limit > 0 {
		body[name+"_links"] = pageLinks(r.Request, r.query, page)
	}
	return body
}

func (s *server) create(coll lbaas.Collection) operation {
	return func(r *request) (int, any, error) {
		attrs, err := r.unwrap(coll.Singular())
		if err != nil {
			return 0, nil, err
		}
		made, err := s.svc.Create(r.Context(), r.caller, coll, attrs)
		return http.StatusCreated, map[string]any{coll.Singular(): made}, err
	}
}

func (s *server) show(coll lbaas.Collection) operation {
	return func(r *request) (int, any, error) {
		found, err := s.svc.Show(r.Context(), r.caller, coll, r.PathValue("id"), r.query.Fields)
		return http.StatusOK, map[string]any{coll.Singular(): found}, err
	}
}

func (s *server) update(coll lbaas.Collection) operation {
	return func(r *request) (int, any, error) {
		attrs, err := r.unwrap(coll.Singular())
		if err != nil {
			return 0, nil, err
		}
		now, err := s.svc.Update(r.Context(), r.caller, coll, r.PathValue("id"), attrs)
		return http.StatusOK, map[string]any{coll.Singular(): now}, err
	}
}

func (s *server) remove(coll lbaas.Collection) operation {
	return func(r *request) (int, any, error) {
		return http.StatusNoContent, nil, s.svc.Delete(r.Context(), r.caller, coll, r.PathValue("id"))
	}
}

func (s *server) stats(r *request) (int, any, error) {
	stats, err := s.svc.Stats(r.Context(), r.caller, r.PathValue("id"))
	return http.StatusOK, map[string]any{"stats": stats}, err
}

// associate answers with an empty object, as clients know it.
func (s *server) associate(r *request) (int, any, error) {
	attrs, err := r.unwrap("health_monitor")
	if err != nil {
		return 0, nil, err
	}
	err = s.svc.Associate(r.Context(), r.caller, r.PathValue("id"), attrs)
	return http.StatusCreated, map[string]any{"health_monitor": map[string]any{}}, err
}

func (s *server) association(r *request) (int, any, error) {
	found, err := s.svc.Association(r.Context(), r.caller, r.PathValue("id"), r.PathValue("monitor"), r.query.Fields)
	return http.StatusOK, map[string]any{"health_monitor": found}, err
}

func (s *server) disassociate(r *request) (int, any, error) {
	return http.StatusNoContent, nil,
		s.svc.Disassociate(r.Context(), r.caller, r.PathValue("id"), r.PathValue("monitor"))
}

func (s *server) agentOf(r *request) (int, any, error) {
	agent, err := s.svc.AgentOf(r.Context(), r.caller, r.PathValue("id"))
	return http.StatusOK, map[string]any{"agent": agent}, err
}

func (s *server) agents(r *request) (int, any, error) {
	agents, err := s.svc.Agents(r.Context(), r.caller)
	return http.StatusOK, map[string]any{"agents": agents}, err
}

func (s *server) agent(r *request) (int, any, error) {
	agent, err := s.svc.Agent(r.Context(), r.caller, r.PathValue("id"))
	return http.StatusOK, map[string]any{"agent": agent}, err
}

func (s *server) poolsOn(r *request) (int, any, error) {
	page, err := s.svc.PoolsOn(r.Context(), r.caller, r.PathValue("id"), r.query)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, r.paged("pools", page), nil
}

func (s *server) providers(r *request) (int, any, error) {
	list := []map[string]any{}
	wanted := r.query.Filters["service_type"]
	for _, p := range lbaas.Providers() {
		if len(wanted) == 0 || wanted[0] == "LOADBALANCER" {
			list = append(list, map[string]any{
				"service_type": "LOADBALANCER", "name": p.Name, "default": p.Default,
			})
		}
	}
	return http.StatusOK, map[string]any{"service_providers": list}, nil
}

func (s *server) quotas(r *request) (int, any, error) {
	list, err := s.svc.Quotas(r.Context(), r.caller)
	return http.StatusOK, map[string]any{"quotas": list}, err
}

// ownTenant tells a client whose quotas to ask for.
func (s *server) ownTenant(r *request) (int, any, error) {
	tenant := r.caller.TenantID
	if tenant == "" {
		tenant = lbaas.DefaultTenant
	}
	return http.StatusOK, map[string]any{"tenant": map[string]any{"tenant_id": tenant}}, nil
}

func (s *server) quota(defaults bool) operation {
	return func(r *request) (int, any, error) {
		quota, err := s.svc.Quota(r.Context(), r.caller, r.PathValue("tenant"), defaults)
		return http.StatusOK, map[string]any{"quota": quota}, err
	}
}

func (s *server) setQuota(r *request) (int, any, error) {
	attrs, err := r.unwrap("quota")
	if err != nil {
		return 0, nil, err
	}
	quota, err := s.svc.SetQuota(r.Context(), r.caller, r.PathValue("tenant"), attrs)
	return http.StatusOK, map[string]any{"quota": quota}, err
}

func (s *server) deleteQuota(r *request) (int, any, error) {
	return http.StatusNoContent, nil, s.svc.DeleteQuota(r.Context(), r.caller, r.PathValue("tenant"))
}
