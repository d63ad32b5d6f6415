package api_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// refusal is a body that has to be refused, by what the message has to say.
type refusal struct {
	name string
	// change is put over a body that would be accepted; drop takes a key away.
	change object
	drop   string
	code   int
	typ    string
	says   string
}

func (s *server) refuseAll(t *testing.T, method, path, envelope string, body object, cases []refusal) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := *s
			s.t = t
			sent := with(body, c.change)
			delete(sent, c.drop)
			if c.code == 0 {
				c.code, c.typ = 400, "HTTPBadRequest"
			}
			before := len(s.list("/v2.0/ports")) + len(s.list(strings.TrimSuffix(path, "/"+lastSegment(path))))
			s.refused(c.code, c.typ, method, path, object{envelope: sent}, c.says)
			after := len(s.list("/v2.0/ports")) + len(s.list(strings.TrimSuffix(path, "/"+lastSegment(path))))
			if before != after {
				t.Errorf("%d objects became %d", before, after)
			}
		})
	}
}

// lastSegment returns the id at the end of a path, empty for a collection.
func lastSegment(path string) string {
	last := path[strings.LastIndexByte(path, '/')+1:]
	if len(last) == 36 {
		return last
	}
	return ""
}

const nowhere = "11111111-2222-3333-4444-555555555555"

func TestPoolRefusals(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	body := object{"subnet_id": f.subnet, "protocol": "TCP", "lb_method": "ROUND_ROBIN"}
	s.refuseAll(t, "POST", "/v2.0/lb/pools", "pool", body, []refusal{
		{name: "protocol missing", drop: "protocol", says: "protocol"},
		{name: "lb_method missing", drop: "lb_method", says: "lb_method"},
		{name: "subnet missing", drop: "subnet_id", says: "subnet_id"},
		{name: "protocol unknown", change: object{"protocol": "SCTP"}, says: "TCP, HTTP, HTTPS, UDP"},
		{name: "protocol case", change: object{"protocol": "http"}, says: "TCP, HTTP, HTTPS, UDP"},
		{name: "protocol number", change: object{"protocol": 6}, says: "protocol"},
		{name: "method", change: object{"lb_method": "RANDOM"}, says: "ROUND_ROBIN, LEAST_CONNECTIONS, SOURCE_IP"},
		{name: "subnet not a uuid", change: object{"subnet_id": "../../etc"}, says: "subnet_id"},
		{name: "provider", change: object{"provider": "f5"}, code: 400, typ: "ServiceProviderNotFound", says: "qlbaas"},
		{name: "read-only id", change: object{"id": nowhere}, says: "'id'"},
		{name: "read-only status", change: object{"status": "ACTIVE"}, says: "not allowed in POST"},
		{name: "read-only vip_id", change: object{"vip_id": nil}, says: "'vip_id'"},
		{name: "unknown", change: object{"colour": "red"}, says: `"colour"`},
		{name: "unknown names the known", change: object{"colour": "red"}, says: "drain_timeout"},
		{name: "name null", change: object{"name": nil}, says: "name"},
		{name: "name number", change: object{"name": 7}, says: "name"},
		{name: "name long", change: object{"name": strings.Repeat("ä", 256)}, says: "at most 255"},
		{name: "name with ESC", change: object{"name": "a\x1b[31m"}, says: "U+001B"},
		{name: "name with newline", change: object{"name": "a\nb"}, says: "U+000A"},
		{name: "name with DEL", change: object{"name": "a\x7f"}, says: "U+007F"},
		{name: "name with C1", change: object{"name": "a\u009b"}, says: "U+009B"},
		{name: "name with NUL", change: object{"name": "a\x00"}, says: "U+0000"},
		{name: "name turned around", change: object{"name": "a\u202eb"}, says: "U+202E"},
		{name: "description isolated", change: object{"description": "a\u2066b"}, says: "U+2066"},
		{name: "monitors not a list", change: object{"health_monitors": nowhere}, says: "health_monitors"},
		{name: "monitors not ids", change: object{"health_monitors": []string{"x"}}, says: "health_monitors"},
		{name: "monitors twice", change: object{"health_monitors": []string{nowhere, nowhere}}, says: "twice"},
		{name: "drain_timeout high", change: object{"drain_timeout": 86401}, says: "0 to 86400"},
		{name: "drain_timeout negative", change: object{"drain_timeout": -1}, says: "0 to 86400"},
		{name: "drain_timeout text", change: object{"drain_timeout": "soon"}, code: 400, typ: "InvalidInput", says: "drain_timeout"},
		{name: "admin_state_up null", change: object{"admin_state_up": nil}, code: 400, typ: "InvalidInput", says: "admin_state_up"},
		{name: "admin_state_up text", change: object{"admin_state_up": "yes"}, code: 400, typ: "InvalidInput", says: "true or false"},
		{name: "tenant empty", change: object{"tenant_id": ""}, says: "tenant_id"},
		{name: "tenant number", change: object{"tenant_id": 1}, says: "tenant_id"},
	})
	id := s.pool(f, nil)
	s.refuseAll(t, "PUT", "/v2.0/lb/pools/"+id, "pool", object{}, []refusal{
		{name: "put protocol", change: object{"protocol": "HTTP"}, says: "read-only"},
		{name: "put subnet", change: object{"subnet_id": f.subnet}, says: "name, description, lb_method"},
		{name: "put tenant", change: object{"tenant_id": "default"}, says: "tenant_id"},
		{name: "put provider", change: object{"provider": "qlbaas"}, says: "provider"},
		{name: "put unknown", change: object{"colour": 1}, says: "colour"},
		{name: "put method", change: object{"lb_method": "X"}, says: "SOURCE_IP"},
	})
}

