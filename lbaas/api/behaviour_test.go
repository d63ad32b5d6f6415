package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"qlbaas/lbaas"
)

// n is a number as answers hold it.
func n(i int) json.Number { return json.Number(fmt.Sprint(i)) }

// TestShapes checks that answers have all attributes, with real types, and
// nothing else.
func TestShapes(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	pool := s.pool(f, nil)
	member := s.member(pool, "10.0.0.9")
	vip := s.vip(f, pool, nil)
	monitor := s.must(201, "POST", "/v2.0/lb/health_monitors", object{"health_monitor": object{
		"type": "TCP", "delay": "5", "timeout": 3, "max_retries": 3}})
	web := s.must(201, "POST", "/v2.0/lb/health_monitors", object{"health_monitor": object{
		"type": "HTTPS", "delay": 5, "timeout": 3, "max_retries": 3}})
	s.associates(pool, monitor["id"])
	association := object{"status": "PENDING_CREATE", "status_description": nil}
	for path, want := range map[string]object{
		"/v2.0/lb/pools/" + pool: {
			"id": pool, "tenant_id": "default", "name": "web", "description": "", "subnet_id": f.subnet,
			"protocol": "HTTP", "lb_method": "ROUND_ROBIN", "provider": "qlbaas", "vip_id": vip["id"],
			"members": []any{member}, "health_monitors": []any{monitor["id"]},
			"health_monitors_status": []any{with(association, object{"monitor_id": monitor["id"]})},
			"admin_state_up":         true, "status": "PENDING_CREATE", "status_description": nil, "drain_timeout": n(0),
		},
		"/v2.0/lb/vips/" + vip["id"].(string): {
			"id": vip["id"], "tenant_id": "default", "name": "vip", "description": "", "subnet_id": f.subnet,
			"address": "10.0.0.2", "port_id": vip["port_id"], "protocol_port": n(80), "protocol": "HTTP",
			"pool_id": pool, "session_persistence": nil, "connection_limit": n(-1), "admin_state_up": true,
			"status": "PENDING_CREATE", "status_description": nil, "persistence_timeout": n(10800),
			"idle_timeout": n(7440), "flow_limit": n(16384), "snat_addresses": []any{},
		},
		"/v2.0/lb/members/" + member: {
			"id": member, "tenant_id": "default", "pool_id": pool, "address": "10.0.0.9", "protocol_port": n(80),
			"weight": n(1), "admin_state_up": true, "status": "PENDING_CREATE", "status_description": nil,
		},
		"/v2.0/lb/health_monitors/" + monitor["id"].(string): {
			"id": monitor["id"], "tenant_id": "default", "type": "TCP", "delay": n(5), "timeout": n(3),
			"max_retries": n(3), "admin_state_up": true,
			"pools": []any{with(association, object{"pool_id": pool})},
		},
		"/v2.0/lb/health_monitors/" + web["id"].(string): {
			"id": web["id"], "tenant_id": "default", "type": "HTTPS", "delay": n(5), "timeout": n(3),
			"max_retries": n(3), "admin_state_up": true, "pools": []any{},
			"http_method": "GET", "url_path": "/", "expected_codes": "200",
		},
		"/v2.0/lb/pools/" + pool + "/stats": {
			"bytes_in": n(0), "bytes_out": n(0), "active_connections": n(0), "total_connections": n(0),
		},
		"/v2.0/subnets/" + f.subnet: {
			"id": f.subnet, "tenant_id": "default", "name": "sub", "description": "", "network_id": f.network,
			"ip_version": n(4), "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1", "shared": false,
			"allocation_pools": []any{object{"start": "10.0.0.2", "end": "10.0.0.254"}},
			"enable_dhcp":      false, "dns_nameservers": []any{}, "host_routes": []any{}, "service_types": []any{},
		},
	} {
		if got := s.must(200, "GET", path, nil); !equal(got, want) {
			t.Errorf("GET %s:\n got %v\nwant %v", path, got, want)
		}
	}
	s.portOf(f, vip)
}

