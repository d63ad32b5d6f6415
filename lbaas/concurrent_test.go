package lbaas_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"qlbaas/lbaas"
)

// worker is one of several that change the same few pools at once.
type worker struct {
	f      *fixture
	random *rand.Rand
	pools  []string
	// made and gone are the ids that a create and a delete answered for.
	made, gone map[lbaas.Collection][]string
}

// known lists what a worker may be told, because others are faster.
func known() []string {
	return []string{"", "PoolNotFound", "VipNotFound", "MemberNotFound", "HealthMonitorNotFound", "VipExists",
		"MemberExists", "PoolInUse", "HealthMonitorInUse", "IpAddressGenerationFailure", "HTTPBadRequest",
		"PoolMonitorAssociationExists", "PoolMonitorAssociationNotFound"}
}

func (w *worker) pick(ids []string) string {
	if len(ids) == 0 {
		return "11111111-2222-3333-4444-555555555555"
	}
	return ids[w.random.IntN(len(ids))]
}

func (w *worker) create(coll lbaas.Collection, body object) error {
	id, err := w.f.try(coll, body)
	if err == nil {
		w.made[coll] = append(w.made[coll], id)
	}
	return err
}

func (w *worker) remove(coll lbaas.Collection) error {
	page, err := w.f.svc.List(context.Background(), admin, coll, lbaas.Query{Fields: []string{"id"}})
	if err != nil {
		return err
	}
	var ids []string
	for _, o := range page.Objects {
		ids = append(ids, o["id"].(string))
	}
	id := w.pick(ids)
	err = w.f.svc.Delete(context.Background(), admin, coll, id)
	if err == nil {
		w.gone[coll] = append(w.gone[coll], id)
	}
	return err
}

func (w *worker) step() error {
	ctx, pool := context.Background(), w.pick(w.pools)
	switch w.random.IntN(10) {
	case 0, 1:
		return w.create(lbaas.VIPs, w.f.vipBody(pool))
	case 2, 3:
		return w.create(lbaas.Members, object{"pool_id": pool, "protocol_port": "80",
			"address": fmt.Sprintf("10.0.0.%d", 2+w.random.IntN(13))})
	case 4:
		return w.remove(lbaas.VIPs)
	case 5:
		return w.remove(lbaas.Members)
	case 6:
		if w.random.IntN(4) > 0 {
			_, err := w.f.svc.PoolConfig(ctx, pool)
			return err
		}
		return w.remove(lbaas.Pools)
	case 7:
		_, err := w.f.svc.Update(ctx, admin, lbaas.VIPs, w.pick(w.made[lbaas.VIPs]), object{"pool_id": pool})
		return err
	case 8:
		return w.create(lbaas.HealthMonitors, object{"type": "TCP", "delay": "5", "timeout": "5", "max_retries": "3"})
	}
	return w.f.svc.Associate(ctx, admin, pool, object{"id": w.pick(w.made[lbaas.HealthMonitors])})
}

// TestConcurrent: many at once leave what was answered: each object that was
// made and not deleted is there, each delete happened once, and every index fits.
func TestConcurrent(t *testing.T) {
	f := newFixture(t, "10.0.0.0/28", lbaas.Options{})
	var pools []string
	for range 8 {
		pools = append(pools, f.pool())
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	workers := make([]*worker, 8)
	var wg sync.WaitGroup
	for i := range workers {
		w := &worker{f: f, random: rand.New(rand.NewPCG(seed, uint64(i))), pools: pools,
			made: map[lbaas.Collection][]string{}, gone: map[lbaas.Collection][]string{}}
		workers[i] = w
		wg.Go(func() {
			for range 150 {
				if err := w.step(); !slices.Contains(known(), typeOf(err)) {
					t.Errorf("worker %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	made := map[lbaas.Collection][]string{lbaas.Pools: pools}
	gone := map[lbaas.Collection][]string{}
	for _, w := range workers {
		for coll := range w.made {
			made[coll] = append(made[coll], w.made[coll]...)
		}
		for coll := range w.gone {
			gone[coll] = append(gone[coll], w.gone[coll]...)
		}
	}
	f.accounts(made, gone)
}

// accounts compares what is there with what was answered. Members also go with
// their pool.
func (f *fixture) accounts(made, gone map[lbaas.Collection][]string) {
	f.t.Helper()
	for _, coll := range []lbaas.Collection{lbaas.Pools, lbaas.VIPs, lbaas.Members, lbaas.HealthMonitors} {
		page, err := f.svc.List(context.Background(), admin, coll, lbaas.Query{})
		if err != nil {
			f.t.Fatal(err)
		}
		left := map[string]bool{}
		for _, o := range page.Objects {
			left[o["id"].(string)] = true
		}
		deleted := map[string]bool{}
		for _, id := range gone[coll] {
			if deleted[id] || left[id] {
				f.t.Errorf("%s %s: deleted twice, or still there", coll, id)
			}
			deleted[id] = true
		}
		for _, id := range made[coll] {
			if !deleted[id] && !left[id] && coll != lbaas.Members {
				f.t.Errorf("%s %s: made, not deleted, and not there", coll, id)
			}
			delete(left, id)
		}
		if len(left) > 0 {
			f.t.Errorf("%s %v: there, and nobody made them", coll, left)
		}
	}
}

// TestOneWins: of many that want the same place exactly one gets it.
func TestOneWins(t *testing.T) {
	f := newFixture(t, "10.0.0.0/24", lbaas.Options{})
	pool, other := f.pool(), f.pool()
	monitor := f.monitor()
	for name, c := range map[string]struct {
		do    func() error
		loses string
	}{
		"vip":       {func() error { _, err := f.try(lbaas.VIPs, f.vipBody(pool)); return err }, "VipExists"},
		"member":    {func() error { _, err := f.try(lbaas.Members, memberBody(pool)); return err }, "MemberExists"},
		"associate": {func() error { return f.svc.Associate(context.Background(), admin, pool, object{"id": monitor}) }, "PoolMonitorAssociationExists"},
		"address": {func() error {
			_, err := f.try(lbaas.Ports, object{"network_id": f.network,
				"fixed_ips": []any{object{"ip_address": "10.0.0.200"}}})
			return err
		}, "IpAddressInUse"},
		"delete": {func() error { return f.svc.Delete(context.Background(), admin, lbaas.Pools, other) }, "PoolNotFound"},
	} {
		answers := make(chan string, 16)
		for range cap(answers) {
			go func() { answers <- typeOf(c.do()) }()
		}
		wins := 0
		for range cap(answers) {
			switch got := <-answers; got {
			case "":
				wins++
			case c.loses:
			default:
				t.Errorf("%s: %s", name, got)
			}
		}
		if wins != 1 {
			t.Errorf("%s: %d were told that they got it", name, wins)
		}
	}
}

func memberBody(pool string) object {
	return object{"pool_id": pool, "address": "10.0.0.100", "protocol_port": "80"}
}
