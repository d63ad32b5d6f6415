package lbaas_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"qlbaas/lbaas"
)

// TestCookieKey: a pool gets a key when it first needs one, and keeps it. Nobody sees it.
func TestCookieKey(t *testing.T) {
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{})
	pools := []string{f.httpPool(), f.httpPool()}
	body := f.vipBody(pools[0])
	body["protocol"] = "HTTP"
	vip := f.create(lbaas.VIPs, body)
	if keys := f.config(pools[0]).Pool.CookieKeys; keys != nil {
		t.Errorf("%d keys without cookies", len(keys))
	}
	persistence := func(typ string) {
		t.Helper()
		f.update(lbaas.VIPs, vip, object{"session_persistence": object{"type": typ}})
	}
	persistence("SOURCE_IP")
	persistence("HTTP_COOKIE")
	keys := f.config(pools[0]).Pool.CookieKeys
	if len(keys) != 1 || len(keys[0]) != 32 || bytes.Equal(keys[0], make([]byte, 32)) {
		t.Fatalf("keys %x", keys)
	}
	persistence("SOURCE_IP")
	persistence("HTTP_COOKIE")
	f.update(lbaas.Pools, pools[0], object{"name": "renamed"})
	if now := f.config(pools[0]).Pool.CookieKeys; len(now) != 1 || !bytes.Equal(now[0], keys[0]) {
		t.Errorf("keys %x, were %x", now, keys)
	}
	f.update(lbaas.VIPs, vip, object{"pool_id": pools[1]})
	if other := f.config(pools[1]).Pool.CookieKeys; len(other) != 1 || bytes.Equal(other[0], keys[0]) {
		t.Errorf("the other pool's keys are %x", other)
	}
	again := f.vipBody(pools[0])
	again["protocol"], again["session_persistence"] = "HTTP", object{"type": "HTTP_COOKIE"}
	f.create(lbaas.VIPs, again)
	if now := f.config(pools[0]).Pool.CookieKeys; len(now) != 1 || !bytes.Equal(now[0], keys[0]) {
		t.Errorf("keys %x, were %x", now, keys)
	}
	shown, err := json.Marshal([]lbaas.Object{f.show(lbaas.Pools, pools[0]), f.show(lbaas.VIPs, vip)})
	if err != nil || strings.Contains(string(shown), "key") {
		t.Errorf("%s, %v", shown, err)
	}
	f.check()
}

func (f *fixture) httpPool() string {
	f.t.Helper()
	return f.create(lbaas.Pools, object{"subnet_id": f.subnet, "protocol": "HTTP", "lb_method": "ROUND_ROBIN"})
}

// TestAddStats: a part of a deployment's counters is added once, and not to closed ones.
func TestAddStats(t *testing.T) {
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{})
	pool := f.pool()
	part := lbaas.Counters{BytesIn: 1, BytesOut: 2, TotalConnections: 3, ActiveConnections: 4}
	for range 2 {
		if err := f.svc.AddStats(t.Context(), pool, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.svc.CloseStats(t.Context(), pool, part); err != nil {
		t.Fatal(err)
	}
	if err := f.svc.AddStats(t.Context(), pool, part); err != nil {
		t.Fatal(err)
	}
	if err := f.svc.AddStats(t.Context(), "nobody", part); err != nil {
		t.Fatal(err)
	}
	if s := f.config(pool).Pool.Stats; fmt.Sprint(s.Counters) != fmt.Sprint(lbaas.Counters{BytesIn: 3, BytesOut: 6, TotalConnections: 9}) {
		t.Errorf("%+v", s)
	}
}