// associates binds a monitor to a pool and looks at the answers.
func (s *server) associates(pool string, monitor any) {
	s.t.Helper()
	code, answer := s.call("POST", "/v2.0/lb/pools/"+pool+"/health_monitors", object{"health_monitor": object{"id": monitor}})
	if want := (object{"health_monitor": object{}}); code != 201 || !equal(answer, want) {
		s.t.Errorf("association: %d %v", code, answer)
	}
	path := fmt.Sprintf("/v2.0/lb/pools/%s/health_monitors/%s", pool, monitor)
	want := object{"id": monitor, "tenant_id": "default", "status": "PENDING_CREATE", "status_description": nil}
	if got := s.must(200, "GET", path, nil); !equal(got, want) {
		s.t.Errorf("association: %v", got)
	}
	if got := s.must(200, "GET", path+"?fields=tenant_id", nil); !equal(got, object{"tenant_id": "default"}) {
		s.t.Errorf("association: %v", got)
	}
}

func (s *server) portOf(f fixture, vip object) {
	port := s.must(200, "GET", "/v2.0/ports/"+vip["port_id"].(string), nil)
	if port["name"] != "vip-"+vip["id"].(string) || port["device_owner"] != "neutron:LOADBALANCER" ||
		!equal(port["fixed_ips"], []any{object{"subnet_id": f.subnet, "ip_address": "10.0.0.2"}}) ||
		!regexp.MustCompile("^fa:16:3e(:[0-9a-f]{2}){3}$").MatchString(port["mac_address"].(string)) {
		s.t.Errorf("port: %v", port)
	}
}

func equal(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}

// TestCookiesOnHTTP: both kinds are for HTTP, and not for UDP.
func TestCookiesOnHTTP(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	vip := s.vip(f, s.pool(f, nil), object{"session_persistence": object{"type": "HTTP_COOKIE"}})
	if !equal(vip["session_persistence"], object{"type": "HTTP_COOKIE"}) {
		t.Errorf("%v", vip["session_persistence"])
	}
	app := object{"type": "APP_COOKIE", "cookie_name": "SID"}
	now := s.must(200, "PUT", "/v2.0/lb/vips/"+vip["id"].(string), object{"vip": object{"session_persistence": app}})
	if !equal(now["session_persistence"], app) {
		t.Errorf("%v", now["session_persistence"])
	}
	pool := s.must(200, "GET", "/v2.0/lb/pools/"+vip["pool_id"].(string), nil)
	for name := range pool {
		if strings.Contains(name, "key") {
			t.Errorf("the pool shows %s", name)
		}
	}
	udp := vipBody(f, s.pool(f, object{"protocol": "UDP"}))
	udp["protocol"] = "UDP"
	s.refuseAll(t, "POST", "/v2.0/lb/vips", "vip", udp, []refusal{
		{name: "cookie on UDP", change: object{"session_persistence": object{"type": "HTTP_COOKIE"}}, says: "allowed are SOURCE_IP"},
		{name: "app cookie on UDP", change: object{"session_persistence": app}, says: "allowed are SOURCE_IP"},
	})
}

func TestPersistenceInPut(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	https := s.pool(f, object{"protocol": "HTTPS"})
	vip := s.vip(f, https, object{"protocol": "HTTPS", "session_persistence": object{
		"type": "APP_COOKIE", "cookie_name": "JSESSIONID", "extra": "ignored"}})
	path := "/v2.0/lb/vips/" + vip["id"].(string)
	app := object{"type": "APP_COOKIE", "cookie_name": "JSESSIONID"}
	if !equal(vip["session_persistence"], app) {
		t.Errorf("on a vip with HTTPS: %v", vip["session_persistence"])
	}
	for _, step := range []struct {
		put  object
		want any
	}{
		{object{"name": "renamed"}, app},
		{object{}, app},
		{object{"session_persistence": object{"type": "SOURCE_IP"}}, object{"type": "SOURCE_IP"}},
		{object{"session_persistence": object{"type": "HTTP_COOKIE"}}, object{"type": "HTTP_COOKIE"}},
		{object{"session_persistence": object{}}, nil},
		{object{"session_persistence": object{"type": "SOURCE_IP"}}, object{"type": "SOURCE_IP"}},
		{object{"session_persistence": nil}, nil},
	} {
		now := s.must(200, "PUT", path, object{"vip": step.put})
		if !equal(now["session_persistence"], step.want) || now["status"] != "PENDING_UPDATE" {
			t.Errorf("PUT %v: %v %v, want %v", step.put, now["session_persistence"], now["status"], step.want)
		}
	}
}

// recorder notes what the service tells the node.
type recorder struct{ pools, routers []string }

