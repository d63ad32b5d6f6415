package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// names returns one attribute of every entry of a list.
func (s *server) names(path, attr string) []string {
	s.t.Helper()
	got := []string{}
	for _, entry := range s.list(path) {
		got = append(got, fmt.Sprint(entry[attr]))
	}
	return got
}

func TestFilters(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	a := s.pool(f, object{"name": "a", "admin_state_up": false})
	b := s.pool(f, object{"name": "b", "protocol": "TCP"})
	c := s.pool(f, object{"name": "c", "provider": "HAProxy"})
	s.pool(f, object{"name": "b", "tenant_id": "other"})
	vip := s.vip(f, a, object{"session_persistence": object{"type": "SOURCE_IP"}})
	member := s.member(b, "10.0.0.9")
	s.member(b, "10.0.0.10")
	monitor := s.must(201, "POST", "/v2.0/lb/health_monitors", object{"health_monitor": object{
		"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 3}})["id"].(string)
	s.must(201, "POST", "/v2.0/lb/pools/"+c+"/health_monitors", object{"health_monitor": object{"id": monitor}})
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"pools", []string{"a", "b", "c", "b"}},
		{"pools?name=b", []string{"b", "b"}},
		{"pools?name=a&name=c", []string{"a", "c"}},
		{"pools?name=b&protocol=TCP", []string{"b"}},
		{"pools?name=", []string{"a", "b", "c", "b"}},
		{"pools?name=B", []string{}},
		{"pools?id=" + a, []string{"a"}},
		{"pools?id=" + a + "&id=" + c, []string{"a", "c"}},
		{"pools?id=" + a + "&name=c", []string{}},
		{"pools?id=typo", []string{}},
		{"pools?id=" + nowhere, []string{}},
		{"pools?admin_state_up=False", []string{"a"}},
		{"pools?admin_state_up=true", []string{"b", "c", "b"}},
		{"pools?verbose=True", []string{"a", "b", "c", "b"}},
		{"pools?tenant_id=other", []string{"b"}},
		{"pools?project_id=other", []string{"b"}},
		{"pools?provider=haproxy", []string{"c"}},
		{"pools?vip_id=" + vip["id"].(string), []string{"a"}},
		{"pools?members=" + member, []string{"b"}},
		{"pools?health_monitors=" + monitor, []string{"c"}},
		{"pools?health_monitors_status=monitor_id=" + monitor, []string{"c"}},
		{"pools?drain_timeout=0", []string{"a", "b", "c", "b"}},
		{"pools?status=ACTIVE", []string{}},
		{"pools.json?name=a", []string{"a"}},
		{"vips?address=10.0.0.2", []string{"vip"}},
		{"vips?subnet_id=" + nowhere, []string{}},
		{"vips?protocol_port=80", []string{"vip"}},
		{"vips?protocol_port=81", []string{}},
		{"vips?connection_limit=-1", []string{"vip"}},
		{"vips?session_persistence=type=SOURCE_IP", []string{"vip"}},
	} {
		if got := s.names("/v2.0/lb/"+c.query, "name"); !slices.Equal(got, c.want) {
			t.Errorf("GET %s: %v, want %v", c.query, got, c.want)
		}
	}
	s.counts(f, a, c)
	s.refused(400, "InvalidInput", "GET", "/v2.0/lb/pools?admin_state_up=maybe", nil, "admin_state_up")
	s.refused(400, "InvalidInput", "GET", "/v2.0/lb/vips?protocol_port=http", nil, "protocol_port")
	s.refused(400, "HTTPBadRequest", "GET", "/v2.0/lb/pools?name=%zz", nil)
	if _, answer := s.call("GET", "/v2.0/subnets?name=none&fields=id", nil); !equal(answer, object{"subnets": []any{}}) {
		t.Errorf("an empty list is %v", answer)
	}
}

// counts looks at collections whose objects have no name.
func (s *server) counts(f fixture, a, c string) {
	for query, want := range map[string]int{
		"lb/members?name=typo":                0,
		"lb/members?name=":                    2,
		"lb/members?address=10.0.0.9":         1,
		"lb/health_monitors?name=typo":        0,
		"lb/health_monitors?type=HTTP":        1,
		"lb/health_monitors?pools=" + c:       1,
		"lb/health_monitors?pools=" + a:       0,
		"lb/health_monitors?delay=5":          1,
		"ports?fixed_ips=ip_address=10.0.0.2": 1,
		"ports?fixed_ips=ip_address=10.0.0.3": 0,
		"ports?network_id=" + f.network:       1,
		"networks?router:external=True":       0,
		"networks?router%3Aexternal=False":    1,
		"subnets?cidr=10.0.0.0/24":            1,
		"subnets?ip_version=4":                1,
	} {
		if got := s.list("/v2.0/" + query); len(got) != want {
			s.t.Errorf("GET %s: %v, want %d", query, got, want)
		}
	}
}

func TestFieldsAndSort(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	low := s.pool(f, object{"name": "m", "lb_method": "SOURCE_IP"})
	s.pool(f, object{"name": "z"})
	s.pool(f, object{"name": "a"})
	s.pool(f, object{"name": "k", "lb_method": "SOURCE_IP"})
	s.vip(f, low, nil)
	for query, want := range map[string][]string{
		"sort_key=name&sort_dir=asc":                                          {"a", "k", "m", "z"},
		"sort_key=name&sort_dir=desc":                                         {"z", "m", "k", "a"},
		"sort_key=lb_method&sort_dir=desc&sort_key=name&sort_dir=asc":         {"k", "m", "a", "z"},
		"sort_key=lb_method&sort_dir=asc":                                     {"z", "a", "m", "k"},
		"sort_key=vip_id&sort_dir=asc&sort_key=name&sort_dir=asc":             {"a", "k", "z", "m"},
		"sort_key=admin_state_up&sort_dir=asc&sort_key=name&sort_dir=desc":    {"z", "m", "k", "a"},
		"sort_key=drain_timeout&sort_dir=asc&lb_method=SOURCE_IP":             {"m", "k"},
		"sort_key=name&sort_dir=asc&fields=name&fields=id&fields=nonexistent": {"a", "k", "m", "z"},
	} {
		if got := s.names("/v2.0/lb/pools?"+query, "name"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for _, query := range []string{"sort_key=name", "sort_dir=asc", "sort_key=name&sort_dir=up",
		"sort_key=colour&sort_dir=asc", "sort_key=name&sort_dir=asc&sort_dir=asc"} {
		s.refused(400, "HTTPBadRequest", "GET", "/v2.0/lb/pools?"+query, nil)
	}
	for _, path := range []string{"/v2.0/lb/pools?fields=id", "/v2.0/lb/pools?fields=id&fields=colour&fields="} {
		for _, entry := range s.list(path) {
			if len(entry) != 1 || entry["id"] == nil {
				t.Errorf("GET %s: %v", path, entry)
			}
		}
	}
	shown := s.must(200, "GET", "/v2.0/lb/pools/"+low+"?fields=name&fields=members", nil)
	if !equal(shown, object{"name": "m", "members": []any{}}) {
		t.Errorf("show with fields: %v", shown)
	}
}

// walk follows one kind of links and returns the names on every page.
func (s *server) walk(path, rel string) [][]string {
	s.t.Helper()
	var pages [][]string
	for seen := map[string]bool{}; path != ""; {
		if seen[path] {
			s.t.Fatalf("page %s links to itself", path)
		}
		seen[path] = true
		code, answer := s.call("GET", path, nil)
		if code != 200 {
			s.t.Fatalf("GET %s: %d %v", path, code, answer)
		}
		page := []string{}
		for _, entry := range answer["pools"].([]any) {
			page = append(page, entry.(object)["name"].(string))
		}
		pages = append(pages, page)
		path = ""
		for _, l := range answer["pools_links"].([]any) {
			if l.(object)["rel"] == rel {
				path = l.(object)["href"].(string)
			}
		}
		if u, err := url.Parse(path); path != "" && (err != nil || !u.IsAbs() || u.Query().Get("name") != "") {
			s.t.Errorf("link %s", path)
		}
	}
	return pages
}

func TestPages(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	var first string
	for i := range 6 {
		id := s.pool(f, object{"name": string(rune('a' + i))})
		if i == 0 {
			first = id
		}
	}
	sorted := "/v2.0/lb/pools?sort_key=name&sort_dir=desc&protocol=HTTP&fields=name"
	for _, c := range []struct {
		path, rel string
		want      string
	}{
		{"/v2.0/lb/pools?limit=4", "next", "a b c d|e f"},
		{"/v2.0/lb/pools?limit=3", "next", "a b c|d e f|"},
		{"/v2.0/lb/pools?limit=6", "next", "a b c d e f|"},
		{"/v2.0/lb/pools?limit=7", "next", "a b c d e f"},
		{sorted + "&limit=4", "next", "f e d c|b a"},
		{"/v2.0/lb/pools?limit=4&page_reverse=True", "previous", "c d e f|a b"},
		{"/v2.0/lb/pools?limit=2&marker=" + first, "next", "b c|d e|f"},
		{"/v2.0/lb/pools?limit=2&marker=" + first + "&page_reverse=true", "previous", ""},
		{"/v2.0/lb/pools?limit=2&marker=" + nowhere, "next", ""},
	} {
		var got []string
		for _, page := range s.walk(c.path, c.rel) {
			got = append(got, strings.Join(page, " "))
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, want %q", c.path, strings.Join(got, "|"), c.want)
		}
	}
	for query, want := range map[string]string{
		"limit=2":                                  "next previous",
		"limit=7":                                  "previous",
		"limit=7&page_reverse=True":                "next",
		"limit=6&page_reverse=True":                "next previous",
		"limit=2&marker=" + nowhere:                "previous",
		"limit=2&page_reverse=1&marker=" + nowhere: "next",
	} {
		_, answer := s.call("GET", "/v2.0/lb/pools?"+query, nil)
		var rels []string
		for _, l := range answer["pools_links"].([]any) {
			rels = append(rels, l.(object)["rel"].(string))
		}
		if strings.Join(rels, " ") != want {
			t.Errorf("%s has links %v, want %s", query, rels, want)
		}
	}
	for _, path := range []string{"/v2.0/lb/pools", "/v2.0/lb/pools?limit=0"} {
		if _, answer := s.call("GET", path, nil); len(answer) != 1 || len(answer["pools"].([]any)) != 6 {
			t.Errorf("GET %s: %v", path, answer)
		}
	}
	for _, limit := range []string{"-1", "x", "1.5"} {
		s.refused(400, "BadRequest", "GET", "/v2.0/lb/pools?limit="+limit, nil, "limit")
	}
}

func TestDiscovery(t *testing.T) {
	s := start(t, config{})
	_, answer := s.call("GET", "/", nil)
	want := object{"versions": []any{object{"id": "v2.0", "status": "CURRENT",
		"links": []any{object{"rel": "self", "href": s.url + "/v2.0"}}}}}
	if !equal(answer, want) {
		t.Errorf("versions: %v", answer)
	}
	if got := s.names("/v2.0/", "collection"); !slices.Contains(got, "pools") || !slices.Contains(got, "networks") {
		t.Errorf("resources: %v", got)
	}
	aliases := s.names("/v2.0/extensions.json", "alias")
	for _, alias := range []string{"lbaas", "lbaas_agent_scheduler", "service-type", "agent", "quotas"} {
		if !slices.Contains(aliases, alias) {
			t.Errorf("extensions %v lack %s", aliases, alias)
		}
		e := s.must(200, "GET", "/v2.0/extensions/"+alias, nil)
		for _, key := range []string{"name", "alias", "description", "updated", "links"} {
			if e[key] == nil {
				t.Errorf("extension %s lacks %s", alias, key)
			}
		}
	}
	s.refused(404, "ExtensionNotFound", "GET", "/v2.0/extensions/fwaas", nil)
	providers := s.list("/v2.0/service-providers?service_type=LOADBALANCER")
	if !equal(providers[0], object{"service_type": "LOADBALANCER", "name": "qlbaas", "default": true}) {
		t.Errorf("providers: %v", providers)
	}
	if list := s.list("/v2.0/service-providers?service_type=VPN"); len(list) > 0 {
		t.Errorf("VPN providers: %v", list)
	}
	f := s.network("10.0.0.0/24")
	pool := s.pool(f, nil)
	agent := s.list("/v2.0/agents")[0]
	for _, key := range []string{"id", "agent_type", "binary", "host", "topic", "admin_state_up", "alive", "created_at",
		"started_at", "heartbeat_timestamp", "description", "configurations"} {
		if _, ok := agent[key]; !ok {
			t.Errorf("agent lacks %s", key)
		}
	}
	id := agent["id"].(string)
	if got := s.must(200, "GET", "/v2.0/lb/pools/"+pool+"/loadbalancer-agent", nil); got["id"] != id || got["alive"] != true {
		t.Errorf("agent of the pool: %v", got)
	}
	if got := s.names("/v2.0/agents/"+id+"/loadbalancer-pools", "id"); !slices.Equal(got, []string{pool}) {
		t.Errorf("pools on the agent: %v", got)
	}
	s.refused(404, "PoolNotFound", "GET", "/v2.0/lb/pools/"+nowhere+"/loadbalancer-agent", nil)
	s.refused(404, "AgentNotFound", "GET", "/v2.0/agents/"+nowhere+"/loadbalancer-pools", nil)
}
