package tests

import (
	"slices"
	"testing"

	"qlbaas/tests/lab"
)

func TestPersistence(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{Members: 3}, func(w *world) {
		w.test("a client keeps its member", persistenceKeeps)
		w.test("member down", persistenceDown)
		w.test("weight 0", persistenceWeightZero)
		w.test("admin down", persistenceAdminDown)
		w.test("changes and restart", persistenceSurvives)
	})
}

// only is the one name in names.
func (w *world) only(names []string) string {
	w.t.Helper()
	if len(slices.Compact(slices.Clone(names))) != 1 {
		w.t.Fatalf("answered by %v, want one member", names)
	}
	return names[0]
}

// number is a member's place by its name.
func (w *world) number(name string) int {
	w.t.Helper()
	for i, m := range w.Members {
		if m.Name == name {
			return i
		}
	}
	w.t.Fatalf("there is no %q", name)
	return -1
}

func persistenceKeeps(w *world) {
	b := w.balance(balancerOptions{persistence: "SOURCE_IP"})
	clients := w.clients(6)
	first := map[int]string{}
	for i, address := range clients {
		first[i] = w.only(b.askFrom(address, 5))
	}
	var names []string
	for i, address := range clients {
		if again := w.only(b.askFrom(address, 5)); again != first[i] {
			w.t.Errorf("%s had %s, then %s", address, first[i], again)
		}
		names = append(names, first[i])
	}
	// The method chooses for new clients.
	if err := inTurn(names, "WEB1", "WEB2", "WEB3"); err != nil {
		w.t.Error(err)
	}
	b.setVIP(object{"session_persistence": nil})
	if err := inTurn(b.ask(100), "WEB1", "WEB2", "WEB3"); err != nil {
		w.t.Errorf("without persistence: %v", err)
	}
}

func persistenceDown(w *world) {
	b := w.balance(balancerOptions{persistence: "SOURCE_IP"})
	b.monitor(object{"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1})
	had := w.only(b.ask(5))
	w.mood(w.number(had), (*lab.Web).Refuse)
	b.awaitMember(w.number(had), false)
	other := w.only(b.ask(5))
	if other == had {
		w.t.Fatalf("still answered by %s, which is down", had)
	}
	w.mood(w.number(had), (*lab.Web).Answer)
	b.awaitMember(w.number(had), true)
	if now := w.only(b.ask(5)); now != other {
		w.t.Errorf("went back from %s to %s", other, now)
	}
}

func persistenceWeightZero(w *world) {
	b := w.balance(balancerOptions{persistence: "SOURCE_IP"})
	clients := w.clients(5)
	had := w.only(b.ask(5))
	b.setMember(w.number(had), object{"weight": 0})
	if now := w.only(b.ask(5)); now != had {
		w.t.Errorf("had %s, and with its weight 0 %s", had, now)
	}
	for _, address := range clients[1:] {
		if now := w.only(b.askFrom(address, 2)); now == had {
			w.t.Errorf("a new client got %s, whose weight is 0", had)
		}
	}
	// Nobody takes new clients, the old one stays.
	for i := range b.members {
		b.setMember(i, object{"weight": 0})
	}
	if now := w.only(b.ask(5)); now != had {
		w.t.Errorf("had %s, and with all weights 0 %s", had, now)
	}
}

func persistenceAdminDown(w *world) {
	b := w.balance(balancerOptions{persistence: "SOURCE_IP"})
	had := w.only(b.ask(3))
	b.setMember(w.number(had), object{"admin_state_up": false})
	if now := w.only(b.ask(3)); now == had {
		w.t.Errorf("still answered by %s, which is administratively down", had)
	}
}

func persistenceSurvives(w *world) {
	b := w.balance(balancerOptions{persistence: "SOURCE_IP", endpoints: w.endpoints(webPort)[:2]})
	w.clients(2)
	had := w.only(b.ask(5))
	still := func(what string) {
		if now := w.only(b.ask(5)); now != had {
			w.t.Errorf("%s: had %s, now %s", what, had, now)
		}
	}
	b.addMember(w.endpoints(webPort)[2], 5)
	b.settle()
	still("a third member")
	b.setPool(object{"lb_method": "LEAST_CONNECTIONS"})
	still("another method")
	b.setVIP(object{"name": "renamed", "connection_limit": 100})
	still("an edited VIP")
	b.setMember(w.number(had), object{"weight": 7})
	still("another weight")
	w.restart()
	still("kill -9")
	b.setPool(object{"lb_method": "ROUND_ROBIN"})
	still("and another method")
}