func (r *recorder) PoolsChanged(ids ...string) { r.pools = append(r.pools, ids...) }

func (r *recorder) RoutersChanged(ids ...string) { r.routers = append(r.routers, ids...) }

func (r *recorder) take() []string {
	pools := r.pools
	r.pools = nil
	return pools
}

func TestVIPMove(t *testing.T) {
	var told recorder
	s := start(t, config{service: lbaas.Options{Notifier: &told}})
	f := s.network("10.0.0.0/24")
	from, to, full := s.pool(f, nil), s.pool(f, nil), s.pool(f, nil)
	vip := s.vip(f, from, nil)["id"].(string)
	s.vip(f, full, nil)
	s.member(to, "10.0.0.77")
	told.take()
	s.refused(409, "VipExists", "PUT", "/v2.0/lb/vips/"+vip, object{"vip": object{"pool_id": full}})
	if ids := told.take(); len(ids) > 0 {
		t.Errorf("a refused move told the node of %v", ids)
	}
	now := s.must(200, "PUT", "/v2.0/lb/vips/"+vip, object{"vip": object{"pool_id": to}})
	if now["pool_id"] != to {
		t.Errorf("vip: %v", now)
	}
	if got := s.must(200, "GET", "/v2.0/lb/pools/"+from, nil)["vip_id"]; got != nil {
		t.Errorf("the old pool has vip %v", got)
	}
	if got := s.must(200, "GET", "/v2.0/lb/pools/"+to, nil)["vip_id"]; got != vip {
		t.Errorf("the new pool has vip %v", got)
	}
	if ids := told.take(); !slices.Equal(ids, []string{from, to}) {
		t.Errorf("the node was told %v, want the old pool %s, then the new one %s", ids, from, to)
	}
	s.must(200, "PUT", "/v2.0/lb/members/"+s.member(from, "10.0.0.88"), object{"member": object{"pool_id": to}})
	if ids := told.take(); !slices.Equal(ids, []string{from, from, to}) {
		t.Errorf("a member's move told the node of %v", ids)
	}
}

// TestVIPAfterMembers: a contradiction is found whichever comes second.
func TestVIPAfterMembers(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	pool := s.pool(f, nil)
	s.member(pool, "10.0.0.2")
	s.refused(400, "HTTPBadRequest", "POST", "/v2.0/lb/vips",
		object{"vip": with(vipBody(f, pool), object{"address": "10.0.0.2"})}, "own address")
	s.refused(400, "HTTPBadRequest", "POST", "/v2.0/lb/vips",
		object{"vip": with(vipBody(f, pool), object{"snat_addresses": []string{"10.0.0.2"}})}, "snat_addresses")
	vip := s.vip(f, pool, nil)
	if vip["address"] != "10.0.0.3" {
		t.Errorf("allocated %v, want the lowest address that no member has", vip["address"])
	}
	s.refused(400, "HTTPBadRequest", "PUT", "/v2.0/lb/vips/"+vip["id"].(string),
		object{"vip": object{"snat_addresses": []string{"10.0.0.2"}}}, "snat_addresses")
	other := s.pool(f, nil)
	s.member(other, "10.0.0.3")
	s.refused(400, "HTTPBadRequest", "PUT", "/v2.0/lb/vips/"+vip["id"].(string),
		object{"vip": object{"pool_id": other}}, "own address")
	if next := s.vip(f, s.pool(f, nil), nil); next["address"] != "10.0.0.2" {
		t.Errorf("allocated %v for a pool without that member, want the lowest address", next["address"])
	}
	elsewhere := s.pool(f, nil)
	edge := s.member(elsewhere, "10.0.0.255")
	s.refused(400, "HTTPBadRequest", "PUT", "/v2.0/lb/vips/"+vip["id"].(string),
		object{"vip": object{"pool_id": elsewhere}}, "broadcast")
	s.refused(400, "HTTPBadRequest", "PUT", "/v2.0/lb/members/"+edge,
		object{"member": object{"pool_id": pool}}, "broadcast")
}

