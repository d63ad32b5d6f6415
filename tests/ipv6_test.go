package tests

import (
	"net/http"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// TestIPv6: the story in the other family, on every hook.
func TestIPv6(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{IPv6: true}, func(w *world) {
		w.test("in turn", func(w *world) {
			b := w.balance(balancerOptions{})
			if err := inTurn(b.ask(20), "WEB1", "WEB2"); err != nil {
				w.t.Error(err)
			}
		})
		w.test("bulk", func(w *world) {
			b := w.balance(balancerOptions{})
			w.bulkBy(b, b.client, 20<<20)
		})
		w.test("monitor", func(w *world) {
			b := w.balance(balancerOptions{})
			b.monitor(object{"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 2})
			w.mood(0, (*lab.Web).Refuse)
			b.awaitMember(0, false)
			if name := w.only(b.ask(10)); name != "WEB2" {
				w.t.Errorf("answered by %s", name)
			}
			w.mood(0, (*lab.Web).Answer)
			b.awaitMember(0, true)
		})
		w.test("persistence", func(w *world) {
			w.only(w.balance(balancerOptions{persistence: "SOURCE_IP"}).ask(10))
		})
		w.test("ping", pings)
		w.test("nobody", func(w *world) {
			b := w.balance(balancerOptions{})
			b.setPool(object{"admin_state_up": false})
			b.refused("no_member")
		})
	})
}

// TestIPv6Restart: connections outlive the daemon, which finds everything again and
// nothing to change.
func TestIPv6Restart(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{IPv6: true})
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	flows := b.openMany(4)
	before := b.generation()
	w.restart()
	b.settle()
	w.mustEcho(flows...)
	w.mustEcho(b.open())
	if now := b.generation(); now != before {
		t.Errorf("generation %v before the restart, %v after it", before, now)
	}
	// Admin-down is silence, and what was there comes back with the address.
	b.setVIP(object{"admin_state_up": false})
	b.setVIP(object{"admin_state_up": true})
	w.mustEcho(flows...)
}

// TestBothFamilies: one node serves pools of both, and an address of the wrong family
// is refused in words.
func TestBothFamilies(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{IPv6: true})
	six := w.balance(balancerOptions{})
	pool := w.create(pools, object{"name": "four", "subnet_id": w.subnet, "protocol": "TCP", "lb_method": "ROUND_ROBIN"}).text("id")
	w.pools = append(w.pools, pool)
	subnet := w.create(subnets, object{"name": "four", "network_id": w.network, "cidr": "172.16.100.0/24"}).text("id")
	four := w.create(vips, object{
		"pool_id": pool, "subnet_id": subnet, "protocol": "TCP", "protocol_port": 80, "address": "172.16.100.11",
	}).text("id")
	got, err := w.request("POST", members.path, object{"member": object{"pool_id": pool, "address": "2001:db8:64::9", "protocol_port": 80}})
	if err != nil || got.code != http.StatusBadRequest {
		t.Errorf("an IPv6 member of an IPv4 pool: %v, %d %s", err, got.code, got.body)
	}
	got, err = w.request("POST", members.path, object{"member": object{"pool_id": six.id, "address": "172.16.100.9", "protocol_port": 80}})
	if err != nil || got.code != http.StatusBadRequest {
		t.Errorf("an IPv4 member of an IPv6 pool: %v, %d %s", err, got.code, got.body)
	}
	v4 := &balancer{w: w, id: pool, vip: four}
	v4.settle()
	if err := inTurn(six.ask(4), "WEB1", "WEB2"); err != nil {
		t.Error(err)
	}
	w.remove(vips, four)
	w.remove(pools, pool)
	until(t, patience, v4.gone)
	w.remove(subnets, subnet)
}

// TestIPv6Announced: hosts on the subnet that know another MAC for the VIP learn the
// new one from the announcement.
func TestIPv6Announced(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{IPv6: true})
	for range 2 { // each VIP has another MAC
		w.test("again", func(w *world) {
			b := w.balance(balancerOptions{})
			b.ask(2)
			known, err := w.Router.Netlink().NeighList(0, unix.AF_INET6)
			if err != nil {
				w.t.Fatal(err)
			}
			found := false
			for _, n := range known {
				if a, _ := netip.AddrFromSlice(n.IP); a == w.VIP {
					found = true
				}
			}
			if !found {
				w.t.Error("the router has no neighbour at the VIP")
			}
		})
	}
}