func TestVIPRefusals(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	other := s.network("10.1.0.0/24")
	https := s.pool(f, object{"protocol": "HTTPS"})
	taken := s.pool(f, nil)
	s.vip(f, taken, object{"address": "10.0.0.50"})
	s.vip(f, s.pool(f, nil), object{"address": "10.0.0.52", "snat_addresses": []string{"10.0.0.51"}})
	body := vipBody(f, s.pool(f, nil))
	s.refuseAll(t, "POST", "/v2.0/lb/vips", "vip", body, append(persistenceRefusals(),
		vipRefusals(https, taken, other.subnet)...))
	id := s.list("/v2.0/lb/vips")[0]["id"].(string)
	s.refuseAll(t, "PUT", "/v2.0/lb/vips/"+id, "vip", object{}, []refusal{
		{name: "put address", change: object{"address": "10.0.0.51"}, says: "read-only"},
		{name: "put port", change: object{"protocol_port": 81}, says: "read-only"},
		{name: "put protocol", change: object{"protocol": "HTTP"}, says: "session_persistence"},
		{name: "put subnet", change: object{"subnet_id": f.subnet}, says: "read-only"},
		{name: "put pool of HTTPS", change: object{"pool_id": https}, code: 400, typ: "ProtocolMismatch"},
		{name: "put pool unknown", change: object{"pool_id": nowhere}, code: 404, typ: "PoolNotFound"},
		{name: "put snat of another", change: object{"snat_addresses": []string{"10.0.0.60", "10.0.0.51"}}, code: 409, typ: "IpAddressInUse"},
		{name: "put snat too many", change: object{"snat_addresses": addressesFrom("10.0.0.100", 16)}, says: "at most 15"},
		{name: "put own address as snat", change: object{"snat_addresses": []string{"10.0.0.50"}}, code: 409, typ: "IpAddressInUse"},
	})
}

// addressesFrom are so many addresses in a row.
func addressesFrom(first string, n int) []string {
	list := []string{first}
	for a := netip.MustParseAddr(first); len(list) < n; {
		a = a.Next()
		list = append(list, a.String())
	}
	return list
}