func TestSNATAddresses(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	vip := s.vip(f, s.pool(f, nil), object{"snat_addresses": []string{"10.0.0.2", "10.0.0.3"}})
	if vip["address"] != "10.0.0.4" {
		t.Errorf("address %v", vip["address"])
	}
	addresses := func() []string {
		var list []string
		for _, ip := range s.must(200, "GET", "/v2.0/ports/"+vip["port_id"].(string), nil)["fixed_ips"].([]any) {
			list = append(list, ip.(object)["ip_address"].(string))
		}
		return list
	}
	if got := addresses(); !slices.Equal(got, []string{"10.0.0.4", "10.0.0.2", "10.0.0.3"}) {
		t.Errorf("port has %v", got)
	}
	s.must(200, "PUT", "/v2.0/lb/vips/"+vip["id"].(string), object{"vip": object{"snat_addresses": []string{"10.0.0.9", "10.0.0.3"}}})
	if got := addresses(); !slices.Equal(got, []string{"10.0.0.4", "10.0.0.9", "10.0.0.3"}) {
		t.Errorf("port has %v", got)
	}
	if next := s.vip(f, s.pool(f, nil), nil)["address"]; next != "10.0.0.5" {
		t.Errorf("next vip got %v: 10.0.0.2 has to rest, and .3 and .4 are in use", next)
	}
	s.must(200, "PUT", "/v2.0/lb/vips/"+vip["id"].(string), object{"vip": object{"snat_addresses": []string{}}})
	if got := addresses(); !slices.Equal(got, []string{"10.0.0.4"}) {
		t.Errorf("port has %v", got)
	}
}

func TestPoolDelete(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	pool, other := s.pool(f, nil), s.pool(f, nil)
	vip := s.vip(f, pool, nil)
	s.member(pool, "10.0.0.9")
	kept := s.member(other, "10.0.0.9")
	monitor := s.must(201, "POST", "/v2.0/lb/health_monitors", object{"health_monitor": object{
		"type": "PING", "delay": 5, "timeout": 3, "max_retries": 3}})["id"].(string)
	s.must(201, "POST", "/v2.0/lb/pools/"+pool+"/health_monitors", object{"health_monitor": object{"id": monitor}})
	s.refused(409, "PoolMonitorAssociationExists", "POST", "/v2.0/lb/pools/"+pool+"/health_monitors",
		object{"health_monitor": object{"id": monitor}})
	s.refused(409, "PoolInUse", "DELETE", "/v2.0/lb/pools/"+pool, nil, pool)
	s.refused(409, "HealthMonitorInUse", "DELETE", "/v2.0/lb/health_monitors/"+monitor, nil, monitor)
	s.refused(409, "SubnetInUse", "DELETE", "/v2.0/subnets/"+f.subnet, nil)
	s.refused(409, "NetworkInUse", "DELETE", "/v2.0/networks/"+f.network, nil)
	s.refused(409, "ServicePortInUse", "DELETE", "/v2.0/ports/"+vip["port_id"].(string), nil)
	s.must(204, "DELETE", "/v2.0/lb/vips/"+vip["id"].(string), nil)
	s.refused(404, "PortNotFound", "GET", "/v2.0/ports/"+vip["port_id"].(string), nil)
	s.refused(404, "VipNotFound", "GET", "/v2.0/lb/vips/"+vip["id"].(string), nil)
	s.must(204, "DELETE", "/v2.0/lb/pools/"+pool, nil)
	s.refused(404, "PoolNotFound", "DELETE", "/v2.0/lb/pools/"+pool, nil)
	left := s.list("/v2.0/lb/members")
	if len(left) != 1 || left[0]["id"] != kept {
		t.Errorf("members: %v", left)
	}
	shown := s.must(200, "GET", "/v2.0/lb/health_monitors/"+monitor, nil)
	if pools := shown["pools"].([]any); len(pools) != 0 {
		t.Errorf("monitor has pools %v", pools)
	}
	s.refused(404, "PoolMonitorAssociationNotFound", "DELETE", "/v2.0/lb/pools/"+other+"/health_monitors/"+monitor, nil)
	s.refused(404, "HealthMonitorNotFound", "POST", "/v2.0/lb/pools/"+other+"/health_monitors",
		object{"health_monitor": object{"id": nowhere}})
	s.must(204, "DELETE", "/v2.0/lb/health_monitors/"+monitor, nil)
	s.refused(409, "SubnetInUse", "DELETE", "/v2.0/networks/"+f.network, nil, other)
	s.must(204, "DELETE", "/v2.0/lb/pools/"+other, nil)
	s.must(204, "DELETE", "/v2.0/networks/"+f.network, nil)
	s.refused(404, "SubnetNotFound", "GET", "/v2.0/subnets/"+f.subnet, nil)
}

