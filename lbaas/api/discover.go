package api

import (
	"maps"
	"net/http"
	"path"
	"slices"
)

// versions answers GET /, by which clients find out what is served.
func (s *server) versions(r *request) (int, any, error) {
	return http.StatusOK, map[string]any{"versions": []any{map[string]any{
		"id": "v2.0", "status": "CURRENT",
		"links": []link{{Rel: "self", Href: baseURL(r.Request) + "/v2.0"}},
	}}}, nil
}

// resources answers GET /v2.0.
func (s *server) resources(r *request) (int, any, error) {
	list := []any{}
	for _, at := range slices.Sorted(maps.Keys(collections())) {
		name := path.Base(at)
		list = append(list, map[string]any{
			"name": name[:len(name)-1], "collection": name,
			"links": []link{{Rel: "self", Href: baseURL(r.Request) + at}},
		})
	}
	return http.StatusOK, map[string]any{"resources": list}, nil
}

// extension is a part of the API that clients look for before they use it.
type extension struct {
	Alias       string `json:"alias"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Updated     string `json:"updated"`
	Namespace   string `json:"namespace"`
	Links       []link `json:"links"`
}

func extensions() []extension {
	list := []extension{
		{Alias: "lbaas", Name: "LoadBalancing service", Description: "Pools, VIPs, members and health monitors",
			Updated: "2012-10-07T10:00:00-00:00"},
		{Alias: "lbaas_agent_scheduler", Name: "Loadbalancer Agent Scheduler", Description: "Pools by agent",
			Updated: "2013-02-07T10:00:00-00:00"},
		{Alias: "service-type", Name: "Neutron Service Type Management", Description: "Providers of services",
			Updated: "2013-01-20T00:00:00-00:00"},
		{Alias: "agent", Name: "agent", Description: "The agents", Updated: "2013-02-03T10:00:00-00:00"},
		{Alias: "quotas", Name: "Quota management support", Description: "Limits by project",
			Updated: "2012-07-29T10:00:00-00:00"},
		{Alias: "provider", Name: "Provider Network", Description: "How networks map to devices",
			Updated: "2012-09-07T10:00:00-00:00"},
		{Alias: "external-net", Name: "Neutron external network", Description: "Networks outside of the cloud",
			Updated: "2013-01-14T10:00:00-00:00"},
		{Alias: "router", Name: "Neutron L3 Router", Description: "Routers and floating IPs",
			Updated: "2012-07-20T10:00:00-00:00"},
		{Alias: "ext-gw-mode", Name: "Neutron L3 Configurable external gateway mode",
			Description: "Whether a router translates sources", Updated: "2013-03-28T10:00:00-00:00"},
		{Alias: "extraroute", Name: "Neutron Extra Route", Description: "Further routes of a router",
			Updated: "2013-02-01T10:00:00-00:00"},
	}
	for i := range list {
		list[i].Links = []link{}
	}
	return list
}

func (s *server) extensions(*request) (int, any, error) {
	return http.StatusOK, map[string]any{"extensions": extensions()}, nil
}

func (s *server) extension(r *request) (int, any, error) {
	alias := r.PathValue("alias")
	for _, e := range extensions() {
		if e.Alias == alias {
			return http.StatusOK, map[string]any{"extension": e}, nil
		}
	}
	return 0, nil, failure(http.StatusNotFound, "ExtensionNotFound", "Extension with alias %.64q does not exist", alias)
}