// vipRefusals needs a pool of another protocol, one that has a VIP at 10.0.0.50,
// and a subnet of another network.
func vipRefusals(https, taken, elsewhere string) []refusal {
	return []refusal{
		{name: "pool missing", drop: "pool_id", says: "pool_id"},
		{name: "port missing", drop: "protocol_port", says: "protocol_port"},
		{name: "subnet missing", drop: "subnet_id", says: "subnet_id"},
		{name: "port 0", change: object{"protocol_port": 0}, says: "1 to 65535"},
		{name: "port 65536", change: object{"protocol_port": "65536"}, says: "1 to 65535"},
		{name: "port float text", change: object{"protocol_port": "80.5"}, code: 400, typ: "InvalidInput", says: "protocol_port"},
		{name: "port null", change: object{"protocol_port": nil}, code: 400, typ: "InvalidInput", says: "protocol_port"},
		{name: "port huge", change: object{"protocol_port": json.Number("1e400")}, code: 400, typ: "InvalidInput", says: "protocol_port"},
		{name: "limit -2", change: object{"connection_limit": -2}, says: "connection_limit"},
		{name: "protocol differs", change: object{"protocol": "TCP"}, code: 400, typ: "ProtocolMismatch", says: "HTTP"},
		{name: "protocol UDP", change: object{"protocol": "UDP"}, code: 400, typ: "ProtocolMismatch", says: "HTTP"},
		{name: "pool of HTTPS", change: object{"pool_id": https}, code: 400, typ: "ProtocolMismatch"},
		{name: "pool unknown", change: object{"pool_id": nowhere}, code: 404, typ: "PoolNotFound", says: nowhere},
		{name: "pool has a vip", change: object{"pool_id": taken}, code: 409, typ: "VipExists", says: taken},
		{name: "subnet unknown", change: object{"subnet_id": nowhere}, code: 404, typ: "SubnetNotFound", says: nowhere},
		{name: "other project", change: object{"tenant_id": "other"}, code: 403, typ: "NotAuthorized", says: "other"},
		{name: "address v6", change: object{"address": "fd00::1"}, code: 400, typ: "InvalidIpForSubnet", says: "fd00::1"},
		{name: "address mapped", change: object{"address": "::ffff:10.0.0.9"}, says: "write 10.0.0.9"},
		{name: "address short", change: object{"address": "10.0.9"}, says: "address"},
		{name: "address octal", change: object{"address": "10.0.0.010"}, says: "address"},
		{name: "address outside", change: object{"address": "10.1.0.9"}, code: 400, typ: "InvalidIpForSubnet", says: "10.1.0.9"},
		{name: "network address", change: object{"address": "10.0.0.0"}, code: 400, typ: "InvalidIpForSubnet"},
		{name: "broadcast", change: object{"address": "10.0.0.255"}, code: 400, typ: "InvalidIpForSubnet"},
		{name: "gateway", change: object{"address": "10.0.0.1"}, code: 409, typ: "IpAddressInUse", says: "gateway"},
		{name: "address taken", change: object{"address": "10.0.0.50"}, code: 409, typ: "IpAddressInUse"},
		{name: "persistence_timeout", change: object{"persistence_timeout": 604801}, says: "0 to 604800"},
		{name: "idle_timeout", change: object{"idle_timeout": 9}, says: "10 to 604800"},
		{name: "flow_limit low", change: object{"flow_limit": 63}, says: "64 to 4194304"},
		{name: "flow_limit high", change: object{"flow_limit": 4194305}, says: "64 to 4194304"},
		{name: "snat not a list", change: object{"snat_addresses": "10.0.0.9"}, says: "snat_addresses"},
		{name: "snat outside", change: object{"snat_addresses": []string{"10.1.0.9"}}, code: 400, typ: "InvalidIpForSubnet"},
		{name: "snat twice", change: object{"snat_addresses": []string{"10.0.0.9", "10.0.0.9"}}, says: "twice"},
		{name: "snat broadcast", change: object{"snat_addresses": []string{"10.0.0.255"}}, code: 400, typ: "InvalidIpForSubnet"},
		{name: "snat gateway", change: object{"snat_addresses": []string{"10.0.0.1"}}, code: 409, typ: "IpAddressInUse", says: "gateway"},
		{name: "snat v6", change: object{"snat_addresses": []string{"fd00::1"}}, code: 400, typ: "InvalidIpForSubnet"},
		{name: "snat too many", change: object{"snat_addresses": addressesFrom("10.0.0.100", 16)}, says: "at most 15"},
		{name: "snat taken", change: object{"snat_addresses": []string{"10.0.0.50"}}, code: 409, typ: "IpAddressInUse"},
		{name: "snat is the vip", change: object{"address": "10.0.0.9", "snat_addresses": []string{"10.0.0.9"}},
			code: 409, typ: "IpAddressInUse"},
		{name: "read-only port", change: object{"port_id": nowhere}, says: "port_id"},
		{name: "subnet of another network", change: object{"subnet_id": elsewhere, "address": "10.0.0.9"},
			code: 400, typ: "InvalidIpForSubnet"},
	}
}

