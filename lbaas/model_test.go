package lbaas_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"qlbaas/lbaas"
)

// model is what the service should do, in maps.
type model struct {
	f *fixture
	// vip of each pool, "" for none.
	pools map[string]string
	// pool and address of each.
	vips, members map[string]place
	// pools of each monitor.
	monitors map[string]map[string]bool
	// address of each port that a user made.
	ports map[string]string
	// used says who has an address, released is who waits to be used again, oldest
	// first, ever is what has been used at all.
	used     map[string]bool
	ever     map[string]bool
	released []string
}

type place struct{ pool, address string }

// hosts of the model's subnet, but for the gateway.
func hosts() []string {
	var list []string
	for i := 2; i <= 14; i++ {
		list = append(list, fmt.Sprintf("10.0.0.%d", i))
	}
	return list
}

// pick predicts what is allocated: want, or the lowest never used, or the one
// that has rested longest; and the error type if there is none.
func (m *model) pick(want string, taken map[string]bool) (string, string) {
	if want != "" {
		if m.used[want] {
			return "", "IpAddressInUse"
		}
		return want, ""
	}
	for _, addr := range append(slices.DeleteFunc(hosts(), func(a string) bool { return m.ever[a] }), m.released...) {
		if !taken[addr] {
			return addr, ""
		}
	}
	return "", "IpAddressGenerationFailure"
}

func (m *model) claim(addr string) {
	m.used[addr], m.ever[addr] = true, true
	m.released = slices.DeleteFunc(m.released, func(a string) bool { return a == addr })
}

func (m *model) release(addr string) {
	delete(m.used, addr)
	m.released = append(m.released, addr)
}

func (m *model) memberAddresses(pool string) map[string]bool {
	addresses := map[string]bool{}
	for _, e := range m.members {
		if e.pool == pool {
			addresses[e.address] = true
		}
	}
	return addresses
}

// any draws one of the ids, or one that is not there.
func any1[V any](t *rapid.T, from map[string]V) string {
	ids := append(slices.Sorted(maps.Keys(from)), "11111111-2222-3333-4444-555555555555")
	return rapid.SampledFrom(ids).Draw(t, "id")
}

