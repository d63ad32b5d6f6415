package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qlbaas/cmd/qlbaas/agent"
	"qlbaas/cmd/qlbaas/cmdline"
	"qlbaas/loader"
	"qlbaas/loader/router"
)

// fakeNode is a data plane in memory. It outlives the agents that open it, as
// the real one does.
type fakeNode struct {
	mu      sync.Mutex
	locked  bool
	applied map[string]loader.Balancer
	routers map[string]router.Router
	changed chan struct{} // closed and replaced at every change
}

func newFakeNode(deployed ...string) *fakeNode {
	n := &fakeNode{applied: map[string]loader.Balancer{}, routers: map[string]router.Router{}, changed: make(chan struct{})}
	for _, id := range deployed {
		n.applied[id] = loader.Balancer{PoolID: id}
	}
	return n
}

func (n *fakeNode) open(context.Context, agent.Config, *slog.Logger) (agent.Node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.locked {
		return nil, loader.ErrLocked
	}
	n.locked = true
	return n, nil
}

func (n *fakeNode) change(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
	close(n.changed)
	n.changed = make(chan struct{})
}

// until waits for a state of the node.
func (n *fakeNode) until(t *testing.T, what string, is func(applied map[string]loader.Balancer) bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		n.mu.Lock()
		done, changed := is(n.applied), n.changed
		n.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s: did not happen", what)
		}
	}
}

func (n *fakeNode) Close() error { n.change(func() { n.locked = false }); return nil }

func (n *fakeNode) Apply(_ context.Context, b loader.Balancer) error {
	n.change(func() { n.applied[b.PoolID] = b })
	return nil
}

func (n *fakeNode) Remove(_ context.Context, id string) error {
	n.change(func() { delete(n.applied, id) })
	return nil
}

func (n *fakeNode) Deployed() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.applied)), nil
}

func (n *fakeNode) get(id string) (loader.Balancer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, ok := n.applied[id]
	if !ok {
		return b, loader.ErrNotDeployed
	}
	return b, nil
}

func (n *fakeNode) Stats(id string) (loader.Stats, error) {
	_, err := n.get(id)
	return loader.Stats{Counters: loader.Counters{BytesIn: 42}}, err
}

func (n *fakeNode) Status(id string) (loader.PoolStatus, error) {
	b, err := n.get(id)
	return loader.PoolStatus{PoolID: id, Hook: "tcx", Tag: "cafe", Generation: 1, MembersUp: len(b.Members), MembersTotal: len(b.Members), FlowsLimit: 16384}, err
}

func (n *fakeNode) Budget() loader.BudgetStatus { return loader.BudgetStatus{Used: 1, Limit: 2} }

func (n *fakeNode) Admit(b loader.Balancer) error {
	if b.VIP.FlowLimit > 1<<20 {
		return loader.ErrOverBudget
	}
	return nil
}

func (n *fakeNode) SetMemberUp(string, string, bool) error    { return nil }
func (n *fakeNode) MemberUp(string, string) (up, known bool)  { return true, true }
func (n *fakeNode) Sweep(context.Context) error               { return nil }
func (n *fakeNode) Refresh(context.Context) ([]string, error) { return nil, nil }
func (n *fakeNode) Socket(_ string, _, _, _ int) (int, error) {
	return -1, errors.New("no sockets here")
}

func (n *fakeNode) Inside(string, func() error) error { return loader.ErrNotDeployed }

// machine is a host with directories of its own, on which commands are run.
type machine struct {
	t    *testing.T
	node *fakeNode
	dir  string
}

func newMachine(t *testing.T, deployed ...string) *machine {
	return &machine{t: t, node: newFakeNode(deployed...), dir: t.TempDir()}
}

func (m *machine) api() string { return "unix://" + m.dir + "/run/api.sock" }

func (m *machine) env(stdout, stderr io.Writer) env {
	return env{stdout: stdout, stderr: stderr, open: m.node.open, getenv: func(key string) string {
		return map[string]string{"QLBAAS_API": m.api()}[key]
	}}
}

// run runs one command and returns what it printed.
func (m *machine) run(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	err := run(m.t.Context(), append([]string{"qlbaas"}, args...), m.env(&out, &errs))
	return out.String(), errs.String(), cmdline.ExitCode(err)
}

// do is run for commands that must work; it returns their JSON.
func (m *machine) do(args ...string) map[string]any {
	m.t.Helper()
	out, errs, code := m.run(append(args, "-o", "json")...)
	if code != 0 {
		m.t.Fatalf("%q: exit %d: %s", args, code, errs)
	}
	object := map[string]any{}
	if out != "" && out[0] == '{' {
		if err := json.Unmarshal([]byte(out), &object); err != nil {
			m.t.Fatalf("%q: %v in %s", args, err, out)
		}
	}
	return object
}

// agentArgs keep an agent within the machine's directory.
func (m *machine) agentArgs(more ...string) []string {
	return append([]string{
		"qlbaas", "agent", "--state-dir", m.dir + "/state", "--run-dir", m.dir + "/run",
		"--bpffs", m.dir + "/bpf",
	}, more...)
}