func persistenceRefusals() []refusal {
	return []refusal{
		{name: "persistence list", change: object{"session_persistence": []int{1}}, says: "session_persistence"},
		{name: "persistence untyped", change: object{"session_persistence": object{"cookie_name": "c"}}, says: "type is missing"},
		{name: "persistence unknown", change: object{"session_persistence": object{"type": "RANDOM"}}, says: "SOURCE_IP, HTTP_COOKIE, APP_COOKIE"},
		{name: "source with cookie", change: object{"session_persistence": object{"type": "SOURCE_IP", "cookie_name": ""}}, says: "cookie_name"},
		{name: "app without cookie", change: object{"session_persistence": object{"type": "APP_COOKIE"}}, says: "cookie_name"},
		{name: "app empty cookie", change: object{"session_persistence": object{"type": "APP_COOKIE", "cookie_name": ""}}, says: "cookie_name"},
		{name: "app bad cookie", change: object{"session_persistence": object{"type": "APP_COOKIE", "cookie_name": "a b\r\n"}}, says: "cookie_name"},
	}
}

func TestMemberRefusals(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	pool := s.pool(f, nil)
	s.vip(f, pool, object{"address": "10.0.0.50", "snat_addresses": []string{"10.0.0.51"}})
	s.member(pool, "10.0.0.9")
	body := object{"pool_id": pool, "address": "10.0.0.10", "protocol_port": 80}
	cases := []refusal{
		{name: "pool missing", drop: "pool_id", says: "pool_id"},
		{name: "address missing", drop: "address", says: "address"},
		{name: "port missing", drop: "protocol_port", says: "protocol_port"},
		{name: "name", change: object{"name": "m"}, says: "weight"},
		{name: "weight 257", change: object{"weight": 257}, says: "0 to 256"},
		{name: "weight -1", change: object{"weight": "-1"}, says: "0 to 256"},
		{name: "port 0", change: object{"protocol_port": 0}, says: "1 to 65535"},
		{name: "pool unknown", change: object{"pool_id": nowhere}, code: 404, typ: "PoolNotFound"},
		{name: "twice", change: object{"address": "10.0.0.9"}, code: 409, typ: "MemberExists", says: "10.0.0.9"},
		{name: "own vip", change: object{"address": "10.0.0.50"}, says: "own address"},
		{name: "own snat address", change: object{"address": "10.0.0.51"}, says: "snat_addresses"},
		{name: "broadcast of the subnet", change: object{"address": "10.0.0.255"}, says: "broadcast"},
		{name: "other project", change: object{"tenant_id": "other"}, code: 403, typ: "NotAuthorized"},
	}
	for _, address := range []string{"0.0.0.0", "127.0.0.1", "127.255.1.1", "169.254.169.254", "224.0.0.1",
		"239.1.1.1", "255.255.255.255"} {
		cases = append(cases, refusal{name: address, change: object{"address": address}, says: address})
	}
	for address, says := range map[string]string{
		"::1": "loopback", "::": "unspecified", "ff02::1": "multicast", "fe80::1": "link-local",
		"fd00::9": "another address family", "::ffff:10.0.0.10": "write 10.0.0.10", "fe80::1%eth0": "zone",
	} {
		cases = append(cases, refusal{name: address, change: object{"address": address}, says: says})
	}
	for _, address := range []string{"", "10.0.0", "10.0.0.1/24", "host", "10.0.0.1 ", "0x0a.0.0.1", "10.0.0.256"} {
		cases = append(cases, refusal{name: "not an address " + address, change: object{"address": address},
			says: "not a valid IP address"})
	}
	s.refuseAll(t, "POST", "/v2.0/lb/members", "member", body, cases)
}