func expect(t *rapid.T, what string, err error, want string) {
	if got := typeOf(err); got != want {
		t.Fatalf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func (m *model) createPool(t *rapid.T) {
	id, err := m.f.try(lbaas.Pools, object{"subnet_id": m.f.subnet, "protocol": "TCP", "lb_method": "SOURCE_IP"})
	expect(t, "create pool", err, "")
	m.pools[id] = ""
}

func (m *model) deletePool(t *rapid.T) {
	id := any1(t, m.pools)
	vip, found := m.pools[id]
	want := ""
	switch {
	case !found:
		want = "PoolNotFound"
	case vip != "":
		want = "PoolInUse"
	}
	expect(t, "delete pool", m.f.svc.Delete(context.Background(), admin, lbaas.Pools, id), want)
	if want == "" {
		delete(m.pools, id)
		maps.DeleteFunc(m.members, func(_ string, e place) bool { return e.pool == id })
		for _, pools := range m.monitors {
			delete(pools, id)
		}
	}
}

func (m *model) createVIP(t *rapid.T) {
	pool := any1(t, m.pools)
	want := rapid.SampledFrom(append(hosts(), "", "", "", "")).Draw(t, "address")
	taken := m.memberAddresses(pool)
	addr, typ := m.pick(want, taken)
	vip, found := m.pools[pool]
	switch {
	case !found:
		typ = "PoolNotFound"
	case vip != "":
		typ = "VipExists"
	case typ == "" && taken[addr]:
		typ = "HTTPBadRequest"
	}
	body := m.f.vipBody(pool)
	if want != "" {
		body["address"] = want
	}
	id, err := m.f.try(lbaas.VIPs, body)
	expect(t, "create vip", err, typ)
	if typ == "" {
		m.claim(addr)
		m.pools[pool], m.vips[id] = id, place{pool, addr}
	}
}

func (m *model) moveVIP(t *rapid.T) {
	id, to := any1(t, m.vips), any1(t, m.pools)
	vip, found := m.vips[id]
	other, there := m.pools[to]
	want := ""
	switch {
	case !found:
		want = "VipNotFound"
	case !there:
		want = "PoolNotFound"
	case other != "" && other != id:
		want = "VipExists"
	case m.memberAddresses(to)[vip.address]:
		want = "HTTPBadRequest"
	}
	_, err := m.f.svc.Update(context.Background(), admin, lbaas.VIPs, id, object{"pool_id": to})
	expect(t, "move vip", err, want)
	if want == "" {
		m.pools[vip.pool] = ""
		m.pools[to], m.vips[id] = id, place{to, vip.address}
	}
}

func (m *model) deleteVIP(t *rapid.T) {
	id := any1(t, m.vips)
	vip, found := m.vips[id]
	want := ""
	if !found {
		want = "VipNotFound"
	}
	expect(t, "delete vip", m.f.svc.Delete(context.Background(), admin, lbaas.VIPs, id), want)
	if found {
		m.release(vip.address)
		m.pools[vip.pool] = ""
		delete(m.vips, id)
	}
}

// joins predicts whether a member can be in a pool.
func (m *model) joins(pool, address string) string {
	vip, found := m.pools[pool]
	switch {
	case !found:
		return "PoolNotFound"
	case m.memberAddresses(pool)[address]:
		return "MemberExists"
	case vip != "" && m.vips[vip].address == address:
		return "HTTPBadRequest"
	}
	return ""
}

func (m *model) createMember(t *rapid.T) {
	pool, address := any1(t, m.pools), rapid.SampledFrom(hosts()).Draw(t, "address")
	want := m.joins(pool, address)
	id, err := m.f.try(lbaas.Members, object{"pool_id": pool, "address": address, "protocol_port": "80"})
	expect(t, "create member", err, want)
	if want == "" {
		m.members[id] = place{pool, address}
	}
}

func (m *model) moveMember(t *rapid.T) {
	id, to := any1(t, m.members), any1(t, m.pools)
	e, found := m.members[id]
	want := ""
	if !found {
		want = "MemberNotFound"
	} else if to != e.pool {
		want = m.joins(to, e.address)
	}
	_, err := m.f.svc.Update(context.Background(), admin, lbaas.Members, id, object{"pool_id": to})
	expect(t, "move member", err, want)
	if want == "" {
		m.members[id] = place{to, e.address}
	}
}

func (m *model) deleteMember(t *rapid.T) {
	id := any1(t, m.members)
	want := ""
	if _, found := m.members[id]; !found {
		want = "MemberNotFound"
	}
	expect(t, "delete member", m.f.svc.Delete(context.Background(), admin, lbaas.Members, id), want)
	delete(m.members, id)
}

func (m *model) createMonitor(t *rapid.T) {
	id, err := m.f.try(lbaas.HealthMonitors, object{"type": "TCP", "delay": "5", "timeout": "5", "max_retries": "3"})
	expect(t, "create monitor", err, "")
	m.monitors[id] = map[string]bool{}
}

func (m *model) associate(t *rapid.T) {
	id, pool := any1(t, m.monitors), any1(t, m.pools)
	pools, found := m.monitors[id]
	want := ""
	if _, there := m.pools[pool]; !there {
		want = "PoolNotFound"
	} else if !found {
		want = "HealthMonitorNotFound"
	} else if pools[pool] {
		want = "PoolMonitorAssociationExists"
	}
	expect(t, "associate", m.f.svc.Associate(context.Background(), admin, pool, object{"id": id}), want)
	if want == "" {
		pools[pool] = true
	}
}

func (m *model) disassociate(t *rapid.T) {
	id, pool := any1(t, m.monitors), any1(t, m.pools)
	want := ""
	if _, there := m.pools[pool]; !there {
		want = "PoolNotFound"
	} else if !m.monitors[id][pool] {
		want = "PoolMonitorAssociationNotFound"
	}
	expect(t, "disassociate", m.f.svc.Disassociate(context.Background(), admin, pool, id), want)
	delete(m.monitors[id], pool)
}

func (m *model) deleteMonitor(t *rapid.T) {
	id := any1(t, m.monitors)
	want := ""
	if pools, found := m.monitors[id]; !found {
		want = "HealthMonitorNotFound"
	} else if len(pools) > 0 {
		want = "HealthMonitorInUse"
	}
	expect(t, "delete monitor", m.f.svc.Delete(context.Background(), admin, lbaas.HealthMonitors, id), want)
	if want == "" {
		delete(m.monitors, id)
	}
}

func (m *model) createPort(t *rapid.T) {
	want := rapid.SampledFrom(append(hosts(), "", "", "")).Draw(t, "address")
	addr, typ := m.pick(want, nil)
	ip := object{"subnet_id": m.f.subnet}
	if want != "" {
		ip["ip_address"] = want
	}
	id, err := m.f.try(lbaas.Ports, object{"network_id": m.f.network, "fixed_ips": []any{ip}})
	expect(t, "create port", err, typ)
	if typ == "" {
		m.claim(addr)
		m.ports[id] = addr
	}
}

func (m *model) deletePort(t *rapid.T) {
	id := any1(t, m.ports)
	want := ""
	if _, found := m.ports[id]; !found {
		want = "PortNotFound"
	}
	expect(t, "delete port", m.f.svc.Delete(context.Background(), admin, lbaas.Ports, id), want)
	if want == "" {
		m.release(m.ports[id])
		delete(m.ports, id)
	}
}

// agrees compares everything that can be read with the model.
func (m *model) agrees(t *rapid.T) {
	if err := m.f.store.View(context.Background(), lbaas.CheckStore); err != nil {
		t.Fatal(err)
	}
	for id, vip := range m.pools {
		o := m.f.show(lbaas.Pools, id)
		if got, _ := o["vip_id"].(string); got != vip {
			t.Fatalf("pool %s has vip %q, want %q", id, got, vip)
		}
		var want []string
		for member, e := range m.members {
			if e.pool == id {
				want = append(want, member)
			}
		}
		if got := o["members"].([]string); !same(got, want) {
			t.Fatalf("pool %s has members %v, want %v", id, got, want)
		}
		want = nil
		for monitor, pools := range m.monitors {
			if pools[id] {
				want = append(want, monitor)
			}
		}
		if got := o["health_monitors"].([]string); !same(got, want) {
			t.Fatalf("pool %s has monitors %v, want %v", id, got, want)
		}
	}
	for id, want := range m.vips {
		if o := m.f.show(lbaas.VIPs, id); o["address"] != want.address || o["pool_id"] != want.pool {
			t.Fatalf("vip %v, want %v", o, want)
		}
	}
	for coll, want := range map[lbaas.Collection]int{lbaas.Pools: len(m.pools), lbaas.VIPs: len(m.vips),
		lbaas.Members: len(m.members), lbaas.HealthMonitors: len(m.monitors), lbaas.Ports: len(m.ports) + len(m.vips)} {
		page, err := m.f.svc.List(context.Background(), admin, coll, lbaas.Query{})
		if err != nil || len(page.Objects) != want {
			t.Fatalf("%d %s, want %d: %v", len(page.Objects), coll, want, err)
		}
	}
}

func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// TestModel: random operations, valid and not, answer and leave behind what the
// model says.
func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := newFixture(t, "10.0.0.0/28", lbaas.Options{})
		defer f.close()
		m := &model{
			f: f, pools: map[string]string{}, vips: map[string]place{}, members: map[string]place{},
			monitors: map[string]map[string]bool{}, ports: map[string]string{},
			used: map[string]bool{"10.0.0.1": true}, ever: map[string]bool{},
		}
		for range 3 {
			m.createPool(r)
		}
		r.Repeat(map[string]func(*rapid.T){
			"createPool": m.createPool, "deletePool": m.deletePool,
			"createVIP": m.createVIP, "moveVIP": m.moveVIP, "deleteVIP": m.deleteVIP,
			"createMember": m.createMember, "moveMember": m.moveMember, "deleteMember": m.deleteMember,
			"createMonitor": m.createMonitor, "deleteMonitor": m.deleteMonitor,
			"associate": m.associate, "disassociate": m.disassociate,
			"createPort": m.createPort, "deletePort": m.deletePort,
			"": m.agrees,
		})
	})
}
