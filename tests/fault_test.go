package tests

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qlbaas/tests/lab"
)

// database is the store's file.
func (a *agent) database() string { return filepath.Join(a.state, "qlbaas.db") }

// TestDatabaseLost: without its database the agent does not start, and nothing that
// forwards is touched, until somebody says what to do.
func TestDatabaseLost(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{})
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(4)
	w.stop()
	kept := w.database() + ".kept"
	for name, lose := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
	} {
		w.test(name, func(w *world) {
			w.copy(w.database(), kept)
			defer w.rename(kept, w.database())
			if err := lose(w.database()); err != nil {
				w.t.Fatal(err)
			}
			_, code, said := w.runsTo(patience)
			if code == 0 || !strings.Contains(said, w.database()) || !strings.Contains(said, "--accept-empty") {
				w.t.Errorf("exit code %d, %s", code, said)
			}
			w.mustEcho(append(flows, b.open())...)
		})
	}
	w.start()
	w.mustEcho(append(flows, b.open())...)
}

func (w *world) rename(from, to string) {
	w.t.Helper()
	if err := os.Rename(from, to); err != nil {
		w.t.Error(err)
	}
}

func (w *world) copy(from, to string) {
	w.t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestDatabaseDamaged: its backup answers questions; nothing is changed, and all
// goes on forwarding.
func TestDatabaseDamaged(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{})
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(4)
	until(t, patience, func() error { // a backup is made when the store is quiet
		found, err := filepath.Glob(w.database() + "?*")
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("there is no backup")
		}
		return err
	})
	w.stop()
	good := w.database() + ".good"
	w.copy(w.database(), good)
	noise := make([]byte, 64<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.database(), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	w.expect("the database is damaged")
	w.expect("the store is read-only")
	w.start()
	if name := w.show(pools, b.id).text("name"); name != t.Name() {
		t.Errorf("the backup calls the pool %q", name)
	}
	got, err := w.request("PUT", pools.path+"/"+b.id, object{"pool": object{"name": "new"}})
	if err != nil || got.code < 500 {
		t.Errorf("a change: %v %d: %s", err, got.code, got.body)
	}
	w.mustEcho(append(flows, b.open())...)
	w.stop()
	w.rename(good, w.database())
	w.start()
	b.setPool(object{"name": "new"})
	w.mustEcho(append(flows, b.open())...)
}

// TestReboot: nothing is left but the database, and everything comes back.
func TestReboot(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		b := w.balance(balancerOptions{})
		idle := w.balance(balancerOptions{at: b.beside(1), vip: object{"admin_state_up": false}})
		b.ask(4)
		w.stop()
		for _, one := range []*balancer{b, idle} {
			if err := lab.Remove(one.netns()); err != nil {
				w.t.Fatal(err)
			}
		}
		for _, dir := range []string{w.bpffs, w.run} {
			if err := os.RemoveAll(dir); err != nil {
				w.t.Fatal(err)
			}
		}
		start := time.Now()
		w.start()
		if err := inTurn(b.ask(20), "WEB1", "WEB2"); err != nil {
			w.t.Error(err)
		}
		if took := time.Since(start); took > anyHeals {
			w.t.Errorf("forwards after %s, want %s at most", took, anyHeals)
		}
		idle.setVIP(object{"admin_state_up": true})
		idle.ask(2)
	})
}

// TestLeftovers: what half-made or foreign things an agent finds does not keep it
// from its work, and what is of no pool that it knows is cleared away.
func TestLeftovers(t *testing.T) {
	const unknown, halfMade = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	w := newWorld(t, "auto", lab.TutorialOptions{})
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	f := b.open()
	w.stop()
	w.pools = append(w.pools, unknown, halfMade)
	w.expect(unknown)
	w.expect(halfMade)
	ctx := bounded(t, patience)
	for _, command := range [][]string{
		{"ip", "netns", "add", "qlbaas-" + unknown},
		{"touch", "/run/netns/qlbaas-" + halfMade},
		{"touch", "/run/netns/qlbaas-not-a-pool"},
		{"mkdir", "-p", filepath.Join(w.bpffs, "pools", unknown, layout, "maps")},
	} {
		if _, err := w.Node.Run(ctx, command[0], command[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	w.mustEcho(f, b.open())
	until(t, patience, func() error {
		left, err := lab.Namespaces("qlbaas-")
		if err == nil && len(left) != 2 { // the pool's, and the one that is not ours
			err = fmt.Errorf("left are %v", left)
		}
		return err
	})
	if err := os.Remove("/run/netns/qlbaas-not-a-pool"); err != nil {
		t.Error(err)
	}
}