func TestMonitorRefusals(t *testing.T) {
	s := start(t, config{})
	body := object{"type": "HTTP", "delay": 5, "timeout": 5, "max_retries": 3}
	cases := []refusal{
		{name: "type missing", drop: "type", says: "type"},
		{name: "delay missing", drop: "delay", says: "delay"},
		{name: "timeout missing", drop: "timeout", says: "timeout"},
		{name: "retries missing", drop: "max_retries", says: "max_retries"},
		{name: "type", change: object{"type": "UDP"}, says: "PING, TCP, HTTP, HTTPS"},
		{name: "delay below timeout", change: object{"delay": 4}, code: 400, typ: "DelayOrTimeoutInvalid", says: "timeout 5"},
		{name: "timeout 0", change: object{"timeout": 0}, says: "timeout"},
		{name: "retries 0", change: object{"max_retries": 0}, says: "1 to 10"},
		{name: "retries 11", change: object{"max_retries": 11}, says: "1 to 10"},
		{name: "name", change: object{"name": "m"}, says: "name"},
		{name: "path long", change: object{"url_path": "/" + strings.Repeat("a", 255)}, says: "url_path"},
		{name: "method long", change: object{"http_method": strings.Repeat("A", 17)}, says: "http_method"},
		{name: "codes long", change: object{"expected_codes": strings.Repeat("200,", 16) + "200"}, says: "expected_codes"},
	}
	for _, path := range []string{"", "x", "http://evil/", "/a b", "/a\r\nHost: x", "/a\tb", "/ä", "/#x", "/\x00"} {
		cases = append(cases, refusal{name: fmt.Sprintf("path %q", path), change: object{"url_path": path}, says: "url_path"})
	}
	for _, method := range []string{"", "GET /", "G\r\nT", "GÄT", "(GET)"} {
		cases = append(cases, refusal{name: fmt.Sprintf("method %q", method), change: object{"http_method": method},
			says: "http_method"})
	}
	for _, codes := range []string{"", "20", "2000", "200-", "204-200", "200,201-204", "2xx", "200;201", "200,\n201", " 200"} {
		cases = append(cases, refusal{name: fmt.Sprintf("codes %q", codes), change: object{"expected_codes": codes},
			says: "expected_codes"})
	}
	s.refuseAll(t, "POST", "/v2.0/lb/health_monitors", "health_monitor", body, cases)
	for _, codes := range []string{"200", "200,201", "200 , 201", "200-204", "404-404"} {
		made := s.must(201, "POST", "/v2.0/lb/health_monitors", object{"health_monitor": with(body, object{
			"expected_codes": codes})})
		if made["expected_codes"] != codes {
			t.Errorf("expected_codes %q became %v", codes, made["expected_codes"])
		}
	}
}

func TestNetworkRefusals(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	s.refuseAll(t, "POST", "/v2.0/networks", "network", object{}, []refusal{
		{name: "type", change: object{"provider:network_type": "vxlan"}, says: "flat, vlan"},
		{name: "vlan without id", change: object{"provider:network_type": "vlan"}, code: 400, typ: "InvalidInput", says: "segmentation_id"},
		{name: "vlan 0", change: object{"provider:network_type": "vlan", "provider:segmentation_id": 0}, says: "1 to 4094"},
		{name: "flat with id", change: object{"provider:segmentation_id": 5}, code: 400, typ: "InvalidInput", says: "flat"},
		{name: "device with slash", change: object{"provider:physical_network": "../br0"}, says: "provider:physical_network"},
		{name: "device long", change: object{"provider:physical_network": "abcdefghijklmnop"}, says: "15"},
		{name: "device dot", change: object{"provider:physical_network": "."}, says: "provider:physical_network"},
		{name: "unknown", change: object{"colour": 1}, says: "colour"},
		{name: "hints with ESC", change: object{"availability_zone_hints": []string{"\x1b"}}, says: "U+001B"},
	})
	s.refuseAll(t, "POST", "/v2.0/subnets", "subnet", object{"network_id": f.network, "cidr": "10.9.0.0/24"}, []refusal{
		{name: "cidr missing", drop: "cidr", says: "cidr"},
		{name: "network missing", drop: "network_id", says: "network_id"},
		{name: "network unknown", change: object{"network_id": nowhere}, code: 404, typ: "NetworkNotFound"},
		{name: "cidr host bits", change: object{"cidr": "10.9.0.1/24"}, says: "10.9.0.0/24 is recommended"},
		{name: "cidr mapped", change: object{"cidr": "::ffff:10.9.0.0/120"}, says: "mapped"},
		{name: "cidr v6 multicast", change: object{"cidr": "ff05::/64"}, says: "multicast"},
		{name: "cidr v6 link-local", change: object{"cidr": "fe80::/64"}, says: "link-local"},
		{name: "cidr 127", change: object{"cidr": "fd00::/127"}, says: "1 to 126"},
		{name: "cidr v6 as v4", change: object{"cidr": "fd00::/64", "ip_version": 4}, code: 400, typ: "InvalidInput",
			says: "ip_version"},
		{name: "cidr 31", change: object{"cidr": "10.9.0.0/31"}, says: "1 to 30"},
		{name: "cidr 0", change: object{"cidr": "0.0.0.0/0"}, says: "1 to 30"},
		{name: "cidr multicast", change: object{"cidr": "224.0.0.0/24"}, says: "multicast"},
		{name: "cidr text", change: object{"cidr": "10.9.0.0"}, says: "cidr"},
		{name: "ip_version 6", change: object{"ip_version": 6}, code: 400, typ: "InvalidInput", says: "not of ip_version 6"},
		{name: "ip_version 5", change: object{"ip_version": 5}, says: "not one of 4, 6"},
		{name: "pool of two families", change: object{"allocation_pools": []any{object{"start": "10.9.0.9", "end": "fd00::9"}}},
			says: "different address families"},
		{name: "overlap", change: object{"cidr": "10.0.0.128/25"}, code: 400, typ: "InvalidInput", says: "overlaps"},
		{name: "gateway outside", change: object{"gateway_ip": "10.8.0.1"}, code: 400, typ: "InvalidInput", says: "gateway_ip"},
		{name: "gateway broadcast", change: object{"gateway_ip": "10.9.0.255"}, code: 400, typ: "InvalidInput", says: "gateway_ip"},
		{name: "pool outside", change: object{"allocation_pools": []any{object{"start": "10.9.0.9", "end": "10.9.1.9"}}},
			code: 400, typ: "InvalidInput", says: "allocation_pools"},
		{name: "pool turned", change: object{"allocation_pools": []any{object{"start": "10.9.0.9", "end": "10.9.0.8"}}}, says: "after"},
		{name: "pools overlap", change: object{"allocation_pools": []any{object{"start": "10.9.0.9", "end": "10.9.0.20"},
			object{"start": "10.9.0.20", "end": "10.9.0.30"}}}, says: "overlap"},
		{name: "pool key", change: object{"allocation_pools": []any{object{"start": "10.9.0.9", "stop": "10.9.0.8"}}}, says: "start, end"},
		{name: "pool with gateway", change: object{"allocation_pools": []any{object{"start": "10.9.0.1", "end": "10.9.0.8"}}},
			code: 409, typ: "GatewayConflictWithAllocationPools", says: "10.9.0.1"},
	})
	s.refuseAll(t, "POST", "/v2.0/ports", "port", object{"network_id": f.network}, []refusal{
		{name: "network unknown", change: object{"network_id": nowhere}, code: 404, typ: "NetworkNotFound"},
		{name: "mac multicast", change: object{"mac_address": "01:00:5e:00:00:01"}, says: "mac_address"},
		{name: "mac zero", change: object{"mac_address": "00:00:00:00:00:00"}, says: "mac_address"},
		{name: "mac short", change: object{"mac_address": "fa:16:3e:00"}, says: "mac_address"},
		{name: "owner of a vip", change: object{"device_owner": "neutron:LOADBALANCER"}, says: "device_owner"},
		{name: "owner of a router", change: object{"device_owner": "network:router_gateway"}, says: "device_owner"},
		{name: "address off the network", change: object{"fixed_ips": []any{object{"ip_address": "10.7.0.9"}}},
			code: 400, typ: "InvalidIpForNetwork", says: "10.7.0.9"},
		{name: "subnet unknown", change: object{"fixed_ips": []any{object{"subnet_id": nowhere}}},
			code: 400, typ: "InvalidInput", says: nowhere},
		{name: "address empty", change: object{"fixed_ips": []any{object{}}}, says: "fixed_ips"},
		{name: "address twice", change: object{"fixed_ips": []any{object{"ip_address": "10.0.0.9"}, object{"ip_address": "10.0.0.9"}}},
			code: 409, typ: "IpAddressInUse", says: "10.0.0.9"},
	})
}

