package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qlbaas/loader"
)

const strangePool = "11111111-1111-4111-8111-111111111111"

// TestLostDatabase: deployed balancers beside a new database mean that it was
// lost. They are left alone unless the operator says otherwise.
func TestLostDatabase(t *testing.T) {
	for name, prepare := range map[string]func(file string) error{
		"missing": func(string) error { return nil },
		"empty":   func(file string) error { return os.WriteFile(file, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, strangePool)
			if err := os.MkdirAll(m.dir+"/state", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := prepare(filepath.Join(m.dir, "state/qlbaas.db")); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the file that the first try has made does not help
				_, errs, code := m.run(m.agentArgs()[1:]...)
				if code != 1 || !strings.Contains(errs, "--accept-empty") {
					t.Errorf("exit %d, %s", code, errs)
				}
			}
			if len(m.node.applied) != 1 || m.node.locked {
				t.Error("the refusal touched the data plane, or kept its lock")
			}
			stop := m.start("--accept-empty")
			m.node.until(t, "removal", func(applied map[string]loader.Balancer) bool { return len(applied) == 0 })
			if log, err := stop(); err != nil {
				t.Errorf("stop: %v\n%s", err, log)
			}
		})
	}
}

// TestOlderDatabase: a copy from before the last changes is not believed either.
func TestOlderDatabase(t *testing.T) {
	m := newMachine(t)
	file := filepath.Join(m.dir, "state/qlbaas.db")
	stop := m.start()
	m.do("net", "create", "n1")
	stop()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stop = m.start()
	m.do("net", "create", "n2")
	stop()
	stop = m.start() // makes the backup of what the last one has written
	stop()
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := m.run(m.agentArgs()[1:]...); code != 1 || !strings.Contains(errs, "--accept-empty") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// TestDamagedDatabase: the backup answers, refuses changes, and nothing on the
// node is touched.
func TestDamagedDatabase(t *testing.T) {
	m := newMachine(t)
	file := filepath.Join(m.dir, "state/qlbaas.db")
	stop := m.start()
	m.do("net", "create", "net1", "--provider:physical_network", "br0")
	m.do("subnet", "create", "net1", "172.16.100.0/24", "--name", "lan")
	pool := m.do("pool", "create", "--name", "web", "--lb-method", "ROUND_ROBIN", "--protocol", "TCP", "--subnet-id", "lan")["id"].(string)
	m.do("vip", "create", "web", "--name", "v", "--protocol-port", "80", "--protocol", "TCP", "--subnet-id", "lan")
	m.node.until(t, "deployed", func(applied map[string]loader.Balancer) bool { return len(applied) == 1 })
	stop()
	stop = m.start()
	stop()
	size := fileSize(t, file)
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	m.node.change(func() { m.node.applied[strangePool] = loader.Balancer{} })
	stop = m.start()
	if got := m.do("pool", "show", "web")["id"]; got != pool {
		t.Errorf("pool %v", got)
	}
	if _, errs, code := m.run("pool", "update", "web", "--name", "x"); code != 1 || errs == "" {
		t.Errorf("a change: exit %d, %s", code, errs)
	}
	if status := m.do("status"); status["read_only"] != true {
		t.Errorf("status %v", status)
	}
	log, err := stop()
	if err != nil || !strings.Contains(log, "damaged") {
		t.Errorf("stop: %v\n%s", err, log)
	}
	if len(m.node.applied) != 2 {
		t.Errorf("deployed: %v", m.node.applied)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