func TestMonitorUpdate(t *testing.T) {
	var told recorder
	s := start(t, config{service: lbaas.Options{Notifier: &told}})
	f := s.network("10.0.0.0/24")
	a, b := s.pool(f, nil), s.pool(f, nil)
	monitor := "/v2.0/lb/health_monitors/" + s.must(201, "POST", "/v2.0/lb/health_monitors",
		object{"health_monitor": object{"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 3}})["id"].(string)
	for _, pool := range []string{a, b} {
		s.must(201, "POST", "/v2.0/lb/pools/"+pool+"/health_monitors", object{"health_monitor": object{"id": lastSegment(monitor)}})
	}
	told.take()
	s.refused(400, "DelayOrTimeoutInvalid", "PUT", monitor, object{"health_monitor": object{"timeout": "6"}}, "6")
	s.refused(400, "DelayOrTimeoutInvalid", "PUT", monitor, object{"health_monitor": object{"delay": 2}}, "2")
	s.refused(400, "HTTPBadRequest", "PUT", monitor, object{"health_monitor": object{"type": "TCP"}}, "read-only")
	s.must(200, "PUT", monitor, object{"health_monitor": object{"delay": 8, "timeout": 8}})
	ids := told.take()
	slices.Sort(ids)
	want := []string{a, b}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("the node was told of %v, want %v", ids, want)
	}
}

func TestMemberLimit(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	pool, other := s.pool(f, nil), s.pool(f, nil)
	for i := range lbaas.MaxMembers {
		s.member(pool, fmt.Sprintf("10.2.%d.%d", i/256, i%256))
	}
	s.refused(409, "OverQuota", "POST", "/v2.0/lb/members", object{"member": object{
		"pool_id": pool, "address": "10.3.0.1", "protocol_port": 80}}, "1024")
	more := s.member(other, "10.3.0.1")
	s.refused(409, "OverQuota", "PUT", "/v2.0/lb/members/"+more, object{"member": object{"pool_id": pool}}, "1024")
	if got := s.must(200, "GET", "/v2.0/lb/members/"+more, nil)["pool_id"]; got != other {
		t.Errorf("the refused member is in pool %v", got)
	}
}

// budget admits the flows of n pools, and never the pool that is refused.
type budget struct {
	n       int
	refused string
	asked   lbaas.Sizes
}

func (b *budget) Admit(_ context.Context, poolID string, want lbaas.Sizes, others map[string]lbaas.Sizes) error {
	b.asked = want
	if poolID == b.refused {
		return errors.New("refused")
	}
	all := maps.Clone(others)
	all[poolID] = want
	var flows uint32
	for _, size := range all {
		flows += size.Flows
	}
	if flows > uint32(b.n)*16384 {
		return errors.New("table flows: 1 MiB of 0 MiB left")
	}
	return nil
}

func TestAdmission(t *testing.T) {
	node := &budget{n: 2}
	s := start(t, config{service: lbaas.Options{Admission: node}})
	f := s.network("10.0.0.0/24")
	first := s.vip(f, s.pool(f, nil), nil)
	s.vip(f, s.pool(f, nil), nil)
	third := s.pool(f, nil)
	ports := len(s.list("/v2.0/ports"))
	s.refused(409, "OverQuota", "POST", "/v2.0/lb/vips", object{"vip": vipBody(f, third)}, "table flows", "1 MiB")
	if got := len(s.list("/v2.0/ports")); got != ports {
		t.Errorf("%d ports became %d", ports, got)
	}
	if got := s.must(200, "GET", "/v2.0/lb/pools/"+third, nil)["vip_id"]; got != nil {
		t.Errorf("pool has vip %v", got)
	}
	path := "/v2.0/lb/vips/" + first["id"].(string)
	s.refused(409, "OverQuota", "PUT", path, object{"vip": object{"flow_limit": 16385}})
	s.must(200, "PUT", path, object{"vip": object{"name": "no more"}})
	s.must(200, "PUT", path, object{"vip": object{"flow_limit": 8192}})
	s.must(200, "PUT", path, object{"vip": object{"flow_limit": 16384}})
	node.refused = third
	s.refused(409, "OverQuota", "PUT", path, object{"vip": object{"pool_id": third}}, "refused")
	node.refused = ""
	s.must(200, "PUT", path, object{"vip": object{"pool_id": third}})
	s.must(200, "PUT", path, object{"vip": object{"flow_limit": 8192}})
	if v := s.must(201, "POST", "/v2.0/lb/vips", object{"vip": with(vipBody(f, s.pool(f, nil)), object{
		"flow_limit": 8192})}); v["flow_limit"] != n(8192) {
		t.Errorf("vip: %v", v)
	}
	s.member(third, "10.0.0.77")
	further := object{"vip": object{"snat_addresses": []string{"10.0.0.80", "10.0.0.81"}}}
	node.refused = third
	s.refused(409, "OverQuota", "PUT", path, further, "refused")
	if got := s.must(200, "GET", path, nil)["snat_addresses"].([]any); len(got) != 0 {
		t.Errorf("refused, and yet it has %v", got)
	}
	node.n, node.refused = 3, ""
	s.vip(f, s.pool(f, nil), object{"address": "10.0.0.80"}) // it is free
	further["vip"].(object)["snat_addresses"] = []string{"10.0.0.81", "10.0.0.82"}
	s.must(200, "PUT", path, further)
	if node.asked.Sources != 3 || node.asked.Members != 1 {
		t.Errorf("asked for %+v", node.asked)
	}
}

func TestQuotas(t *testing.T) {
	s := start(t, config{service: lbaas.Options{Quotas: map[string]int64{"port": 3}}})
	f := s.network("10.0.0.0/24")
	defaults := object{"vip": n(10), "pool": n(10), "member": n(-1), "health_monitor": n(-1),
		"network": n(-1), "subnet": n(-1), "port": n(3), "router": n(10), "floatingip": n(50)}
	if got := s.must(200, "GET", "/v2.0/quotas/default", nil); !equal(got, defaults) {
		t.Errorf("defaults: %v", got)
	}
	var pools []string
	for range 10 {
		pools = append(pools, s.pool(f, nil))
	}
	body := object{"pool": object{"subnet_id": f.subnet, "protocol": "TCP", "lb_method": "SOURCE_IP"}}
	s.refused(409, "OverQuota", "POST", "/v2.0/lb/pools", body, "pool", "10")
	s.must(201, "POST", "/v2.0/lb/pools", object{"pool": with(body["pool"].(object), object{"tenant_id": "other"})})
	for i := range 3 {
		s.vip(f, pools[i], nil)
	}
	s.refused(409, "OverQuota", "POST", "/v2.0/lb/vips", object{"vip": vipBody(f, pools[3])}, "port")
	s.must(200, "PUT", "/v2.0/quotas/default", object{"quota": object{"pool": "11", "tenant_id": "default"}})
	s.must(201, "POST", "/v2.0/lb/pools", body)
	s.refused(409, "OverQuota", "POST", "/v2.0/lb/pools", body, "11")
	s.refused(400, "HTTPBadRequest", "PUT", "/v2.0/quotas/default", object{"quota": object{"firewall": 1}}, "health_monitor")
	if list := s.list("/v2.0/quotas"); len(list) != 1 || list[0]["tenant_id"] != "default" {
		t.Errorf("quotas: %v", list)
	}
	if got := s.must(200, "GET", "/v2.0/quotas/default/default", nil); !equal(got, defaults) {
		t.Errorf("defaults: %v", got)
	}
	s.must(204, "DELETE", "/v2.0/quotas/default", nil)
	if got := s.must(200, "GET", "/v2.0/quotas/default", nil)["pool"]; got != n(10) {
		t.Errorf("pool quota %v", got)
	}
	s.must(204, "DELETE", "/v2.0/lb/pools/"+pools[9], nil)
	s.must(204, "DELETE", "/v2.0/lb/pools/"+pools[8], nil)
	s.must(201, "POST", "/v2.0/lb/pools", body)
}

func TestPortsAndNetworks(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/29")
	first := s.must(201, "POST", "/v2.0/ports", object{"port": object{"network_id": f.network, "name": "web1",
		"mac_address": "FA:16:3E:00:00:01", "device_owner": "compute:nova", "device_id": "i-1"}})
	if first["mac_address"] != "fa:16:3e:00:00:01" || first["status"] != "DOWN" ||
		!equal(first["fixed_ips"], []any{object{"subnet_id": f.subnet, "ip_address": "10.0.0.2"}}) {
		t.Errorf("port: %v", first)
	}
	s.refused(409, "MacAddressInUse", "POST", "/v2.0/ports", object{"port": object{"network_id": f.network,
		"mac_address": "fa:16:3e:00:00:01"}})
	s.must(201, "POST", "/v2.0/ports", object{"port": object{"network_id": f.network, "fixed_ips": []any{}}})
	s.refused(409, "IpAddressInUse", "POST", "/v2.0/lb/vips", object{"vip": with(vipBody(f, s.pool(f, nil)),
		object{"address": "10.0.0.2"})})
	s.must(200, "PUT", "/v2.0/ports/"+first["id"].(string), object{"port": object{"fixed_ips": []any{
		object{"ip_address": "10.0.0.6"}}, "name": "moved"}})
	s.refused(409, "IpAddressInUse", "PUT", "/v2.0/subnets/"+f.subnet, object{"subnet": object{
		"gateway_ip": "10.0.0.6", "allocation_pools": []any{object{"start": "10.0.0.2", "end": "10.0.0.5"}}}})
	now := s.must(200, "PUT", "/v2.0/subnets/"+f.subnet, object{"subnet": object{"gateway_ip": nil,
		"dns_nameservers": []string{"10.0.0.1"}, "enable_dhcp": "True"}})
	if now["gateway_ip"] != nil || !equal(now["dns_nameservers"], []string{"10.0.0.1"}) || now["enable_dhcp"] != true {
		t.Errorf("subnet: %v", now)
	}
	vlan := s.must(201, "POST", "/v2.0/networks", object{"network": object{"provider:network_type": "vlan",
		"provider:segmentation_id": "7", "provider:physical_network": "br1", "router:external": "True", "mtu": "9000"}})
	if vlan["provider:segmentation_id"] != n(7) || vlan["router:external"] != true || vlan["mtu"] != n(9000) {
		t.Errorf("network: %v", vlan)
	}
	free := s.must(201, "POST", "/v2.0/subnets", object{"subnet": object{"network_id": vlan["id"],
		"cidr": "10.0.0.0/29", "gateway_ip": nil, "allocation_pools": []any{
			object{"start": "10.0.0.5", "end": "10.0.0.6"}, object{"start": "10.0.0.1", "end": "10.0.0.2"}}}})
	want := []any{object{"start": "10.0.0.1", "end": "10.0.0.2"}, object{"start": "10.0.0.5", "end": "10.0.0.6"}}
	if !equal(free["allocation_pools"], want) || free["gateway_ip"] != nil {
		t.Errorf("subnet of another network with the same addresses: %v", free)
	}
	vip := s.vip(f, s.pool(f, nil), nil)
	path := "/v2.0/ports/" + vip["port_id"].(string)
	s.refused(409, "ServicePortInUse", "PUT", path, object{"port": object{"fixed_ips": []any{}}})
	s.refused(409, "ServicePortInUse", "PUT", path, object{"port": object{"device_owner": ""}})
	if got := s.must(200, "PUT", path, object{"port": object{"name": "mine", "security_groups": nil}}); got["name"] != "mine" {
		t.Errorf("port: %v", got)
	}
}

// TestReleasedLast: addresses are handed out from the lowest, and those that
// were given back after all others, the longest rested first.
func TestReleasedLast(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/29") // hosts .2 to .6 beside the gateway
	pools := []string{s.pool(f, nil), s.pool(f, nil), s.pool(f, nil), s.pool(f, nil), s.pool(f, nil), s.pool(f, nil)}
	var got []string
	make1 := func(i int) string {
		vip := s.vip(f, pools[i], nil)
		got = append(got, strings.TrimPrefix(vip["address"].(string), "10.0.0."))
		return "/v2.0/lb/vips/" + vip["id"].(string)
	}
	a, b := make1(0), make1(1)
	s.must(204, "DELETE", b, nil)
	s.must(204, "DELETE", a, nil)
	for i := range 5 {
		make1(i)
	}
	if want := []string{"2", "3", "4", "5", "6", "3", "2"}; !slices.Equal(got, want) {
		t.Errorf("addresses came as %v, want %v", got, want)
	}
	s.refused(409, "IpAddressGenerationFailure", "POST", "/v2.0/lb/vips", object{"vip": vipBody(f, pools[5])}, f.subnet)
}