// TestCoercion sends scalars as clients do and expects real ones back.
func TestCoercion(t *testing.T) {
	s := start(t, config{})
	f := s.network("10.0.0.0/24")
	pool := s.pool(f, nil)
	for i, c := range []struct {
		sent any
		want string
	}{
		{"80", "80"}, {80, "80"}, {json.Number("80.9"), "80"}, {" 80 ", "80"}, {"+80", "80"}, {true, "1"}, {json.Number("8e1"), "80"},
	} {
		made := s.must(201, "POST", "/v2.0/lb/members", object{"member": object{
			"pool_id": pool, "address": fmt.Sprintf("10.0.0.%d", 100+i), "protocol_port": c.sent, "weight": "7"}})
		if got := made["protocol_port"]; got != json.Number(c.want) || made["weight"] != json.Number("7") {
			t.Errorf("protocol_port %v became %v", c.sent, made)
		}
	}
	for _, c := range []struct {
		sent any
		want bool
	}{
		{true, true}, {false, false}, {"True", true}, {"FALSE", false}, {"1", true}, {"0", false}, {1, true}, {0, false},
	} {
		now := s.must(200, "PUT", "/v2.0/lb/pools/"+pool, object{"pool": object{"admin_state_up": c.sent}})
		if now["admin_state_up"] != c.want {
			t.Errorf("admin_state_up %v became %v", c.sent, now["admin_state_up"])
		}
	}
}
