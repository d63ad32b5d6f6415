package tests

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"qlbaas/tests/lab"
)

func TestRestart(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{Members: 3}, func(w *world) {
		w.test("requests during changes and kill -9", restartUnderLoad)
		w.test("what is there is adopted", restartAdopts)
		w.test("a member that is down stays down", restartKeepsVerdicts)
		w.test("nothing listens while the agent is dead", restartWhileDead)
		w.test("changes before a crash are made after it", restartFinishes)
	})
}

// restartUnderLoad: neither changes of every kind nor the agent's sudden death cost
// a request or a connection.
func restartUnderLoad(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(webPort)[:2]})
	held := w.balance(balancerOptions{endpoints: w.endpoints(echoPort), at: b.beside(1)})
	flows := held.openMany(10)
	load := b.load(1000)
	round := func() {
		b.setMember(0, object{"weight": 3})
		b.setPool(object{"lb_method": "LEAST_CONNECTIONS"})
		b.setVIP(object{"session_persistence": object{"type": "SOURCE_IP"}})
		monitor := b.monitor(object{"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 3})
		b.setVIP(object{"name": "edited", "connection_limit": 5000, "idle_timeout": 600})
		b.addMember(w.endpoints(webPort)[2], 1)
		b.settle()
		b.setPool(object{"lb_method": "SOURCE_IP"})
		b.setVIP(object{"session_persistence": nil})
		b.dropMonitor(monitor)
		b.dropMember(2)
		b.setMember(0, object{"weight": 1})
		b.setPool(object{"lb_method": "ROUND_ROBIN"})
	}
	round()
	w.restart()
	w.mustEcho(flows...)
	round()
	w.restart()
	round()
	load.end(w)
	w.mustEcho(flows...)
	if err := inTurn(b.ask(20), "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
}

// attachment tells one attached program from another: the kernel's numbers of the
// pinned links and of the programs in them, or what tc says of the filter.
func (w *world) attachment(b *balancer) string {
	w.t.Helper()
	var all []string
	pins, err := filepath.Glob(b.pin("links", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, pin := range pins {
		l, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		info, err := l.Info()
		l.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s: link %d program %d", filepath.Base(pin), info.ID, info.Program))
	}
	if w.hook == "clsact" {
		out := w.inside(b, "tc", "filter", "show", "dev", b.inside(), "ingress")
		if !strings.Contains(out, "tc_lb") {
			w.t.Fatalf("no filter: %s", out)
		}
		all = append(all, out)
	}
	if len(all) == 0 {
		w.t.Fatal("nothing is attached")
	}
	return strings.Join(all, "\n")
}

// restartAdopts: the programs stay, and so does what they have counted.
func restartAdopts(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(6)
	w.mustEcho(flows...)
	attached, generation, stats := w.attachment(b), b.generation(), b.stats()
	tag := w.status(b.id).text("program_tag")
	w.restart()
	w.mustEcho(flows...)
	if now := w.attachment(b); now != attached {
		w.t.Errorf("attached was\n%s\nand is now\n%s", attached, now)
	}
	if now := w.status(b.id).text("program_tag"); now != tag || tag == "" {
		w.t.Errorf("the program's tag was %q and is %q", tag, now)
	}
	if now := b.generation(); now < generation {
		w.t.Errorf("the generation was %v and is %v", generation, now)
	}
	b.grown(stats)
	if now := b.stats(); now.number("total_connections") != 6 || now.number("active_connections") != 6 {
		w.t.Errorf("6 connections are counted as %v", now)
	}
	w.stop()
	w.mustEcho(flows...)
	w.start()
	w.mustEcho(append(flows, b.open())...)
	if now := w.attachment(b); now != attached {
		w.t.Errorf("after SIGTERM attached is\n%s\nand was\n%s", now, attached)
	}
}

// grown wants no counter to be lower than before.
func (b *balancer) grown(before object) {
	b.w.t.Helper()
	now := b.stats()
	for _, name := range []string{"bytes_in", "bytes_out", "total_connections"} {
		if now.number(name) < before.number(name) {
			b.w.t.Errorf("%s was %v and is %v", name, before.number(name), now.number(name))
		}
	}
}

// restartKeepsVerdicts: a new agent does not try its luck with clients.
func restartKeepsVerdicts(w *world) {
	b := w.balance(balancerOptions{})
	b.monitor(object{"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1})
	w.mood(0, (*lab.Web).Refuse)
	b.awaitMember(0, false)
	load := b.load(200)
	w.restart()
	if status := b.listMembers()[0].text("status"); status != "INACTIVE" {
		w.t.Errorf("the member that is down is %s", status)
	}
	load.end(w)
	w.mood(0, (*lab.Web).Answer)
	b.awaitMember(0, true)
}

// restartWhileDead: without an agent and without its program the VIP is silent; a
// RST would end every connection.
func restartWhileDead(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	w.expect(b.id) // that it no longer looks as it was applied
	flows := b.openMany(10)
	w.kill9()
	w.mustEcho(append(flows, b.open())...)
	w.detach(b)
	resumed := make(chan error, len(flows))
	for _, f := range flows {
		go func() { resumed <- f.echo() }()
	}
	first := b.begin(bounded(w.t, patience))
	select {
	case err := <-resumed:
		w.t.Fatalf("an echo without a program: %v", err)
	case r := <-first:
		w.t.Fatalf("an answer without a program: %v", r.err)
	case <-time.After(500 * time.Millisecond): // several retransmissions
	}
	w.start()
	for range flows {
		if err := <-resumed; err != nil {
			w.t.Errorf("a connection broke: %v", err)
		}
	}
	w.mustEcho(first.made(w))
}

// restartFinishes: what the API has accepted is made, however soon the agent dies.
func restartFinishes(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(webPort)[:2]})
	b.addMember(netip.AddrPortFrom(w.spare(0), webPort), 0)
	w.remove(members, b.members[2])
	w.remove(members, b.members[0])
	w.restart()
	b.settle()
	b.members = b.members[1:2]
	until(w.t, patience, func() error {
		if n := w.status(b.id).number("members_total"); n != 1 {
			return fmt.Errorf("%v members are deployed, want 1", n)
		}
		return nil
	})
	if name := w.only(b.ask(5)); name != "WEB2" {
		w.t.Errorf("answered by %s", name)
	}
	w.remove(vips, b.vip)
	w.restart()
	b.vip = ""
	until(w.t, patience, func() error {
		if left, err := lab.Namespaces(b.netns()); err != nil || len(left) > 0 {
			return fmt.Errorf("%v is left: %w", left, err)
		}
		return nil
	})
}

// TestSecondAgent: whoever comes second goes, and says who was first.
func TestSecondAgent(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{})
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(4)
	other := newAgent(t, w.Node)
	for name, change := range map[string]func(second *agent){
		"the same directories":   func(s *agent) { s.state, s.run, s.bpffs = w.state, w.run, w.bpffs },
		"another state":          func(s *agent) { s.run, s.bpffs = w.run, w.bpffs },
		"the same bpffs only":    func(s *agent) { s.bpffs = w.bpffs },
		"the same database only": func(s *agent) { s.state = w.state },
	} {
		w.test(name, func(w *world) {
			second := &agent{w.t, new(daemon)}
			*second.daemon = *other.daemon
			change(second)
			took, code, said := second.runsTo(patience)
			if took > time.Second || code == 0 {
				w.t.Errorf("it ended after %s with code %d", took, code)
			}
			if !strings.Contains(said, fmt.Sprintf("process %d", w.process.Pid())) {
				w.t.Errorf("it does not say who holds what it wants, process %d: %s", w.process.Pid(), said)
			}
			w.mustEcho(append(flows, b.open())...)
		})
	}
}
