package tests

import (
	"fmt"
	"testing"

	"qlbaas/tests/lab"
)

func TestRoundRobin(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{Members: 3}, func(w *world) {
		w.test("two members alternate", roundRobinOfTwo)
		w.test("three members, one down", roundRobinOneDown)
		for _, c := range []struct {
			weights []int
			cycle   []string
		}{
			{[]int{3, 1}, []string{"WEB1", "WEB1", "WEB2", "WEB1"}},
			{[]int{5, 1, 1}, []string{"WEB1", "WEB1", "WEB2", "WEB1", "WEB3", "WEB1", "WEB1"}},
			{[]int{256, 0, 128}, []string{"WEB1", "WEB3", "WEB1"}},
		} {
			w.test(fmt.Sprintf("weights %v", c.weights), func(w *world) {
				b := w.balance(balancerOptions{endpoints: w.endpoints(webPort)[:len(c.weights)], weights: c.weights})
				if err := inTurn(b.ask(10*len(c.cycle)), c.cycle...); err != nil {
					w.t.Error(err)
				}
			})
		}
		w.test("changes", roundRobinChanges)
	})
}

func roundRobinOfTwo(w *world) {
	b := w.balance(balancerOptions{endpoints: w.endpoints(webPort)[:2]})
	if err := inTurn(b.ask(100), "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
}

// roundRobinOneDown: the one that is down must not double its neighbour.
func roundRobinOneDown(w *world) {
	b := w.balance(balancerOptions{})
	if err := inTurn(b.ask(99), "WEB1", "WEB2", "WEB3"); err != nil {
		w.t.Error(err)
	}
	b.monitor(object{"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1})
	b.change(func() {
		w.mood(1, (*lab.Web).Refuse)
		b.awaitMember(1, false)
	})
	if err := inTurn(b.ask(50), "WEB1", "WEB3"); err != nil {
		w.t.Error(err)
	}
	b.change(func() {
		w.mood(1, (*lab.Web).Answer)
		b.awaitMember(1, true)
	})
	if err := inTurn(b.ask(51), "WEB1", "WEB2", "WEB3"); err != nil {
		w.t.Error(err)
	}
}

func roundRobinChanges(w *world) {
	e := w.endpoints(webPort)
	b := w.balance(balancerOptions{endpoints: e[:2]})
	b.setMember(0, object{"weight": 2})
	if err := inTurn(b.ask(30), "WEB1", "WEB2", "WEB1"); err != nil {
		w.t.Errorf("another weight: %v", err)
	}
	b.setMember(0, object{"weight": 1})
	b.addMember(e[2], 1)
	b.settle()
	if err := inTurn(b.ask(30), "WEB1", "WEB2", "WEB3"); err != nil {
		w.t.Errorf("a third member: %v", err)
	}
	b.dropMember(1)
	if err := inTurn(b.ask(30), "WEB1", "WEB3"); err != nil {
		w.t.Errorf("the second gone: %v", err)
	}
}

// mood changes a member's web server, as in mood(1, (*lab.Web).Hang), and mends it
// when the test ends.
func (w *world) mood(i int, change func(*lab.Web) error) {
	w.t.Helper()
	if err := change(w.webs[i]); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := w.webs[i].Answer(); err != nil {
			w.t.Error(err)
		}
	})
}

func TestLeastConnections(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{Members: 3}, func(w *world) {
		w.test("even", leastEven)
		w.test("weighted", leastWeighted)
		w.test("requests", func(w *world) {
			b := w.balance(balancerOptions{method: "LEAST_CONNECTIONS"})
			// Whoever comes when all are idle meets equals, and equals take turns.
			var names []string
			for range 12 {
				names = append(names, b.ask(1)...)
				b.awaitActive(0)
			}
			if err := inTurn(names, "WEB1", "WEB2", "WEB3"); err != nil {
				w.t.Error(err)
			}
		})
	})
}

func leastEven(w *world) {
	b := w.balance(balancerOptions{method: "LEAST_CONNECTIONS", endpoints: w.endpoints(echoPort)})
	held := map[string][]*flow{}
	for _, f := range b.openMany(12) {
		held[f.member] = append(held[f.member], f)
	}
	for _, name := range []string{"WEB1", "WEB2", "WEB3"} {
		if len(held[name]) != 4 {
			w.t.Fatalf("%s has %d of 12 connections", name, len(held[name]))
		}
	}
	// Whoever loses connections gets the next ones.
	for _, f := range held["WEB2"][:3] {
		f.close()
	}
	b.awaitActive(9)
	for range 3 {
		if f := b.open(); f.member != "WEB2" {
			w.t.Errorf("a new connection went to %s", f.member)
		}
	}
}

func leastWeighted(w *world) {
	b := w.balance(balancerOptions{
		method: "LEAST_CONNECTIONS", endpoints: w.endpoints(echoPort), weights: []int{3, 2, 1},
	})
	var names []string
	for _, f := range b.openMany(18) {
		names = append(names, f.member)
	}
	if n := tally(names); n["WEB1"] != 9 || n["WEB2"] != 6 || n["WEB3"] != 3 {
		w.t.Errorf("weights 3, 2, 1 gave %v", n)
	}
}

func TestSourceIP(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{Members: 3}, func(w *world) {
		const many = 40
		b := w.balance(balancerOptions{method: "SOURCE_IP"})
		clients := w.clients(many)
		choose := func() []string {
			var names []string
			for _, address := range clients {
				answers := b.askFrom(address, 2)
				if answers[0] != answers[1] {
					w.t.Errorf("%s was answered by %v", address, answers)
				}
				names = append(names, answers[0])
			}
			return names
		}
		before := choose()
		if n := tally(before); len(n) != 3 {
			w.t.Errorf("%d clients were spread as %v", many, n)
		}
		b.dropMember(2)
		moved, stayed := 0, 0
		for i, name := range choose() {
			switch {
			case name == "WEB3":
				w.t.Errorf("%s went to a removed member", clients[i])
			case before[i] == "WEB3":
			case before[i] == name:
				stayed++
			default:
				moved++
			}
		}
		// Consistent hashing moves a few per cent; hashing anew would move half.
		if moved > (moved+stayed)/4 {
			w.t.Errorf("%d clients of the members that stayed have moved, %d have not", moved, stayed)
		}
	})
}
