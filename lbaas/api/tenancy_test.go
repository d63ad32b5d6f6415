package api_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qlbaas/lbaas/api"
)

const (
	tokenAdmin = "00000000000000000000000000000000"
	tokenA     = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	tokenB     = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func tokens(t *testing.T, lines string, mode os.FileMode) (*api.Tokens, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(lines), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return api.ReadTokens(path)
}

func projects(t *testing.T) (admin, a, b *server) {
	t.Helper()
	known, err := tokens(t, "# comment\n\n"+tokenAdmin+"::admin\n"+tokenA+":a\n"+tokenB+":b\n", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, config{listen: api.ListenOptions{Tokens: known}})
	return s.as(tokenAdmin), s.as(tokenA), s.as(tokenB)
}

// owned is everything that one project can have.
type owned struct {
	fixture
	pool, member, monitor, port string
	vip                         object
}

func (s *server) everything(cidr, member string) owned {
	o := owned{fixture: s.network2(cidr)}
	o.pool = s.pool(o.fixture, nil)
	o.vip = s.vip(o.fixture, o.pool, nil)
	o.member = s.member(o.pool, member)
	o.monitor = s.must(201, "POST", "/v2.0/lb/health_monitors", object{"health_monitor": object{
		"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 3}})["id"].(string)
	s.must(201, "POST", "/v2.0/lb/pools/"+o.pool+"/health_monitors", object{"health_monitor": object{"id": o.monitor}})
	o.port = s.must(201, "POST", "/v2.0/ports", object{"port": object{"network_id": o.network}})["id"].(string)
	return o
}

// network2 makes a network as a project may: without a device of the host.
func (s *server) network2(cidr string) fixture {
	network := s.must(201, "POST", "/v2.0/networks", object{"network": object{"name": "net"}})
	subnet := s.must(201, "POST", "/v2.0/subnets", object{"subnet": object{"network_id": network["id"], "cidr": cidr}})
	return fixture{network["id"].(string), subnet["id"].(string)}
}

// cells lists every path of one object with the error type that hides it.
func (o owned) cells() map[string]string {
	return map[string]string{
		"/v2.0/lb/pools/" + o.pool:              "PoolNotFound",
		"/v2.0/lb/vips/" + o.vip["id"].(string): "VipNotFound",
		"/v2.0/lb/members/" + o.member:          "MemberNotFound",
		"/v2.0/lb/health_monitors/" + o.monitor: "HealthMonitorNotFound",
		"/v2.0/networks/" + o.network:           "NetworkNotFound",
		"/v2.0/subnets/" + o.subnet:             "SubnetNotFound",
		"/v2.0/ports/" + o.port:                 "PortNotFound",
	}
}

// TestTenancy tries every object with every verb as its owner, as another
// project, as administrator and as nobody.
func TestTenancy(t *testing.T) {
	admin, a, b := projects(t)
	mine := a.everything("10.0.0.0/24", "10.0.0.9")
	theirs := b.everything("10.0.0.0/24", "10.0.0.9") // networks may overlap
	for path, typ := range mine.cells() {
		envelope := strings.TrimSuffix(strings.Split(path, "/")[len(strings.Split(path, "/"))-2], "s")
		put := object{envelope: object{"admin_state_up": true}}
		if envelope == "subnet" {
			put = object{envelope: object{"name": "x"}}
		}
		b.refused(404, typ, "GET", path, nil)
		b.refused(404, typ, "PUT", path, put)
		b.refused(404, typ, "DELETE", path, nil)
		if got := a.must(200, "GET", path, nil); got["tenant_id"] != "a" {
			t.Errorf("GET %s: %v", path, got)
		}
		a.must(200, "PUT", path, put)
		if got := admin.must(200, "GET", path, nil); got["tenant_id"] != "a" {
			t.Errorf("GET %s as admin: %v", path, got)
		}
		admin.must(200, "PUT", path, put)
		for _, stranger := range []*server{a.as(""), a.as("cccccccccccccccccccccccccccccccc")} {
			for _, verb := range []string{"GET", "PUT", "DELETE"} {
				stranger.refused(401, "HTTPUnauthorized", verb, path, put)
			}
		}
	}
	for _, coll := range []string{"lb/pools", "lb/vips", "lb/members", "lb/health_monitors", "networks", "subnets", "ports"} {
		for _, c := range []struct {
			s    *server
			want []string
		}{{a, []string{"a"}}, {b, []string{"b"}}, {admin, []string{"a", "b"}}} {
			seen := map[string]bool{}
			for _, entry := range c.s.list("/v2.0/" + coll) {
				seen[entry["tenant_id"].(string)] = true
			}
			for _, tenant := range c.want {
				if !seen[tenant] || len(seen) != len(c.want) {
					t.Errorf("%s as one who may see %v: %v", coll, c.want, seen)
				}
			}
		}
		if list := b.list("/v2.0/" + coll + "?tenant_id=a"); len(list) > 0 {
			t.Errorf("%s of a as b: %v", coll, list)
		}
	}
	foreignReferences(a, mine, theirs)
	adminOnlyReads(admin, a, mine)
}

// foreignReferences: nothing of another project can be joined to one's own.
func foreignReferences(a *server, mine, theirs owned) {
	free := a.pool(mine.fixture, nil)
	vip := vipBody(mine.fixture, free)
	a.refused(404, "PoolNotFound", "POST", "/v2.0/lb/vips", object{"vip": with(vip, object{"pool_id": theirs.pool})})
	a.refused(404, "SubnetNotFound", "POST", "/v2.0/lb/vips", object{"vip": with(vip, object{"subnet_id": theirs.subnet})})
	a.refused(400, "HTTPBadRequest", "POST", "/v2.0/lb/vips", object{"vip": with(vip, object{"tenant_id": "b"})}, "tenant_id")
	a.refused(404, "PoolNotFound", "PUT", "/v2.0/lb/vips/"+mine.vip["id"].(string), object{"vip": object{"pool_id": theirs.pool}})
	a.refused(404, "PoolNotFound", "POST", "/v2.0/lb/members", object{"member": object{
		"pool_id": theirs.pool, "address": "10.0.0.10", "protocol_port": 80}})
	a.refused(404, "PoolNotFound", "PUT", "/v2.0/lb/members/"+mine.member, object{"member": object{"pool_id": theirs.pool}})
	a.refused(404, "HealthMonitorNotFound", "POST", "/v2.0/lb/pools/"+free+"/health_monitors",
		object{"health_monitor": object{"id": theirs.monitor}})
	a.refused(404, "PoolNotFound", "POST", "/v2.0/lb/pools/"+theirs.pool+"/health_monitors",
		object{"health_monitor": object{"id": mine.monitor}})
	a.refused(404, "PoolNotFound", "DELETE", "/v2.0/lb/pools/"+theirs.pool+"/health_monitors/"+theirs.monitor, nil)
	a.refused(404, "PoolNotFound", "GET", "/v2.0/lb/pools/"+theirs.pool+"/health_monitors/"+theirs.monitor, nil)
	a.refused(404, "PoolNotFound", "GET", "/v2.0/lb/pools/"+theirs.pool+"/stats", nil)
	a.refused(404, "NetworkNotFound", "POST", "/v2.0/subnets", object{"subnet": object{
		"network_id": theirs.network, "cidr": "10.5.0.0/24"}})
	a.refused(404, "NetworkNotFound", "POST", "/v2.0/ports", object{"port": object{"network_id": theirs.network}})
}

func adminOnlyReads(admin, a *server, mine owned) {
	agent := admin.list("/v2.0/agents")[0]["id"].(string)
	for _, path := range []string{"/v2.0/agents", "/v2.0/agents/" + agent, "/v2.0/agents/" + agent + "/loadbalancer-pools",
		"/v2.0/lb/pools/" + mine.pool + "/loadbalancer-agent", "/v2.0/quotas", "/v2.0/quotas/b"} {
		a.refused(403, "PolicyNotAuthorized", "GET", path, nil)
		admin.must(200, "GET", path, nil)
	}
	a.must(200, "GET", "/v2.0/quotas/a", nil)
	a.refused(403, "PolicyNotAuthorized", "PUT", "/v2.0/quotas/a", object{"quota": object{"pool": 99}})
	a.refused(403, "PolicyNotAuthorized", "DELETE", "/v2.0/quotas/a", nil)
	if got := a.must(200, "GET", "/v2.0/quotas/tenant", nil); got["tenant_id"] != "a" {
		a.t.Errorf("own tenant: %v", got)
	}
	for _, attr := range []string{"shared", "router:external"} {
		a.refused(403, "PolicyNotAuthorized", "POST", "/v2.0/networks", object{"network": object{attr: true}}, attr)
	}
	a.refused(403, "PolicyNotAuthorized", "POST", "/v2.0/networks", object{"network": object{
		"provider:physical_network": "eth0"}}, "provider:physical_network")
	if shown := a.must(200, "GET", "/v2.0/networks/"+mine.network, nil); shown["provider:network_type"] != nil {
		a.t.Errorf("a project sees %v", shown)
	}
	if shown := admin.must(200, "GET", "/v2.0/networks/"+mine.network, nil); shown["provider:network_type"] != "flat" {
		a.t.Errorf("an administrator sees %v", shown)
	}
}

func TestSharedNetwork(t *testing.T) {
	admin, a, b := projects(t)
	f := admin.network("10.0.0.0/24")
	a.refused(404, "NetworkNotFound", "GET", "/v2.0/networks/"+f.network, nil)
	admin.must(200, "PUT", "/v2.0/networks/"+f.network, object{"network": object{"shared": "True"}})
	for _, s := range []*server{a, b} {
		pool := s.pool(f, nil)
		vip := s.vip(f, pool, nil)
		if vip["tenant_id"] == "default" {
			t.Errorf("vip: %v", vip)
		}
		s.refused(403, "PolicyNotAuthorized", "PUT", "/v2.0/networks/"+f.network, object{"network": object{"name": "x"}})
		s.refused(403, "PolicyNotAuthorized", "DELETE", "/v2.0/subnets/"+f.subnet, nil)
		s.refused(403, "PolicyNotAuthorized", "POST", "/v2.0/subnets", object{"subnet": object{
			"network_id": f.network, "cidr": "10.5.0.0/24"}})
		if n := len(s.list("/v2.0/ports")); n != 1 {
			t.Errorf("%d ports are visible", n)
		}
	}
	admin.refused(409, "InvalidSharedSetting", "PUT", "/v2.0/networks/"+f.network, object{"network": object{"shared": false}})
	external := admin.must(201, "POST", "/v2.0/networks", object{"network": object{"router:external": true}})
	a.must(200, "GET", "/v2.0/networks/"+external["id"].(string), nil)
	a.refused(403, "PolicyNotAuthorized", "POST", "/v2.0/ports", object{"port": object{"network_id": external["id"]}})
}

// TestAdminTenants: an administrator acts for the project that it names, but
// joins objects of one project only.
func TestAdminTenants(t *testing.T) {
	admin, a, _ := projects(t)
	mine := a.everything("10.0.0.0/24", "10.0.0.9")
	admin.refused(403, "NotAuthorized", "POST", "/v2.0/lb/members", object{"member": object{
		"pool_id": mine.pool, "address": "10.0.0.10", "protocol_port": 80}}, "default")
	made := admin.must(201, "POST", "/v2.0/lb/members", object{"member": object{
		"pool_id": mine.pool, "address": "10.0.0.10", "protocol_port": 80, "tenant_id": "a"}})
	a.must(200, "GET", "/v2.0/lb/members/"+made["id"].(string), nil)
	monitor := admin.must(201, "POST", "/v2.0/lb/health_monitors", object{"health_monitor": object{
		"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 3}})["id"].(string)
	admin.refused(403, "NotAuthorized", "POST", "/v2.0/lb/pools/"+mine.pool+"/health_monitors",
		object{"health_monitor": object{"id": monitor}})
}