// start runs an agent until stop, which returns its error and its log. It
// returns once the service manager was told that the agent is ready.
func (m *machine) start(more ...string) (stop func() (string, error)) {
	m.t.Helper()
	socket := filepath.Join(m.t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Setenv("NOTIFY_SOCKET", socket)
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, m.agentArgs(more...), m.env(io.Discard, &log)) }()
	ready := make(chan string, 1)
	go func() {
		buf := make([]byte, 100)
		n, _ := manager.Read(buf)
		ready <- string(buf[:n])
		manager.Close()
	}()
	select {
	case word := <-ready:
		if word != "READY=1" {
			m.t.Fatalf("the service manager was told %q", word)
		}
	case err := <-ended:
		m.t.Fatalf("the agent ended: %v\n%s", err, log.String())
	}
	return func() (string, error) {
		cancel()
		err := <-ended
		return log.String(), err
	}
}

// TestStory plays the commands of a user from network to deletion.
func TestStory(t *testing.T) {
	m := newMachine(t)
	stop := m.start()
	m.do("net", "create", "net1", "--provider:physical_network", "br0")
	m.do("subnet", "create", "net1", "172.16.100.0/24", "--name", "lan", "--allocation-pool", "start=172.16.100.11,end=172.16.100.20")
	pool := m.do("pool", "create", "--name", "web servers", "--lb-method", "ROUND_ROBIN", "--protocol", "HTTP", "--subnet-id", "lan")["id"].(string)
	vip := m.do("vip", "create", "web servers", "--name", "v", "--protocol-port", "80", "--protocol", "HTTP", "--subnet-id", "lan", "--session-persistence", "type=SOURCE_IP")
	if vip["address"] != "172.16.100.11" {
		t.Errorf("vip %v", vip)
	}
	member := m.do("member", "create", "web servers", "--address", "172.16.100.9", "--protocol-port", "80")["id"].(string)
	monitor := m.do("monitor", "create", "--type", "HTTP", "--delay", "10", "--timeout", "5", "--max-retries", "3")["id"].(string)
	m.do("monitor", "associate", monitor, "web servers")
	m.node.until(t, "persistent pool with its member", func(applied map[string]loader.Balancer) bool {
		b := applied[pool]
		return b.VIP.Persistence == loader.SourceIPPersistence && len(b.Members) == 1 && b.VIP.Bridge == "br0" &&
			b.VIP.Address.String() == "172.16.100.11/24" && b.VIP.Gateway.String() == "172.16.100.1"
	})
	m.do("vip", "update", "v", "--session-persistence", "action=clear")
	m.node.until(t, "no persistence", func(applied map[string]loader.Balancer) bool {
		return applied[pool].VIP.Persistence == loader.NoPersistence
	})
	m.becomes("ACTIVE", "pool", "show", "web servers")
	m.becomes("ACTIVE", "vip", "show", "v")
	m.becomes("ACTIVE", "member", "show", member)
	m.checkAnswers()
	// A second agent is refused while the first one runs, and the data plane stays
	// when it stops.
	if _, errs, code := m.run(m.agentArgs()[1:]...); code != 1 || !strings.Contains(errs, "locked by another daemon") {
		t.Errorf("second agent: exit %d, %s", code, errs)
	}
	if log, err := stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, log)
	}
	if len(m.node.applied) != 1 || m.node.locked {
		t.Error("stopping the agent touched the data plane, or kept its lock")
	}
	if _, _, code := m.run("pool", "list"); code != 3 {
		t.Errorf("without an agent: exit %d", code)
	}
	// The next one knows everything, and deletes it.
	stop = m.start()
	m.do("vip", "delete", "v")
	m.node.until(t, "undeployed", func(applied map[string]loader.Balancer) bool { return len(applied) == 0 })
	if stats := m.do("pool", "stats", "web servers"); stats["bytes_in"] != 42.0 {
		t.Errorf("stats after the vip is gone: %v", stats)
	}
	m.do("pool", "delete", "web servers")
	if log, err := stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, log)
	}
}

// checkAnswers looks at what the story's pool looks like from outside, and at how
// mistakes are answered.
func (m *machine) checkAnswers() {
	m.t.Helper()
	if stats := m.do("pool", "stats", "web servers"); stats["bytes_in"] != 42.0 {
		m.t.Errorf("stats %v", stats)
	}
	status := m.do("status")
	pools := status["pools"].([]any)
	if status["hook"] != "tcx" || status["budget_limit"] != 2.0 || len(pools) != 1 || pools[0].(map[string]any)["program_tag"] != "cafe" {
		m.t.Errorf("status %v", status)
	}
	if out, _, code := m.run("status"); code != 0 || !strings.Contains(out, "web servers") {
		m.t.Errorf("status as table, exit %d:\n%s", code, out)
	}
	if _, errs, code := m.run("vip", "update", "v", "--flow-limit", "4194304"); code != 1 || !strings.Contains(errs, "budget") {
		m.t.Errorf("over budget: exit %d, %s", code, errs)
	}
	if _, errs, code := m.run("member", "create", "web servers", "--address", "172.16.100.10", "--protocol-port", "eighty"); code != 1 || !strings.Contains(errs, "protocol_port") {
		m.t.Errorf("bad port: exit %d, %s", code, errs)
	}
}

// becomes polls an object's status, as a user's script does.
func (m *machine) becomes(status string, args ...string) {
	m.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := m.do(args...)["status"]
		if got == status {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%q: status stays %v", args, got)
		}
	}
}
