package lbaas_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"qlbaas/lbaas"
	"qlbaas/lbaas/store"
)

type object = map[string]any

// admin is the caller of most tests.
var admin = lbaas.Caller{TenantID: lbaas.DefaultTenant, Admin: true, Who: "test"}

// counting counts the transactions that change something, and can fail them.
type counting struct {
	lbaas.Store
	updates atomic.Int64
	// after is returned in place of nil, when the change is made.
	after error
}

func (c *counting) Update(ctx context.Context, fn func(lbaas.Tx) error) error {
	c.updates.Add(1)
	if err := c.Store.Update(ctx, fn); err != nil {
		return err
	}
	return c.after
}

type fixture struct {
	t     testing.TB
	svc   *lbaas.Service
	store *counting
	// network and subnet are where VIPs are made.
	network, subnet string
	// close is called when the test ends, or earlier.
	close func()
}

func newFixture(t testing.TB, cidr string, o lbaas.Options) *fixture {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "qlbaas.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: &counting{Store: db}}
	f.close = sync.OnceFunc(func() {
		f.check()
		if err := errors.Join(db.Check(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(f.close)
	o.Store = f.store
	if o.Quotas == nil {
		o.Quotas = map[string]int64{"vip": -1, "pool": -1}
	}
	if f.svc, err = lbaas.New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	f.network = f.create(lbaas.Networks, object{"provider:physical_network": "br0"})
	f.subnet = f.create(lbaas.Subnets, object{"network_id": f.network, "cidr": cidr})
	return f
}

// check compares indexes and references with the objects.
func (f *fixture) check() {
	f.t.Helper()
	if err := f.store.View(context.Background(), lbaas.CheckStore); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) try(coll lbaas.Collection, body object) (string, error) {
	o, err := f.svc.Create(context.Background(), admin, coll, body)
	if err != nil {
		return "", err
	}
	return o["id"].(string), nil
}

func (f *fixture) create(coll lbaas.Collection, body object) string {
	f.t.Helper()
	id, err := f.try(coll, body)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f *fixture) show(coll lbaas.Collection, id string) lbaas.Object {
	f.t.Helper()
	o, err := f.svc.Show(context.Background(), admin, coll, id, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

func (f *fixture) update(coll lbaas.Collection, id string, body object) {
	f.t.Helper()
	if _, err := f.svc.Update(context.Background(), admin, coll, id, body); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) delete(coll lbaas.Collection, id string) {
	f.t.Helper()
	if err := f.svc.Delete(context.Background(), admin, coll, id); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) pool() string {
	f.t.Helper()
	return f.create(lbaas.Pools, object{"subnet_id": f.subnet, "protocol": "TCP", "lb_method": "ROUND_ROBIN"})
}

func (f *fixture) vipBody(pool string) object {
	return object{"pool_id": pool, "subnet_id": f.subnet, "protocol": "TCP", "protocol_port": json.Number("80")}
}

func (f *fixture) member(pool, address string) string {
	f.t.Helper()
	return f.create(lbaas.Members, object{"pool_id": pool, "address": address, "protocol_port": "80"})
}

func (f *fixture) monitor() string {
	f.t.Helper()
	return f.create(lbaas.HealthMonitors, object{"type": "TCP", "delay": "5", "timeout": "5", "max_retries": "3"})
}

func (f *fixture) config(pool string) lbaas.PoolConfig {
	f.t.Helper()
	c, err := f.svc.PoolConfig(context.Background(), pool)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// typeOf returns the type of a refusal, "" for success.
func typeOf(err error) string {
	var e *lbaas.Error
	if errors.As(err, &e) {
		return e.Type
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return ""
}

func TestPoolConfig(t *testing.T) {
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{})
	pool, other := f.pool(), f.pool()
	if c := f.config(pool); c.VIP != nil || c.Port != nil || c.Subnet != nil || c.Network != nil || c.Members != nil {
		t.Errorf("pool alone: %+v", c)
	}
	// Addresses and ids would give other orders than age.
	var members []string
	for _, address := range []string{"10.0.0.90", "10.0.0.9", "10.0.0.100", "10.0.0.10"} {
		members = append(members, f.member(pool, address))
	}
	f.member(other, "10.0.0.90")
	var monitors []string
	for range 4 {
		id := f.monitor()
		if err := f.svc.Associate(t.Context(), admin, pool, object{"id": id}); err != nil {
			t.Fatal(err)
		}
		monitors = append(monitors, id)
	}
	vip := f.create(lbaas.VIPs, f.vipBody(pool))
	c := f.config(pool)
	if c.VIP == nil || c.VIP.ID != vip || c.Pool.VIPID != vip || c.Port.ID != c.VIP.PortID ||
		c.Port.DeviceID != vip || c.Subnet.ID != f.subnet || c.Network.PhysicalNetwork != "br0" ||
		c.Subnet.GatewayIP.String() != "10.0.0.1" || c.VIP.Address.String() != "10.0.0.2" {
		t.Errorf("config: %+v", c)
	}
	var gotMembers, gotMonitors []string
	for _, m := range c.Members {
		gotMembers = append(gotMembers, m.ID)
	}
	for _, m := range c.Monitors {
		gotMonitors = append(gotMonitors, m.Monitor.ID)
		if m.Association.PoolID != pool || m.Association.MonitorID != m.Monitor.ID {
			t.Errorf("association: %+v", m.Association)
		}
	}
	if !slices.Equal(gotMembers, members) || !slices.Equal(gotMonitors, monitors) {
		t.Errorf("members %v, want %v; monitors %v, want %v", gotMembers, members, gotMonitors, monitors)
	}
	ids, err := f.svc.PoolIDs(t.Context())
	if err != nil || !slices.Equal(ids, []string{pool, other}) {
		t.Errorf("pools %v %v", ids, err)
	}
	f.delete(lbaas.VIPs, vip)
	f.delete(lbaas.Pools, pool)
	if _, err := f.svc.PoolConfig(t.Context(), pool); !lbaas.IsNotFound(err) {
		t.Errorf("a pool that is gone: %v", err)
	}
}

func TestSetStatuses(t *testing.T) {
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{})
	pool := f.pool()
	member, monitor := f.member(pool, "10.0.0.9"), f.monitor()
	if err := f.svc.Associate(t.Context(), admin, pool, object{"id": monitor}); err != nil {
		t.Fatal(err)
	}
	vip := f.create(lbaas.VIPs, f.vipBody(pool))
	reports := func(status lbaas.Status, why string) []lbaas.Report {
		return reportsOf(f.config(pool), status, why)
	}
	set := func(news []lbaas.Report) {
		t.Helper()
		if err := f.svc.SetStatuses(t.Context(), news...); err != nil {
			t.Fatal(err)
		}
	}
	statuses := func() []lbaas.State {
		c := f.config(pool)
		return []lbaas.State{c.Pool.State, c.VIP.State, c.Members[0].State, c.Monitors[0].Association.State}
	}
	set(reports(lbaas.StatusError, "a\x1b\u202eb"+strings.Repeat("c", 300)))
	for i, got := range statuses() {
		if got.Status != lbaas.StatusError || !strings.HasPrefix(got.StatusDescription, "a  bccc") ||
			len(got.StatusDescription) != 255 {
			t.Errorf("%d: %+v", i, got)
		}
	}
	active := reports(lbaas.StatusActive, "")
	set(active)
	for i, got := range statuses() {
		if got != (lbaas.State{Status: lbaas.StatusActive}) {
			t.Errorf("%d: %+v", i, got)
		}
	}
	f.showsActive(vip)
	before := f.store.updates.Load()
	set(active)
	if n := f.store.updates.Load() - before; n != 0 {
		t.Errorf("reports that say nothing new cost %d writes", n)
	}
	// An outdated success must not cover a newer intent.
	f.update(lbaas.VIPs, vip, object{"name": "n"})
	f.update(lbaas.Members, member, object{"weight": "2"})
	f.update(lbaas.Pools, pool, object{"name": "n"})
	set(active)
	for i, got := range statuses()[:3] {
		if got.Status != lbaas.StatusPendingUpdate {
			t.Errorf("%d: %+v after an outdated report", i, got)
		}
	}
	f.delete(lbaas.Members, member)
	set(active)
	if err := f.svc.SetStatuses(t.Context(), lbaas.Report{Kind: "port", ID: vip}); err == nil {
		t.Error("a report of an unknown kind was taken")
	}
}

// reportsOf says the same of everything that a pool consists of.
func reportsOf(c lbaas.PoolConfig, status lbaas.Status, why string) []lbaas.Report {
	member, association := c.Members[0], c.Monitors[0].Association
	return []lbaas.Report{
		{Kind: lbaas.KindPool, ID: c.Pool.ID, Generation: c.Pool.Generation, Status: status, Description: why},
		{Kind: lbaas.KindVIP, ID: c.VIP.ID, Generation: c.VIP.Generation, Status: status, Description: why},
		{Kind: lbaas.KindMember, ID: member.ID, Generation: member.Generation, Status: status, Description: why},
		{Kind: lbaas.KindAssociation, ID: association.MonitorID, PoolID: c.Pool.ID,
			Generation: association.Generation, Status: status, Description: why},
	}
}

func (f *fixture) showsActive(vip string) {
	f.t.Helper()
	o := f.show(lbaas.VIPs, vip)
	if o["status"] != "ACTIVE" || o["status_description"] != nil {
		f.t.Errorf("vip: %v", o)
	}
	if port := f.show(lbaas.Ports, o["port_id"].(string)); port["status"] != "ACTIVE" {
		f.t.Errorf("port: %v", port)
	}
}

// TestAddressesFollow: changes of ports and subnets leave the records of
// addresses in step, and the search for free ones begins where it has to.
func TestAddressesFollow(t *testing.T) {
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{})
	port := f.create(lbaas.Ports, object{"network_id": f.network, "fixed_ips": []any{object{"ip_address": "10.0.0.9"}}})
	f.update(lbaas.Ports, port, object{"fixed_ips": []any{object{"ip_address": "10.0.0.8"}, object{"ip_address": "10.0.0.7"}}})
	f.check()
	f.update(lbaas.Ports, port, object{"fixed_ips": []any{object{"ip_address": "10.0.0.7"}, object{"ip_address": "10.0.0.9"}}})
	f.check()
	vip := f.create(lbaas.VIPs, f.vipBody(f.pool()))
	f.update(lbaas.VIPs, vip, object{"snat_addresses": []any{"10.0.0.20", "10.0.0.21"}})
	f.check()
	f.update(lbaas.VIPs, vip, object{"snat_addresses": []any{"10.0.0.21", "10.0.0.22"}})
	f.check()
	ranges := func(start, end string) {
		f.update(lbaas.Subnets, f.subnet, object{"allocation_pools": []any{object{"start": start, "end": end}}})
	}
	next := func() any { return f.show(lbaas.VIPs, f.create(lbaas.VIPs, f.vipBody(f.pool())))["address"] }
	ranges("10.0.0.100", "10.0.0.110")
	if got := next(); got != "10.0.0.100" {
		t.Errorf("in the new range: %v", got)
	}
	ranges("10.0.0.50", "10.0.0.110")
	if got := next(); got != "10.0.0.50" {
		t.Errorf("in the wider range: %v", got)
	}
}

// TestPendingDelete: what is being deleted can't be changed, nor used.
func TestPendingDelete(t *testing.T) {
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{})
	pool, going := f.pool(), f.pool()
	vip := f.create(lbaas.VIPs, f.vipBody(pool))
	c := f.config(going)
	report := lbaas.Report{Kind: lbaas.KindPool, ID: going, Generation: c.Pool.Generation, Status: lbaas.StatusPendingDelete}
	if err := f.svc.SetStatuses(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	_, update := f.svc.Update(t.Context(), admin, lbaas.Pools, going, object{"name": "n"})
	_, create := f.try(lbaas.VIPs, f.vipBody(going))
	_, move := f.svc.Update(t.Context(), admin, lbaas.VIPs, vip, object{"pool_id": going})
	for what, err := range map[string]error{"update": update, "create": create, "move": move} {
		var e *lbaas.Error
		if !errors.As(err, &e) || e.Type != "StateInvalid" || e.Code != 409 {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.delete(lbaas.Pools, going)
}

type source func(pool string) (lbaas.Counters, bool)

func (s source) PoolStats(_ context.Context, pool string) (lbaas.Counters, bool) { return s(pool) }

func TestStats(t *testing.T) {
	var live lbaas.Counters
	deployed := true
	var during func()
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{Stats: source(func(string) (lbaas.Counters, bool) {
		if do := during; do != nil {
			during = nil
			do()
		}
		return live, deployed
	})})
	pool := f.pool()
	want := func(in, out, active, total uint64) {
		t.Helper()
		got, err := f.svc.Stats(t.Context(), admin, pool)
		if err != nil || got != (lbaas.Counters{BytesIn: in, BytesOut: out, ActiveConnections: active, TotalConnections: total}) {
			t.Errorf("stats %+v %v, want %d %d %d %d", got, err, in, out, active, total)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want(0, 0, 0, 0)
	live = lbaas.Counters{BytesIn: 1, BytesOut: 2, ActiveConnections: 3, TotalConnections: 4}
	want(1, 2, 3, 4)
	must(f.svc.CloseStats(t.Context(), pool, live))
	want(1, 2, 0, 4) // still deployed, but counted already
	must(f.svc.CloseStats(t.Context(), pool, live))
	want(1, 2, 0, 4)
	deployed = false
	want(1, 2, 0, 4)
	if !f.config(pool).Pool.Stats.Closed {
		t.Error("the configuration does not say that the stats are closed")
	}
	must(f.svc.OpenStats(t.Context(), pool))
	must(f.svc.OpenStats(t.Context(), pool))
	deployed, live = true, lbaas.Counters{BytesIn: 10, BytesOut: 20, ActiveConnections: 1, TotalConnections: 5}
	want(11, 22, 1, 9)
	// The deployment ends while its counters are read: neither twice nor not at all.
	during = func() {
		must(f.svc.CloseStats(context.Background(), pool, live))
	}
	want(11, 22, 0, 9)
	must(f.svc.CloseStats(t.Context(), "11111111-2222-3333-4444-555555555555", live))
	f.update(lbaas.Pools, pool, object{"name": "n"})
	want(11, 22, 0, 9)
	if _, err := f.svc.Stats(t.Context(), lbaas.Caller{TenantID: "other"}, pool); typeOf(err) != "PoolNotFound" {
		t.Errorf("stats for another project: %v", err)
	}
}

type told func(ids ...string)

func (f told) PoolsChanged(ids ...string) { f(ids...) }

func (f told) RoutersChanged(...string) {}

// TestNotify: the node hears of a change after it is there to be read, of a
// refused one not at all, and of an uncertain one too.
func TestNotify(t *testing.T) {
	var f *fixture
	var heard []string
	f = newFixture(t, "10.0.0.0/24", lbaas.Options{Notifier: told(func(ids ...string) {
		heard = append(heard, ids...)
		for _, id := range ids {
			if _, err := f.svc.PoolConfig(context.Background(), id); err != nil && !lbaas.IsNotFound(err) {
				t.Errorf("read when told: %v", err)
			}
		}
	})})
	take := func() string {
		ids := strings.Join(heard, " ")
		heard = nil
		return ids
	}
	pool := f.pool()
	steps := f.notifySteps(pool)
	take()
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := take(); got != step.want {
			t.Errorf("%s: told of %q, want %q", step.name, got, step.want)
		}
	}
	f.store.after = lbaas.ErrUncertain
	err := f.svc.Delete(t.Context(), admin, lbaas.Pools, pool)
	f.store.after = nil
	if got := take(); !errors.Is(err, lbaas.ErrUncertain) || got != pool {
		t.Errorf("an uncertain change: %v, told of %q", err, got)
	}
}

// notifyStep is a change and the pools that it touches.
type notifyStep struct {
	name string
	do   func() error
	want string
}

func (f *fixture) notifySteps(pool string) []notifyStep {
	t := f.t
	member, monitor := f.member(pool, "10.0.0.9"), f.monitor()
	vip := f.create(lbaas.VIPs, f.vipBody(pool))
	return []notifyStep{
		{"update a pool", func() error { _, err := f.svc.Update(t.Context(), admin, lbaas.Pools, pool, object{}); return err }, pool},
		{"update a member", func() error { _, err := f.svc.Update(t.Context(), admin, lbaas.Members, member, object{}); return err }, pool},
		{"update a monitor in no pool", func() error {
			_, err := f.svc.Update(t.Context(), admin, lbaas.HealthMonitors, monitor, object{})
			return err
		}, ""},
		{"associate", func() error { return f.svc.Associate(t.Context(), admin, pool, object{"id": monitor}) }, pool},
		{"update its monitor", func() error {
			_, err := f.svc.Update(t.Context(), admin, lbaas.HealthMonitors, monitor, object{})
			return err
		}, pool},
		{"rename the subnet", func() error {
			_, err := f.svc.Update(t.Context(), admin, lbaas.Subnets, f.subnet, object{"name": "n"})
			return err
		}, ""},
		{"take the gateway away", func() error {
			_, err := f.svc.Update(t.Context(), admin, lbaas.Subnets, f.subnet, object{"gateway_ip": nil})
			return err
		}, pool},
		{"disassociate", func() error { return f.svc.Disassociate(t.Context(), admin, pool, monitor) }, pool},
		{"delete a member", func() error { return f.svc.Delete(t.Context(), admin, lbaas.Members, member) }, pool},
		{"delete the vip", func() error { return f.svc.Delete(t.Context(), admin, lbaas.VIPs, vip) }, pool},
	}
}

// TestReadOnlyStore: a service over a backup answers what it can.
func TestReadOnlyStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qlbaas.db")
	db, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := lbaas.New(t.Context(), lbaas.Options{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Create(t.Context(), admin, lbaas.Networks, object{}); err != nil {
		t.Fatal(err)
	}
	agents, err := svc.Agents(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Backup(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	copied, err := store.Open(store.BackupPath(path), store.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if svc, err = lbaas.New(t.Context(), lbaas.Options{Store: copied}); err != nil {
		t.Fatal(err)
	}
	if again, err := svc.Agents(t.Context(), admin); err != nil || again[0]["id"] != agents[0]["id"] {
		t.Errorf("agent %v %v, want the id %v", again, err, agents[0]["id"])
	}
	page, err := svc.List(t.Context(), admin, lbaas.Networks, lbaas.Query{})
	if err != nil || len(page.Objects) != 1 {
		t.Errorf("networks %v %v", page, err)
	}
	if _, err := svc.Create(t.Context(), admin, lbaas.Networks, object{}); !errors.Is(err, lbaas.ErrStoreReadOnly) {
		t.Errorf("a change: %v", err)
	}
}
